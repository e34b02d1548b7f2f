// Schedules that tests run a kernel under.
#pragma once

#include <string>
#include <vector>

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

}  // namespace whence::simt_test
