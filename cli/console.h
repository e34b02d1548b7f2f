// What people and programs read while a command runs: results on stdout, the rest on stderr.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

namespace whence::cli {

// First of all: no file that is opened later gets the number of a standard stream that is closed.
void hold_standard_streams();
// To stdout; a failed write (full disk, closed stream) ends the command. A reader that has gone
// away (`whence methods | head -1`) wants no more: nothing is said, and nothing more is printed.
void print(std::string_view text);
void flush_output();
bool reader_is_gone();
// One line on stderr that begins with "whence: ".
void complain(std::string_view message);

// Rows that appear as they come: widths are fixed from the start.
class Table {
 public:
  struct Column {
    std::string title;
    size_t width = 0;  // at least the title's
    bool right = false;
  };
  explicit Table(std::vector<Column> columns);
  void row(const std::vector<std::string>& cells);  // prints the titles before the first row

 private:
  std::string line(const std::vector<std::string>& cells) const;
  std::vector<Column> columns_;
  bool started_ = false;
};

// A line on stderr that rewrites itself; nothing unless stderr is a terminal.
class ProgressLine {
 public:
  ProgressLine();
  ~ProgressLine() { clear(); }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  void show(std::string_view text);
  void clear();  // before anything else is printed

 private:
  bool terminal_, shown_ = false;
  std::chrono::steady_clock::time_point last_{};
};

}  // namespace whence::cli
