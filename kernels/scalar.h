// Formulas of one element, shared by every processor's kernels.
//
// A formula is written once, for any number type T (a real, or a vector of them) whose elementary
// functions are in Math<T>.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/kernel.h"

namespace whence::k {

enum class Binary : uint8_t {
  add,
  sub,
  mul,
  first,  // a, whatever b is
  div,
};
// How a quotient a / b stays finite where b is small, with a stabiliser e > 0 (or 0).
enum class Division : uint8_t {
  guarded,  // a / (b + e), a / e where that sum is 0, and 0 where b is 0
  away,     // a / (b + e) for b >= 0, a / (b - e) for b < 0: the denominator grows in magnitude
  shifted,  // a / (b + e)
};

template <class T>
struct Math;

// The standard normal distribution at x: density phi(x) and distribution function Phi(x).
template <class T>
struct Normal {
  T density, below;
};

template <>
struct Math<real> {
  WHENCE_HD static real where(bool condition, real a, real b) { return condition ? a : b; }
  WHENCE_HD static real constant(double c) { return real(c); }
  WHENCE_HD static real exp(real x) { return std::exp(x); }
  WHENCE_HD static real tanh(real x) { return std::tanh(x); }
  WHENCE_HD static real abs(real x) { return std::fabs(x); }
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

template <Binary f, class T>
WHENCE_HD inline T binary_value(T a, T b) {
  if constexpr (f == Binary::add) return a + b;
  if constexpr (f == Binary::sub) return a - b;
  if constexpr (f == Binary::mul) return a * b;
  if constexpr (f == Binary::first) return a;
  if constexpr (f == Binary::div) return a / b;
}

// Functions of two numbers as objects: some have a parameter.
template <Binary f>
struct Pairing {
  template <class T>
  WHENCE_HD T operator()(T a, T b) const {
    return binary_value<f>(a, b);
  }
};
template <Division d>
struct Quotient {
  real epsilon;
  template <class T>
  WHENCE_HD T operator()(T a, T b) const {
    using M = Math<T>;
    const T e = M::constant(double(epsilon)), zero = M::constant(0);
    const T sum = b + e;
    if constexpr (d == Division::guarded)
      return M::where(b == zero, zero, a / M::where(sum == zero, e, sum));
    if constexpr (d == Division::away) return a / M::where(b < zero, b - e, sum);
    if constexpr (d == Division::shifted) return a / sum;
  }
};

// Call g with f as a compile-time constant, or with the function of two numbers.
template <class G>
void with(Binary f, G&& g) {
  switch (f) {
    case Binary::add:
      return g(Pairing<Binary::add>());
    case Binary::sub:
      return g(Pairing<Binary::sub>());
    case Binary::mul:
      return g(Pairing<Binary::mul>());
    case Binary::first:
      return g(Pairing<Binary::first>());
    case Binary::div:
      return g(Pairing<Binary::div>());
  }
}
template <class G>
void with(Division d, real epsilon, G&& g) {
  switch (d) {
    case Division::guarded:
      return g(Quotient<Division::guarded>{epsilon});
    case Division::away:
      return g(Quotient<Division::away>{epsilon});
    case Division::shifted:
      return g(Quotient<Division::shifted>{epsilon});
  }
}

}  // namespace whence::k
