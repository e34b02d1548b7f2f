// Writes what the emulated device runs and notices, as tables for bench/results/emulator.md
// (tests/simt/report.sh). Built with the race detector it writes that detector's share.
#include <algorithm>
#include <cstdio>
#include <set>
#include <string>

#include "kernels/simt/sanitizers.h"
#include "tests/simt/planted.h"
#include "tests/simt/steps.h"

namespace whence::simt_test {
namespace {

// Runs a case under all its schedules and writes its row. Returns the number of bit patterns.
size_t write_row(const KernelCase& c) {
  std::set<std::string> patterns;
  simt::Counts first;
  const std::vector<simt::Schedule> all = schedules(c.seeds);
  for (const simt::Schedule& schedule : all) {
    const simt::Counts before = simt::counts();
    simt::Stream s(schedule);
    const ref::Reals y = c.run(s);
    patterns.emplace(reinterpret_cast<const char*>(y.data()), y.size() * sizeof(real));
    const simt::Counts after = simt::counts();
    first = {after.grids - before.grids, after.blocks - before.blocks,
             after.threads - before.threads, 0};
  }
  std::printf("| %s | %s | %s | %d | %d | %d | %zu | %zu |\n", c.name().c_str(), c.sizes.c_str(),
              c.launches.c_str(), int(first.grids), int(first.blocks), int(first.threads),
              all.size(), patterns.size());
  std::fflush(stdout);
  return patterns.size();
}

bool write_kernels(const std::vector<KernelCase>& table) {
  std::printf(
      "## Bits\n\n"
      "Every kernel of kernels/*.h, through every `__global__` function of kernels/cuda. "
      "Schedules: "
      "forward, reverse, and as many\nseeds of the random as of the priority order.\n\n"
      "| case | sizes | CUDA kernels | launches | blocks | threads | schedules | bit patterns |\n"
      "| --- | --- | --- | --- | --- | --- | --- | --- |\n");
  std::set<std::string> kernels;
  size_t several = 0;
  for (const KernelCase& c : table) {
    kernels.insert(c.kernel);
    several += write_row(c) != 1;
  }
  std::printf(
      "\n%zu kernels, %zu CUDA kernels, %zu cases, %zu of them with more than one bit "
      "pattern.\n\n",
      kernels.size(), cuda_kernels().size(), table.size(), several);
  return several == 0;
}

std::vector<Step> all_steps() {
  std::vector<Step> steps;
  for (const Place& at : barrier_lines()) steps.push_back({Step::barrier, at});
  if (simt::race_detector) return steps;  // the others order nothing
  for (const Place& at : exchange_lines()) {
    steps.push_back({Step::exchange, at});
    steps.push_back({Step::mask, at});
  }
#ifndef WHENCE_F64
  for (const Step::Kind kind : {Step::copy_wait, Step::copy_early, Step::copy_commit})
    steps.push_back({kind, {"tensor_product.cu", 0}});
#endif
  return steps;
}

bool write_steps(const std::vector<KernelCase>& table) {
  std::vector<Passed> passed;
  for (const KernelCase& c : table)
    if (c.for_tsan) passed.push_back(pass(c));
  std::printf(
      "| place | step | noticed as | by the case | in run |\n"
      "| --- | --- | --- | --- | --- |\n");
  size_t unseen = 0;
  const std::vector<Step> steps = all_steps();
  for (const Step& step : steps) {
    const Notice n =
        noticed(step, passed, simt::race_detector ? race_schedules() : schedules(many_seeds));
    const std::string place = step.at.line ? text(step.at) : step.at.file;
    std::printf("| %s | %s | %s | %s | %zu |\n", place.c_str(), text(step.kind).c_str(),
                n.by.empty() ? "NOT AT ALL" : n.by.c_str(), n.by.empty() ? "" : n.name.c_str(),
                n.runs);
    std::fflush(stdout);
    unseen += n.by.empty();
  }
  std::printf("\n%zu steps, %zu unnoticed.\n\n", steps.size(), unseen);
  return unseen == 0;
}

void write_faults() {
  std::printf(
      "## Planted faults\n\n"
      "What finds each of the faulty kernels in tests/simt/faults_*.cpp, as the tests "
      "check in every build; their mended twins run in\nsilence.\n\n"
      "| fault | what it is | schedules | bits | address sanitizer | race detector |\n"
      "| --- | --- | --- | --- | --- | --- |\n");
  const std::vector<Planted> faults = planted_faults();
  for (const Planted& p : faults) {
    const auto mark = [&](Finder f) { return p.found & f ? "x" : ""; };
    std::printf("| %s | %s | %s | %s | %s | %s |\n", p.name, p.what, mark(by_schedules),
                mark(by_bits), mark(by_asan), mark(by_tsan));
  }
  const auto count = [&](unsigned by) {
    return std::count_if(faults.begin(), faults.end(),
                         [&](const Planted& p) { return (p.found & by) != 0; });
  };
  std::printf(
      "\n%zu faults: schedules find %d, comparing bits %d more, the address sanitizer %d, "
      "the race detector %d, all of them together %d.\n\n",
      faults.size(), int(count(by_schedules)), int(count(by_bits)), int(count(by_asan)),
      int(count(by_tsan)), int(count(~0u)));
}

int write() {
  const std::vector<KernelCase> table = kernel_cases();
  if (simt::race_detector) {
    std::printf(
        "## Barriers left out, under the race detector\n\n"
        "A crash is an offset that nobody had written yet: it ends the process before the "
        "race is complete.\n\n");
    return !write_steps(table);
  }
  const bool one_pattern = write_kernels(table);
  std::printf(
      "## Steps left out\n\n"
      "Each barrier, exchange between lanes and wait of the kernels is left out in turn, "
      "and the cases that pass it run until one\nnotices.\n\n");
  const bool all_noticed = write_steps(table);
  write_faults();
  return !one_pattern || !all_noticed;
}

}  // namespace
}  // namespace whence::simt_test

int main() { return whence::simt_test::write(); }
