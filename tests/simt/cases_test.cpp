// The table of kernel cases: it is complete, and every case has the same bits under all schedules.
#include "tests/simt/cases.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <sstream>

#include "kernels/simt/sanitizers.h"
#include "tests/simt/schedules.h"
#include "tests/simt/sources.h"

namespace whence::simt_test {

void PrintTo(const KernelCase& c, std::ostream* os) { *os << c.name() << ", " << c.sizes; }

namespace {

std::vector<std::string> words(const std::string& text) {
  std::istringstream in(text);
  return {std::istream_iterator<std::string>(in), {}};
}

std::string without(const std::set<std::string>& names, const std::set<std::string>& others) {
  std::string rest;
  for (const std::string& name : names)
    if (!others.contains(name)) rest += name + " ";
  return rest;
}

TEST(KernelTable, has_every_kernel_of_the_headers_and_every_cuda_kernel) {
  std::set<std::string> kernels, launches;
  for (const KernelCase& c : kernel_cases()) {
    kernels.insert(c.kernel);
    for (const std::string& word : words(c.launches)) launches.insert(word);
  }
  EXPECT_GT(kernels.size(), 30u);
  EXPECT_EQ(without(declared_kernels(), kernels), "") << "kernels without a case";
  EXPECT_EQ(without(kernels, declared_kernels()), "") << "cases without a kernel";
  EXPECT_EQ(without(cuda_kernels(), launches), "") << "__global__ functions without a case";
  EXPECT_EQ(without(launches, cuda_kernels()), "") << "cases of functions that are not there";
}

// Errors in memory do not wait for a rare order.
std::vector<simt::Schedule> schedules_of(const KernelCase& c) {
  if (simt::race_detector) return race_schedules();
#ifdef WHENCE_ASAN
  return schedules(std::min<uint64_t>(c.seeds, 4));
#else
  return schedules(c.seeds);
#endif
}

class Kernels : public testing::TestWithParam<KernelCase> {};

TEST_P(Kernels, have_one_bit_pattern_under_all_schedules) {
  const KernelCase& c = GetParam();
  ref::Reals first;
  for (const simt::Schedule& schedule : schedules_of(c)) {
    const simt::Counts before = simt::counts();
    simt::Stream s(schedule);
    const ref::Reals y = c.run(s);
    if (first.empty()) {
      const simt::Counts after = simt::counts();
      EXPECT_EQ(after.grids - before.grids, words(c.launches).size());
      EXPECT_GT(after.blocks - before.blocks, after.grids - before.grids);
      for (const real x : y) ASSERT_FALSE(std::isnan(x)) << "an element that nobody set";
      first = y;
    }
    ASSERT_EQ(y.size(), first.size());
    ASSERT_EQ(std::memcmp(y.data(), first.data(), y.size() * sizeof(real)), 0)
        << "order " << int(schedule.order) << ", seed " << schedule.seed;
  }
}

std::vector<KernelCase> cases_of_this_build() {
  std::vector<KernelCase> table = kernel_cases();
  if (simt::race_detector) std::erase_if(table, [](const KernelCase& c) { return !c.for_tsan; });
  return table;
}
INSTANTIATE_TEST_SUITE_P(Simt, Kernels, testing::ValuesIn(cases_of_this_build()),
                         [](const auto& row) { return row.param.name(); });

}  // namespace
}  // namespace whence::simt_test
