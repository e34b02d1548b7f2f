// The processors that kernel tests run on. Host arrays serve all of them: the emulated device lives
// in the host's address space.
#pragma once

#include <gtest/gtest.h>

#include "kernels/kernel.h"
#ifdef WHENCE_HAVE_SIMT
#include "kernels/simt/stream.h"
#endif

namespace whence::ref {

// run(f) calls f(stream) and returns when the work is done.
struct Cpu {
  template <class F>
  static void run(F&& f) {
    cpu::Stream s{2};
    f(s);
  }
};

#ifdef WHENCE_HAVE_SIMT
template <simt::Order order, int seed = 0>
struct Emulated {
  template <class F>
  static void run(F&& f) {
    simt::Stream s(simt::Schedule{order, seed});
    f(s);
    s.synchronize();
  }
};
using Backends = testing::Types<Cpu, Emulated<simt::Order::priority, 1>,
                                Emulated<simt::Order::random, 2>, Emulated<simt::Order::reverse>>;
#else
using Backends = testing::Types<Cpu>;
#endif

struct BackendNames {
  template <class T>
  static std::string GetName(int i) {
    return i == 0 ? "cpu" : "simt" + std::to_string(i);
  }
};

}  // namespace whence::ref
