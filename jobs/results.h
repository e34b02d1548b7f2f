// The output folder of a job: one writer at a time, files that are complete or absent, and
// results.jsonl, whose lines prove that their files are there. Errors have the code `output`.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "io/files.h"

namespace whence::jobs {

using Record = nlohmann::ordered_json;  // keys stay in the order of writing
// One line, without its end.
std::string line_of(const Record& record);

// Exclusive use of a folder for as long as the object lives.
class FolderLock {
 public:
  explicit FolderLock(
      const std::filesystem::path& folder);  // fails with the holder's process number
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

class Results {
 public:
  struct Line {
    std::string text;
    std::string id, method, wanted;  // empty where the line has none
    bool failed = false;             // it has an error instead of a result
    int64_t rank = -1;               // its place among the lines of the running job; -1: not of it
  };

  // Makes the folder, removes what dead runs left, cuts off a torn last line. A damaged line before
  // the last is an error that names it.
  explicit Results(const std::filesystem::path& folder);
  const std::filesystem::path& folder() const { return folder_; }
  std::vector<Line>& lines() { return lines_; }

  // Removes the lines at these places of lines().
  void drop(const std::vector<bool>& gone);
  // Gives `files` their names, then appends the lines.
  void commit(AtomicWriter& files, const std::vector<Line>& lines);
  // The order of an unbroken run: lines of other jobs, then those of this one by rank.
  void sort();

 private:
  void read();
  void append(const std::string& text);
  void rewrite();
  std::filesystem::path folder_, file_;
  FolderLock lock_;
  std::vector<Line> lines_;
};

}  // namespace whence::jobs
