// Every kernel of kernels/*.h, through every CUDA kernel that it launches, on odd sizes small
// enough to run under many schedules: two blocks or more, of several warps.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kernels/cuda/gpu.cuh"
#include "tests/ref/arrays.h"

namespace whence::simt_test {

// Of each of the two orders that have seeds, forward and reverse come on top; few where there are
// more threads than a test run has time for 50 times.
inline constexpr uint64_t many_seeds = 24, few_seeds = 1;

struct KernelCase {
  std::string kernel;                           // its name in kernels/*.h
  std::string variant;                          // tells the cases of a kernel apart
  std::string sizes;                            // for whoever reads the table
  std::string launches;                         // the __global__ functions, a word for each launch
  std::function<ref::Reals(gpu::Stream&)> run;  // all outputs; every element is set
  uint64_t seeds = many_seeds;
  bool for_tsan = true;  // whether there are few enough threads for the race detector

  std::string name() const { return kernel + (variant.empty() ? "" : "_") + variant; }
};

std::vector<KernelCase> elementwise_cases();
std::vector<KernelCase> row_cases();
std::vector<KernelCase> product_cases();
std::vector<KernelCase> conv_cases();
std::vector<KernelCase> attention_cases();

inline std::vector<KernelCase> kernel_cases() {
  std::vector<KernelCase> table;
  for (const auto& part :
       {elementwise_cases(), row_cases(), product_cases(), conv_cases(), attention_cases()})
    table.insert(table.end(), part.begin(), part.end());
  return table;
}

// y[n] as launch(y) leaves it.
template <class Launch>
ref::Reals output_of(gpu::Stream& s, int64_t n, Launch launch) {
  ref::Reals y(static_cast<size_t>(n), ref::poison);
  launch(y.data());
  s.synchronize();
  return y;
}
inline void append(ref::Reals& all, const ref::Reals& more) {
  all.insert(all.end(), more.begin(), more.end());
}

}  // namespace whence::simt_test
