#include "cli/console.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <system_error>

#include "cli/text.h"
#include "runtime/check.h"

namespace whence::cli {
namespace {

bool gone = false;

void fail_output(int error) {
  gone = gone || error == EPIPE;
  if (gone) return;
  fail(ErrorCode::output, "standard output: cannot be written: {}",
       std::generic_category().message(error));
}

}  // namespace

// What is opened here refuses what the stream is for.
void hold_standard_streams() {
  for (const int number : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(number, F_GETFD) < 0 && errno == EBADF &&
        ::open("/dev/null", number == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0)
      return;  // then files cannot be opened either
}

bool reader_is_gone() { return gone; }

void print(std::string_view text) {
  if (gone) return;
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) fail_output(errno);
}

void flush_output() {
  if (gone) return;
  if (std::fflush(stdout) != 0) fail_output(errno);
}

void complain(std::string_view message) {
  const std::string line = fmt::format("whence: {}\n", message);
  // Nowhere is left to report a failure of this write to.
  [[maybe_unused]] const size_t written = std::fwrite(line.data(), 1, line.size(), stderr);
}

Table::Table(std::vector<Column> columns) : columns_(std::move(columns)) {
  for (Column& column : columns_) column.width = std::max(column.width, column.title.size());
}

std::string Table::line(const std::vector<std::string>& cells) const {
  std::string text;
  for (size_t i = 0; i < columns_.size(); ++i) {
    const std::string cell = i < cells.size() ? cells[i] : std::string();
    const size_t used = cli::columns(cell);
    const std::string fill(columns_[i].width > used ? columns_[i].width - used : 0, ' ');
    if (i) text += "  ";
    text += columns_[i].right ? fill + cell : cell + fill;
  }
  text.erase(text.find_last_not_of(' ') + 1);
  return text + '\n';
}

void Table::row(const std::vector<std::string>& cells) {
  if (!started_) {
    std::vector<std::string> titles;
    for (const Column& column : columns_) titles.push_back(column.title);
    print(line(titles));
    started_ = true;
  }
  print(line(cells));
}

ProgressLine::ProgressLine() : terminal_(::isatty(STDERR_FILENO) == 1) {}

void ProgressLine::show(std::string_view text) {
  if (!terminal_) return;
  const auto now = std::chrono::steady_clock::now();
  if (shown_ && now - last_ < std::chrono::milliseconds(100)) return;
  last_ = now;
  shown_ = true;
  // Shorter than common terminals are wide: a wrapped line could not be rewritten.
  std::fprintf(stderr, "\r\x1b[K%s", shortened(text, 76).c_str());
  std::fflush(stderr);
}

void ProgressLine::clear() {
  if (!shown_) return;
  std::fputs("\r\x1b[K", stderr);
  std::fflush(stderr);
  shown_ = false;
}

}  // namespace whence::cli
