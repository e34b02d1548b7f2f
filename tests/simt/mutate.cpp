// Which barriers of the kernels do the tests need? Turns off each __syncthreads and __syncwarp of
// kernels/cuda in turn and runs the kernel tests that pass it, on the emulated device, under other
// seeds each time, until one fails. A barrier that can be missing unnoticed is a survivor: it is
// superfluous, or the tests are too weak. One that is right nonetheless says so where it stands,
// with a comment that contains "unseen by tests". A barrier that no test passes is reported as
// well.
//
//   whence_simt_mutate [ROUNDS]     rounds of seeds for each barrier, 8 unless told
//   whence_simt_mutate --gtest_filter=KernelsRows*    of some tests only
//
// Built with the thread sanitizer it finds barriers whose absence no schedule shows.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/simt/engine.h"
#include "tests/simt/child.h"
#include "tests/simt/sources.h"

namespace whence::simt_test {
namespace {

struct Barrier {
  std::string file;
  int line = 0;
  auto operator<=>(const Barrier&) const = default;
};
using Users = std::map<Barrier, std::vector<std::string>>;  // the tests that pass each barrier

// Writes a line for each barrier that a test passes.
class Recorder : public testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo&) override { simt::forget_barrier_sites(); }
  void OnTestEnd(const testing::TestInfo& test) override {
    for (const simt::Site site : simt::barrier_sites())
      std::printf("\nPASSED %d %s.%s %s\n", site.line, test.test_suite_name(), test.name(),
                  site.file);
  }
};

Ending run_tests(const std::string& filter, const std::function<void()>& before) {
  return in_child(
      [&] {
        testing::GTEST_FLAG(filter) = filter;
        before();
        if (RUN_ALL_TESTS() != 0) throw std::runtime_error("tests failed");
      },
      120);
}

Users record(const std::string& filter) {
  const Ending e =
      run_tests(filter, [] { testing::UnitTest::GetInstance()->listeners().Append(new Recorder); });
  if (!e.clean) throw std::runtime_error("the tests fail before anything is changed:\n" + e.text);
  Users users;
  std::istringstream lines(e.text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string word, test;
    Barrier b;
    if (words >> word >> b.line >> test && word == "PASSED" && words >> std::ws &&
        std::getline(words, b.file) && b.file.find("kernels/cuda/") != std::string::npos)
      users[b].push_back(test);
  }
  return users;
}

std::string joined(const std::vector<std::string>& tests) {
  std::string all;
  for (const std::string& t : tests) all += (all.empty() ? "" : ":") + t;
  return all;
}

// The test that failed first, or how the process ended.
std::string what_failed(const std::string& text) {
  for (const char* mark : {"[  FAILED  ] ", "SUMMARY: ", "ended by signal"})
    if (const size_t at = text.find(mark); at != std::string::npos)
      return text.substr(at, text.find_first_of(",\n", at) - at);
  return "ended early";
}

std::string noticed(const Barrier& b, const std::vector<std::string>& tests, int rounds) {
  for (int round = 0; round < rounds; ++round) {
    const Ending e = run_tests(joined(tests), [&] {
      testing::GTEST_FLAG(fail_fast) = true;
      simt::limit_steps(uint64_t{1} << 22);
      simt::shift_seeds(uint64_t(round) * 1000);
      simt::skip_barriers(b.file, b.line);
    });
    if (!e.clean) return what_failed(e.text) + ", round " + std::to_string(round);
  }
  return {};
}

// The barriers that the sources have and no test passes.
std::set<Place> never_passed(const Users& users) {
  std::set<Place> missing = barrier_lines();
  for (const auto& [barrier, tests] : users)
    missing.erase({std::filesystem::path(barrier.file).filename().string(), barrier.line});
  return missing;
}

// The line of the barrier and the one above it.
std::string source(const Barrier& b) {
  std::ifstream in(b.file);
  std::string above, line;
  for (int i = 0; i < b.line && std::getline(in, line); ++i)
    if (i + 1 < b.line) above = line;
  return above + "\n" + line;
}

int run(int rounds) {
  const std::string asked = testing::GTEST_FLAG(filter);
  const Users users = record(asked == "*" ? "*/simt*" : asked);
  size_t survivors = 0;
  for (const auto& [barrier, tests] : users) {
    const std::string by = noticed(barrier, tests, rounds);
    const bool known = source(barrier).find("unseen by tests") != std::string::npos;
    const std::string verdict = !by.empty() ? by : known ? "unseen, as it says" : "SURVIVES";
    survivors += by.empty() && !known;
    std::printf("%s  %s\n", simt::text({barrier.file.c_str(), barrier.line}).c_str(),
                verdict.c_str());
    std::fflush(stdout);
  }
  std::set<Place> missing;
  if (asked == "*") missing = never_passed(users);
  for (const Place& at : missing) std::printf("%s  NO TEST PASSES IT\n", text(at).c_str());
  std::printf("%zu barriers, %zu survivors, %zu that no test passes\n",
              users.size() + missing.size(), survivors, missing.size());
  return users.empty() || survivors > 0 || !missing.empty();
}

}  // namespace
}  // namespace whence::simt_test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 8;
  try {
    return whence::simt_test::run(std::max(rounds, 1));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 2;
  }
}
