// Elementary functions on vectors.
#pragma once

#include "kernels/cpu/vec.h"
#include "kernels/scalar.h"

namespace whence::cpu {
template <class F>
inline Vec each_lane(Vec x, F f) {
  for (int i = 0; i < lanes; ++i) x[i] = f(x[i]);
  return x;
}
inline Vec exp(Vec x) { return each_lane(x, [](real v) { return std::exp(v); }); }
inline Vec tanh(Vec x) { return each_lane(x, [](real v) { return std::tanh(v); }); }
}  // namespace whence::cpu

template <>
struct whence::k::Math<whence::cpu::Vec> {
  using Vec = cpu::Vec;
  static Vec constant(double c) { return cpu::splat(real(c)); }
  static Vec exp(Vec x) { return cpu::exp(x); }
  static Vec tanh(Vec x) { return cpu::tanh(x); }
  static Vec positive(Vec x) { return cpu::select(x < 0, Vec{}, x); }
  static Vec one_where_positive(Vec x) {
    return cpu::select(x > 0, cpu::splat(1), cpu::select(x != x, x, Vec{}));
  }
  static Vec clamp(Vec x, double bound) {
    const Vec top = constant(bound);
    return cpu::select(x > top, top, cpu::select(x < -top, -top, x));
  }
  static Normal<Vec> normal(Vec x) {
    Normal<Vec> n;
    for (int i = 0; i < cpu::lanes; ++i) {
      const Normal<real> one = Math<real>::normal(x[i]);
      n.density[i] = one.density;
      n.below[i] = one.below;
    }
    return n;
  }
};
