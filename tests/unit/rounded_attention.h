// Attention with factors rounded for tensor cores, on the emulated device.
#pragma once

#include "tests/unit/attention_outputs.h"

namespace whence::ref {

using simt::Order;

template <Precision precision, Order order = Order::priority, int seed = 1>
struct Rounding {
  template <class F>
  static void run(F&& f) {
    Emulated<order, seed>::run([&](auto& s) {
      s.precision = precision;
      f(s);
    });
  }
};
using InBf16 = Rounding<Precision::bf16>;
using Schedules = testing::Types<InBf16, Rounding<Precision::bf16, Order::random, 2>>;
struct Names {
  template <class T>
  static std::string GetName(int i) {
    return "simt" + std::to_string(i);
  }
};
}  // namespace whence::ref
