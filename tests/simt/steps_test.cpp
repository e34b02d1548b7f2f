// No step of the real kernels is superfluous: whichever barrier, exchange, mask or wait is left
// out, a kernel case notices. Under the race detector every barrier left out is a race that it
// reports.
#include "tests/simt/steps.h"

#include <gtest/gtest.h>

#include "kernels/simt/sanitizers.h"

namespace whence::simt_test {
namespace {

const std::vector<KernelCase>& table() {
  static const std::vector<KernelCase> cases = kernel_cases();
  return cases;
}
const std::vector<Passed>& passed() {
  static const std::vector<Passed> all = [] {
    std::vector<Passed> out;
    for (const KernelCase& c : table())
      if (c.for_tsan) out.push_back(pass(c));
    return out;
  }();
  return all;
}

std::set<Place> all_places(std::set<Place> Passed::*places) {
  std::set<Place> all;
  for (const Passed& c : passed()) all.insert((c.*places).begin(), (c.*places).end());
  return all;
}

void expect_noticed(const Step& step) {
  const Notice n = noticed(step, passed(), simt::race_detector ? race_schedules() : schedules(12));
  EXPECT_NE(n.by, "") << text(step.at) << ": " << text(step.kind) << ", and nobody noticed in "
                      << n.runs << " runs";
  // An offset that nobody has written yet may lead out of memory before anybody writes it.
  if (simt::race_detector) {
    EXPECT_TRUE(n.by == "race" || n.by == "crash") << text(step.at) << ":\n" << n.what;
  }
}

TEST(KernelSteps, every_barrier_is_passed_and_missed) {
  EXPECT_EQ(all_places(&Passed::barriers), barrier_lines());
  for (const Place& at : barrier_lines()) expect_noticed({Step::barrier, at});
}

TEST(KernelSteps, every_exchange_is_passed_and_missed_and_so_is_every_lane_of_it) {
  if (simt::race_detector) GTEST_SKIP() << "exchanges order nothing";
  EXPECT_EQ(all_places(&Passed::exchanges), exchange_lines());
  for (const Place& at : exchange_lines()) {
    expect_noticed({Step::exchange, at});
    expect_noticed({Step::mask, at});
  }
}

#ifndef WHENCE_F64  // which has no tensor cores, for which operands are copied
TEST(KernelSteps, waits_for_copies_are_missed) {
  if (simt::race_detector) GTEST_SKIP() << "a wait orders nothing but the thread's own copies";
  // Waits have no place of their own: there is one.
  EXPECT_EQ(lines_with({"copy_async_wait<"}).size(), 1u);
  for (const Step::Kind kind : {Step::copy_wait, Step::copy_early, Step::copy_commit})
    expect_noticed({kind, {}});
}
#endif

}  // namespace
}  // namespace whence::simt_test
