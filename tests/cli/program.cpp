#include "tests/cli/program.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

extern char** environ;

namespace whence::cli_test {
namespace {

const fs::path golden = fs::path(WHENCE_TEST_DATA) / "golden";

std::string read_all(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

int code_of(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

}  // namespace

Workplace::Workplace() {
  std::string pattern = (fs::temp_directory_path() / "whence-cli-XXXXXX").string();
  EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
  folder_ = pattern;
  fs::copy(golden / "vit_tiny", folder_ / "model");
  fs::copy_file(golden / "images" / "rgb8_filters.png", folder_ / "a.png");
  fs::copy_file(golden / "images" / "444.jpg", folder_ / "b.jpg");
  write("fake.jpg", "this is text\n");
  write("cut.jpg", read("b.jpg").substr(0, 900));
  write("labels.txt", "ant\nbee\ncat\ndog\nant-eater\nbee-eater\ncat fish\n");
}

Workplace::~Workplace() {
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

int Workplace::start(const std::string& line) const {
  const std::string text = "cd '" + folder_.string() +
                           "' || exit 99; whence() { '" WHENCE_PROGRAM "' \"$@\"; }; " + line;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  const std::string out = folder_ / "stdout", err = folder_ / "stderr";
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_addopen(&actions, 2, err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  const char* const arguments[] = {"sh", "-c", text.c_str(), nullptr};
  pid_t process = -1;
  EXPECT_EQ(
      ::posix_spawn(&process, "/bin/sh", &actions, nullptr, const_cast<char**>(arguments), environ),
      0);
  posix_spawn_file_actions_destroy(&actions);
  return process;
}

int Workplace::wait(int process) {
  int status = 0;
  EXPECT_EQ(::waitpid(process, &status, 0), process);
  return code_of(status);
}

Finished Workplace::run(const std::string& line) const {
  Finished result;
  result.code = wait(start(line));
  result.out = read_all(folder_ / "stdout");
  result.err = read_all(folder_ / "stderr");
  return result;
}

void Workplace::write(const std::string& name, const std::string& text) const {
  fs::create_directories((folder_ / name).parent_path());
  std::ofstream(folder_ / name, std::ios::binary) << text;
}

std::string Workplace::read(const std::string& name) const { return read_all(folder_ / name); }

std::vector<std::string> Workplace::lines(const std::string& name) const {
  std::vector<std::string> list;
  std::ifstream file(folder_ / name);
  for (std::string line; std::getline(file, line);) list.push_back(line);
  return list;
}

std::vector<std::string> Workplace::files(const std::string& name) const {
  std::vector<std::string> list;
  if (!fs::exists(folder_ / name)) return list;
  for (const auto& entry : fs::recursive_directory_iterator(folder_ / name))
    if (!entry.is_directory()) list.push_back(fs::relative(entry.path(), folder_ / name).string());
  std::sort(list.begin(), list.end());
  return list;
}

std::string timeless(const std::string& line) {
  auto record = nlohmann::ordered_json::parse(line);
  record.erase("milliseconds");
  return record.dump();
}

}  // namespace whence::cli_test
