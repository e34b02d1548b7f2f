// One measured kernel: its time per call, and how that compares with what the machine can do.
#pragma once

#include <benchmark/benchmark.h>

#include <functional>
#include <string>
#include <vector>

#include "kernels/kernel.h"

namespace whence::bench {

struct Case {
  std::string name;
  double flops, bytes;  // of one call: multiply-adds count twice; bytes read and written once
  std::function<void(cpu::Stream&)> run;
};

// Registers the case for one and two threads. Counters: `us` is the median time of a call, `us_p10`
// the time that one call in ten did not exceed, `cpu_us` the median processor time per thread;
// `of_fma` and `of_copy` what part of the measured multiply-add and copy rates its flops and bytes
// reach in `us`. `of_copy` beyond 1 means that the operands stayed in a cache.
void add(const Case& c);

// Uniform in [-1, 1].
std::vector<real> noise(int64_t count);

// Products beside oneDNN, in product_bench.cpp.
void add_products();

double seconds();
// Processor time of all threads. With OMP_WAIT_POLICY=passive, so that waiting threads sleep, this
// divided by their number is what a call takes when nothing else wants the processors.
double cpu_seconds();
// The time that a share of the calls, 0 to 1, did not exceed.
double quantile(std::vector<double> times, double share);

}  // namespace whence::bench
