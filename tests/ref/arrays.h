// Arrays for kernel tests: repeatable noise, element-wise comparison, numeric gradients.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "whence/tensor.h"

namespace whence::ref {

using Doubles = std::vector<double>;
using Reals = std::vector<real>;

inline constexpr double eps = std::numeric_limits<real>::epsilon();
inline constexpr real poison = std::numeric_limits<real>::quiet_NaN();

// A value in double precision and how far a correct kernel may be from it.
struct Bounded {
  Doubles value, error;
  explicit Bounded(size_t n = 0) : value(n), error(n) {}
};

// Uniform in [-spread, spread], the same on every platform (splitmix64).
inline Reals noise(int64_t count, uint64_t seed, double spread = 1) {
  Reals out(static_cast<size_t>(count));
  uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
  for (real& x : out) {
    uint64_t z = (state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    x = real((double(z >> 11) * 0x1p-52 - 1) * spread);
  }
  return out;
}

inline Doubles widen(std::span<const real> x) { return Doubles(x.begin(), x.end()); }

// |got - value| <= error for every element; NaN on either side fails.
inline void expect_within(std::span<const real> got, const Bounded& want, const std::string& what) {
  ASSERT_EQ(got.size(), want.value.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    const double off = std::abs(double(got[i]) - want.value[i]);
    ASSERT_TRUE(off <= want.error[i])
        << what << ": element " << i << " is " << got[i] << ", not " << want.value[i] << "; off by "
        << off << ", allowed " << want.error[i];
  }
}

inline void expect_same_bits(std::span<const real> got, std::span<const real> want,
                             const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_TRUE(got[i] == want[i] && std::signbit(got[i]) == std::signbit(want[i]))
        << what << ": element " << i << ": " << got[i] << " and " << want[i];
  }
}

// Gradient of <dy, f(x)> by central differences: good to about 1e-9 for smooth f of order 1.
template <class F>
Doubles numeric_gradient(F&& f, Doubles x, const Doubles& dy) {
  const double h = 1e-5;
  Doubles out(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const double at = x[i];
    x[i] = at + h;
    const Doubles above = f(x);
    x[i] = at - h;
    const Doubles below = f(x);
    x[i] = at;
    for (size_t j = 0; j < dy.size(); ++j) out[i] += dy[j] * (above[j] - below[j]) / (2 * h);
  }
  return out;
}

}  // namespace whence::ref
