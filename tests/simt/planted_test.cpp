// Every planted fault is found by what the table says finds it, and by nothing else; its mended
// twin runs in silence. Each build checks its share: plain schedules and bits everywhere, and the
// sanitizer that it was built with.
#include "tests/simt/planted.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <optional>

#include "kernels/simt/sanitizers.h"
#include "tests/simt/child.h"
#include "tests/simt/schedules.h"

namespace whence::simt_test {

void PrintTo(const Planted& p, std::ostream* os) { *os << p.name; }

namespace {

#ifdef WHENCE_ASAN
constexpr unsigned detector = by_asan;
#elif defined(WHENCE_TSAN)
constexpr unsigned detector = by_tsan;
#else
constexpr unsigned detector = 0;
#endif
constexpr uint64_t seeds = simt::race_detector ? 2 : 20;  // an emulated thread costs 1 ms there

bool close(const std::vector<float>& x, const std::vector<float>& want, float tolerance) {
  if (x.size() != want.size()) return false;
  for (size_t i = 0; i < x.size(); ++i)
    if (!(std::abs(x[i] - want[i]) <= tolerance)) return false;
  return true;
}

// Runs the kernel under all schedules and writes what is wrong with it, a line for each.
void judge(const Planted& p, bool mended) {
  std::optional<std::vector<float>> first;
  bool differs = false;
  for (const simt::Schedule& schedule : schedules(seeds)) {
    try {
      simt::Stream s(schedule);
      const std::vector<float> y = p.run(s, mended);
      if (!close(y, p.want, p.tolerance))
        std::fprintf(stderr, "WRONG under order %d, seed %d\n", int(schedule.order),
                     int(schedule.seed));
      if (!first) first = y;
      differs |= std::memcmp(first->data(), y.data(), y.size() * sizeof(float)) != 0;
    } catch (const std::exception& e) {
      std::fprintf(stderr, "FAULT: %s\n", e.what());
    }
  }
  if (differs) std::fprintf(stderr, "DIFFERS\n");
}

unsigned finders(const Ending& e) {
  const auto says = [&](const char* what) { return e.text.find(what) != std::string::npos; };
  unsigned found = 0;
  if (says("ThreadSanitizer: data race")) found |= by_tsan;
  if (says("ERROR: AddressSanitizer") || says("runtime error:")) found |= by_asan;
  if (says("WRONG") || says("FAULT") || says("ended by signal") ||
      says("ThreadSanitizer:DEADLYSIGNAL"))
    found |= by_schedules;
  if (says("DIFFERS") && !(found & by_schedules)) found |= by_bits;
  return found;
}

class PlantedFault : public testing::TestWithParam<Planted> {};

TEST_P(PlantedFault, is_found_and_its_twin_is_clean) {
  const Planted& p = GetParam();
  const Ending twin = in_child([&] { judge(p, true); });
  EXPECT_TRUE(twin.clean && twin.text.empty()) << p.what << ", mended:\n" << twin.text;

  const Ending fault = in_child([&] { judge(p, false); });
  const unsigned found = finders(fault);
  if (detector) {
    EXPECT_EQ(found & detector, p.found & detector) << p.what << ":\n" << fault.text;
  }
  if (found & detector) {  // which ended the process, so that nothing else could find it
    EXPECT_NE(fault.text.find("tests/simt/faults_"), std::string::npos) << fault.text;
    return;
  }
  EXPECT_EQ(found, p.found & (by_schedules | by_bits)) << p.what << ":\n" << fault.text;
  if (found & by_schedules) {
    EXPECT_NE(fault.text.find(p.says), std::string::npos) << fault.text;
  }
}

INSTANTIATE_TEST_SUITE_P(Simt, PlantedFault, testing::ValuesIn(planted_faults()),
                         [](const auto& row) { return row.param.name; });

// The table itself, for whoever wants to read it: --gtest_filter=*table*.
TEST(PlantedFaults, table_has_every_fault_found_by_something) {
  for (const Planted& p : planted_faults()) {
    EXPECT_NE(p.found, 0u) << p.name;
    std::printf("%-28s %-9s %-4s %-4s %-4s  %s\n", p.name,
                p.found & by_schedules ? "schedules" : "", p.found & by_bits ? "bits" : "",
                p.found & by_asan ? "asan" : "", p.found & by_tsan ? "tsan" : "", p.what);
  }
}

}  // namespace
}  // namespace whence::simt_test
