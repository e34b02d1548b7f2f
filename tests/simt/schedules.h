// Schedules that tests run a kernel under.
#pragma once

#include <string>
#include <vector>

#include "kernels/cuda/gpu.cuh"
#include "kernels/device_error.h"
#include "kernels/simt/stream.h"

namespace whence::simt_test {

// Forward, reverse, and `seeds` each of the random and the priority order.
inline std::vector<simt::Schedule> schedules(uint64_t seeds) {
  std::vector<simt::Schedule> all{{simt::Order::forward, 0}, {simt::Order::reverse, 0}};
  for (uint64_t seed = 0; seed < seeds; ++seed) {
    all.push_back({simt::Order::priority, seed});
    all.push_back({simt::Order::random, seed});
  }
  return all;
}

// For the race detector, which looks at what comes before what and not at results. (Under the
// forward order it has missed races among 256 threads that it reports under these.)
inline std::vector<simt::Schedule> race_schedules() {
  return {{simt::Order::priority, 1}, {simt::Order::random, 2}};
}

// Runs a kernel under one schedule and says what went wrong.
template <class... P, class... A>
std::string run(const simt::Schedule& schedule, const gpu::Launch& shape, void (*kernel)(P...),
                A... args) {
  gpu::Stream s(schedule);
  gpu::launch(s, shape, kernel, args...);
  try {
    s.synchronize();
  } catch (const k::DeviceError& e) {
    return e.what();
  }
  return {};
}

}  // namespace whence::simt_test
