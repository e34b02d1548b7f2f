// Starts the whence program and looks at what it leaves behind.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace whence::cli_test {

namespace fs = std::filesystem;

struct Finished {
  int code = -1;  // exit code; 128 + n after signal n
  std::string out, err;
};

// A folder of its own for each test, with a tiny model and a few images; the program runs in it.
//   model/       3 blocks, 12 x 12 pixels, 7 classes        labels.txt  their names
//   a.png b.jpg  images       fake.jpg  text      cut.jpg   half of a JPEG
class Workplace {
 public:
  Workplace();
  ~Workplace();
  Workplace(const Workplace&) = delete;
  Workplace& operator=(const Workplace&) = delete;

  fs::path operator/(const std::string& name) const { return folder_ / name; }
  // A shell line; "whence" in it is the program under test.
  Finished run(const std::string& line) const;
  // The same without waiting; returns the process number of what the line executes.
  int start(const std::string& line) const;
  static int wait(int process);

  void write(const std::string& name, const std::string& text) const;
  std::string read(const std::string& name) const;
  std::vector<std::string> lines(const std::string& name) const;
  // Relative names of all files below `name`, sorted.
  std::vector<std::string> files(const std::string& name) const;

 private:
  fs::path folder_;
};

// A line of results.jsonl without what may differ between equal runs: its times.
std::string timeless(const std::string& line);

}  // namespace whence::cli_test
