#include "jobs/results.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <system_error>

#include "io/json.h"
#include "runtime/check.h"

namespace whence::jobs {
namespace {

namespace fs = std::filesystem;

std::string reason(int error) { return std::generic_category().message(error); }

[[noreturn]] void fail_write(const fs::path& path, int error) {
  fail(ErrorCode::output, "{}: cannot be written: {}", path_text(path), reason(error));
}

fs::path made(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  // An existing folder behind a link is no failure.
  if (error && !fs::is_directory(folder))
    fail(ErrorCode::output, "{}: the folder cannot be made: {}", path_text(folder),
         error.message());
  if (!fs::is_directory(folder))
    fail(ErrorCode::output, "{}: this is a file, not a folder", path_text(folder));
  return folder;
}

std::string clock_text() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  ::localtime_r(&now, &local);
  return fmt::format("{:02}:{:02}", local.tm_hour, local.tm_min);
}

int write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(descriptor, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    text.remove_prefix(size_t(n));
  }
  return 0;
}

std::string text_or_empty(const Json& record, const char* key) {
  const auto it = record.find(key);
  return it != record.end() && it->is_string() ? it->get<std::string>() : std::string();
}

[[noreturn]] void fail_line(std::string_view what) {
  fail(ErrorCode::output, "{}; remove the line or use another folder", what);
}

Json parsed(std::string_view text, const std::string& place) {
  try {
    return parse_json(text, place);
  } catch (const Error& error) {
    fail_line(error.what());
  }
}

Results::Line read_line(std::string_view text, const std::string& file, size_t number) {
  const std::string place = fmt::format("{}: line {}", file, number);
  const Json record = parsed(text, place);
  if (!record.is_object() || text_or_empty(record, "id").empty())
    fail_line(place + ": not a result");
  return {std::string(text), text_or_empty(record, "id"), text_or_empty(record, "method"),
          text_or_empty(record, "wanted"), record.contains("error")};
}

// Of the folder of outputs: what cannot be read there cannot be continued.
std::vector<uint8_t> bytes_of(const fs::path& file) {
  constexpr int64_t limit = int64_t(4) << 30;
  try {
    return read_file(file, limit);
  } catch (const Error& error) {
    fail(ErrorCode::output, "{}", error.what());
  }
}

}  // namespace

std::string line_of(const Record& record) {
  return record.dump(-1, ' ', false, Record::error_handler_t::replace);
}

FolderLock::FolderLock(const fs::path& folder) : path_(folder / ".whence-lock") {
  for (;;) {
    descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (descriptor_ < 0) fail_write(path_, errno);
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
      const int error = errno;
      char holder[64] = {};
      const ssize_t n = ::pread(descriptor_, holder, sizeof holder - 1, 0);
      ::close(descriptor_);
      if (error != EWOULDBLOCK) fail_write(path_, error);
      fail(ErrorCode::output, "{}: another run (process {}) is writing here", path_text(folder),
           n > 0 ? printable(holder) : "unknown");
    }
    // The last holder removes the file: what was locked may no longer be the file of this name.
    struct stat own {
    }, named{};
    if (::fstat(descriptor_, &own) == 0 && ::stat(path_.c_str(), &named) == 0 &&
        own.st_ino == named.st_ino && own.st_dev == named.st_dev)
      break;
    ::close(descriptor_);
  }
  const std::string text = fmt::format("{}, since {}", ::getpid(), clock_text());
  if (::ftruncate(descriptor_, 0) != 0 || write_all(descriptor_, text) != 0) {
    // Who holds the lock is for messages only; the lock itself stands.
  }
}

FolderLock::~FolderLock() {
  ::unlink(path_.c_str());
  ::close(descriptor_);
}

Results::Results(const fs::path& folder)
    : folder_(made(folder)), file_(folder / "results.jsonl"), lock_(folder) {
  remove_stale_temporaries(folder_);
  read();
}

void Results::read() {
  std::error_code ignored;
  if (!fs::exists(file_, ignored)) return;
  const std::vector<uint8_t> bytes = bytes_of(file_);
  const std::string_view all(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const size_t whole = all.rfind('\n') + 1;  // npos + 1 is 0: not one whole line
  size_t number = 0;
  for (size_t begin = 0; begin < whole;) {
    const size_t end = all.find('\n', begin);
    ++number;
    if (end > begin)
      lines_.push_back(read_line(all.substr(begin, end - begin), path_text(file_), number));
    begin = end + 1;
  }
  if (whole < all.size() && ::truncate(file_.c_str(), off_t(whole)) != 0) fail_write(file_, errno);
}

void Results::rewrite() {
  std::string text;
  for (const Line& line : lines_) text += line.text + '\n';
  write_file_atomically(file_, text);
}

void Results::drop(const std::vector<bool>& gone) {
  std::vector<Line> kept;
  for (size_t i = 0; i < lines_.size(); ++i)
    if (!gone[i]) kept.push_back(std::move(lines_[i]));
  const bool changed = kept.size() != gone.size();
  lines_ = std::move(kept);
  if (changed) rewrite();
}

void Results::append(const std::string& text) {
  const int descriptor = ::open(file_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (descriptor < 0) fail_write(file_, errno);
  const off_t size = ::lseek(descriptor, 0, SEEK_END);
  int error = write_all(descriptor, text);
  if (error != 0 && size >= 0 && ::ftruncate(descriptor, size) != 0) {
    // A torn line stays; the next run cuts it off.
  }
  if (error == 0 && ::fdatasync(descriptor) != 0 && errno != EINVAL) error = errno;
  ::close(descriptor);
  if (error != 0) fail_write(file_, error);
}

void Results::commit(AtomicWriter& files, const std::vector<Line>& lines) {
  files.commit();
  std::string text;
  for (const Line& line : lines) text += line.text + '\n';
  if (text.empty()) return;
  append(text);
  lines_.insert(lines_.end(), lines.begin(), lines.end());
}

void Results::sort() {
  const auto before = [](const Line& a, const Line& b) { return a.rank < b.rank; };
  if (std::is_sorted(lines_.begin(), lines_.end(), before)) return;
  std::stable_sort(lines_.begin(), lines_.end(), before);
  rewrite();
}

}  // namespace whence::jobs
