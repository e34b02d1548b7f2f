// Elementary functions on vectors of floats: range reduction and a polynomial, error below 2 units
// in the last place for exp and tanh and below 6 for the normal distribution, relative to its tail.
// The double build, which verifies formulas, calls the standard library lane by lane.
//
// The coefficients interpolate at Chebyshev nodes, computed with 40 digits and rounded to float;
// the relative error of each approximation, rounding aside, stands beside it.
#pragma once

#include "kernels/cpu/vec.h"
#include "kernels/scalar.h"

namespace whence::cpu {
inline namespace WHENCE_ISA {

#ifdef WHENCE_F64

template <class F>
inline Vec each_lane(Vec x, F f) {
  for (int i = 0; i < lanes; ++i) x[i] = f(x[i]);
  return x;
}
inline Vec exp(Vec x) {
  return each_lane(x, [](real v) { return std::exp(v); });
}
inline Vec tanh(Vec x) {
  return each_lane(x, [](real v) { return std::tanh(v); });
}
inline k::Normal<Vec> normal(Vec x) {
  k::Normal<Vec> n;
  for (int i = 0; i < lanes; ++i) {
    const k::Normal<real> one = k::Math<real>::normal(x[i]);
    n.density[i] = one.density;
    n.below[i] = one.below;
  }
  return n;
}

#else

// c[0] + c[1] x + c[2] x^2 + ...
template <class... C>
inline Vec polynomial(Vec x, float c0, C... rest) {
  if constexpr (sizeof...(rest) == 0) {
    return splat(c0);
  } else {
    return fma(polynomial(x, rest...), x, splat(c0));
  }
}

// v * 2^n for a whole number n, -150 <= n <= 129. In two halves where there is no instruction for
// it, so that results below the smallest normal number are rounded to a subnormal one.
inline Vec scale_by_power(Vec v, Vec n) {
#if defined(__AVX512F__)
  return _mm512_maskz_scalef_ps(__mmask16(~0), v, n);
#else
  const Vec magic = splat(12582912);  // 1.5 2^23: the sum's low bits are n
  const Bits power = bits(n + magic) - bits(magic), half = power >> 1;
  return v * from_bits((half + 127) << 23) * from_bits((power - half + 127) << 23);
#endif
}

// exp(x + correction) for a small correction: x = n ln 2 + r with |r| <= ln 2 / 2; exp(r)
// to 1.1e-8.
inline Vec exp(Vec x, Vec correction) {
  x = smaller(splat(89), larger(splat(-104), x));  // infinity and 0 from there on; NaN stays
  const Vec magic = splat(12582912);               // 1.5 2^23: adding it rounds to whole numbers
  const Vec n = fma(x, splat(1.44269504088896341f), magic) - magic;
  const Vec r =
      fma(n, splat(-1.42860682030941723e-6f), fma(n, splat(-0.693145751953125f), x)) + correction;
  const Vec tail =
      polynomial(r, 0.5f, 0.16666573286f, 0.041666548699f, 0.0083637740463f, 0.0013926926767f);
  return scale_by_power(fma(r * r, tail, r) + splat(1), n);
}
inline Vec exp(Vec x) { return exp(x, Vec{}); }

// Odd polynomial to 1.5e-8 below 0.6, 1 - 2 / (exp(2 |x|) + 1) above.
inline Vec tanh(Vec x) {
  const Vec z = x * x, size = abs(x);
  const Vec tail = polynomial(z, -0.3333333134651f, 0.1333291530609f, -0.0538739487529f,
                              0.0211109593511f, -0.0062691196799f);
  const Vec small = fma(x * z, tail, x);
  const Vec large = splat(1) - splat(2) / (exp(size + size) + splat(1));
  const Bits sign = bits(x) & bits(splat(-0.0f));
  return from_bits(bits(size < splat(0.6f) ? small : large) | sign);
}

// With t = |x|, exp(t^2/2) Phi(-t) = g(u) / (t + 4), u = (t - 4) / (t + 4), g to 3e-8. The upper 12
// bits of t have an exact square; the rest of t^2 enters as the correction of exp, so that
// the tail is as exact, relatively, as the middle.
inline k::Normal<Vec> normal(Vec x) {
  Vec t = abs(x);
  t = smaller(splat(15), t);  // Phi(-15) is 0 in float
  const Vec upper = from_bits(bits(t) & ~Bits{} << 12);
  const Vec e = exp(splat(-0.5f) * upper * upper, splat(-0.5f) * (t - upper) * (t + upper));
  const Vec inverse = splat(1) / (t + splat(4));
  const Vec u = (t - splat(4)) * inverse;
  const Vec g = polynomial(
      u, 0.7552851438522f, -0.6078966259960f, 0.3871366679668f, -0.1865230053663f, 0.0604064688087f,
      -0.0075272130780f, -0.0035235739779f, 0.0015693136957f, 0.0001948018471f, -0.0001229831542f);
  const Vec tail = e * (g * inverse);
  const Vec rest = splat(1) - tail;
  return {e * splat(0.39894228040143267794f), x > 0 ? rest : tail};
}

#endif

}  // namespace WHENCE_ISA
}  // namespace whence::cpu

template <>
struct whence::k::Math<whence::cpu::Vec> {
  using Vec = cpu::Vec;
  template <class Mask>
  static Vec where(Mask condition, Vec a, Vec b) {
    return condition ? a : b;
  }
  static Vec constant(double c) { return cpu::splat(real(c)); }
  static Vec exp(Vec x) { return cpu::exp(x); }
  static Vec tanh(Vec x) { return cpu::tanh(x); }
  static Vec abs(Vec x) { return cpu::abs(x); }
  static Vec positive(Vec x) { return x < 0 ? Vec{} : x; }
  static Vec one_where_positive(Vec x) {
    const Vec otherwise = x != x ? x : Vec{};
    return x > 0 ? cpu::splat(1) : otherwise;
  }
  static Vec clamp(Vec x, double bound) {
    const Vec top = constant(bound);
    return cpu::smaller(top, cpu::larger(-top, x));
  }
  static Normal<Vec> normal(Vec x) { return cpu::normal(x); }
};
