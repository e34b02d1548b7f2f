// Formulas of one element, shared by every processor's kernels.
//
// A formula is written once, for any number type T (a real, or a vector of them) whose elementary
// functions are in Math<T>.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/kernel.h"

namespace whence::k {

enum class Unary : uint8_t {
  identity,
  relu,        // max(x, 0); derivative 0 at 0
  gelu,        // x Phi(x) with the error function (Hendrycks and Gimpel 2016)
  gelu_tanh,   // its tanh approximation, same paper
  gelu_quick,  // x sigmoid(1.702 x), same paper; the activation of CLIP's published weights
  tanh,
  relu6,  // min(max(x, 0), 6); derivative 0 at 0 and at 6
};
enum class Binary : uint8_t {
  add,
  sub,
  mul,
  first,  // a, whatever b is
  div,
  safe_div,  // a / (b + 1e-9), 0 where b is 0 (Chefer et al. 2021)
};

template <class T>
struct Math;

// The standard normal distribution at x: density phi(x) and distribution function Phi(x).
template <class T>
struct Normal {
  T density, below;
};

// What relevance rules add to a denominator.
inline constexpr double relevance_stabiliser = 1e-9;

template <>
struct Math<real> {
  // The order of operations is that of the published code: b + 1e-9 as max(b, e) + min(b, e), which
  // float rounds to b itself from 2^-5 on.
  WHENCE_HD static real safe_div(real a, real b) {
    const real e = real(relevance_stabiliser);
    const real shifted = (b < e ? e : b) + (b < e ? b : e);
    return b == 0 ? real(0) : a / (shifted == 0 ? e : shifted);
  }
  WHENCE_HD static real constant(double c) { return real(c); }
  WHENCE_HD static real exp(real x) { return std::exp(x); }
  WHENCE_HD static real tanh(real x) { return std::tanh(x); }
  WHENCE_HD static real positive(real x) { return x < 0 ? real(0) : x; }  // max(x, 0); NaN stays
  WHENCE_HD static real one_where_positive(real x) {
    return x > 0 ? real(1) : x != x ? x : real(0);
  }
  WHENCE_HD static real clamp(real x, double bound) {  // to [-bound, bound]; NaN stays
    return x > real(bound) ? real(bound) : x < real(-bound) ? real(-bound) : x;
  }
  // Phi(x) = erfc(a) / 2 at a = -x / sqrt(2). Functions of a rounded square and of a rounded a
  // would be off by x^2 roundings; the remainders of both are known and enter to first order.
  WHENCE_HD static Normal<real> normal(real x) {
    constexpr double inv_sqrt_2pi = 0.39894228040143267794, sqrt_2 = 1.41421356237309504880;
    constexpr double sqrt_half = 0.70710678118654752440, sqrt_half_rest = -4.833646656726457e-17;
    constexpr auto upper = real(sqrt_half);
    constexpr auto lower = real((sqrt_half - double(upper)) + sqrt_half_rest);
    x = clamp(x, 40);  // 0 or 1 in any precision; its square does not overflow
    const real square = x * x, square_rest = std::fma(x, x, -square);
    const real correction = std::fma(real(-0.5), square_rest, real(1));
    const real density = std::exp(real(-0.5) * square) * correction * real(inv_sqrt_2pi);
    const real a = -x * upper, a_rest = std::fma(-x, upper, -a) - x * lower;
    return {density, std::fma(density, -real(sqrt_2) * a_rest, real(0.5) * std::erfc(a))};
  }
};

// s(x) = 1 / (1 + exp(-x))
template <class T>
WHENCE_HD inline T sigmoid(T x) {
  return Math<T>::constant(1) / (Math<T>::constant(1) + Math<T>::exp(-x));
}

// gelu_tanh: x (1 + tanh u) / 2 with u = sqrt(2/pi) (x + 0.044715 x^3). Beyond 10, where tanh u is
// 1 in any precision, u stays what it is at 10, so that huge x do not overflow.
inline constexpr double sqrt_2_over_pi = 0.79788456080286535588;
template <class T>
WHENCE_HD inline T gelu_tanh_argument(T x) {
  const T c = Math<T>::clamp(x, 10);
  return Math<T>::constant(sqrt_2_over_pi) * (c + Math<T>::constant(0.044715) * c * c * c);
}

// f(x)
template <Unary f, class T>
WHENCE_HD inline T unary_value(T x) {
  using M = Math<T>;
  if constexpr (f == Unary::relu) return M::positive(x);
  if constexpr (f == Unary::gelu) return x * M::normal(x).below;
  if constexpr (f == Unary::gelu_tanh) {
    return M::constant(0.5) * x * (M::constant(1) + M::tanh(gelu_tanh_argument(x)));
  }
  if constexpr (f == Unary::gelu_quick) return x * sigmoid(M::constant(1.702) * x);
  if constexpr (f == Unary::tanh) return M::tanh(x);
  if constexpr (f == Unary::relu6) return M::clamp(M::positive(x), 6);
  if constexpr (f == Unary::identity) return x;
}

// f'(x)
template <Unary f, class T>
WHENCE_HD inline T unary_slope(T x) {
  using M = Math<T>;
  const T one = M::constant(1);
  if constexpr (f == Unary::relu) return M::one_where_positive(x);
  if constexpr (f == Unary::gelu) {  // Phi(x) + x phi(x)
    const Normal<T> n = M::normal(x);
    return n.below + x * n.density;
  }
  if constexpr (f == Unary::gelu_tanh) {  // (1 + t)/2 + x (1 - t^2)/2 u'
    const T t = M::tanh(gelu_tanh_argument(x));
    const T c = M::clamp(x, 10);
    const T du = M::constant(sqrt_2_over_pi) * (one + M::constant(0.134145) * c * c);
    return M::constant(0.5) * ((one + t) + c * (one - t * t) * du);
  }
  if constexpr (f == Unary::gelu_quick) {  // s + 1.702 x s (1 - s)
    const T s = sigmoid(M::constant(1.702) * x);
    return s + x * (s * (one - s)) * M::constant(1.702);
  }
  if constexpr (f == Unary::tanh) {
    const T t = M::tanh(x);
    return one - t * t;
  }
  if constexpr (f == Unary::relu6)
    return M::one_where_positive(x) * M::one_where_positive(M::constant(6) - x);
  if constexpr (f == Unary::identity) return x - x + one;
}

template <Binary f, class T>
WHENCE_HD inline T binary_value(T a, T b) {
  if constexpr (f == Binary::add) return a + b;
  if constexpr (f == Binary::sub) return a - b;
  if constexpr (f == Binary::mul) return a * b;
  if constexpr (f == Binary::first) return a;
  if constexpr (f == Binary::div) return a / b;
  if constexpr (f == Binary::safe_div) return Math<T>::safe_div(a, b);
}

}  // namespace whence::k
