// What people and programs read while a command runs: results on stdout, the rest on stderr.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

namespace whence::cli {

// To stdout; a failed write (closed pipe, full disk) ends the command.
void print(std::string_view text);
void flush_output();
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
