// Elementary functions on vectors against the standard library in double, in units in the last
// place.
#include "kernels/cpu/vec_math.h"
#include "tests/ref/arrays.h"

namespace whence {
namespace {

using cpu::Vec;

// Distance in units in the last place of the exact result; below the smallest normal number the
// unit is that of the smallest subnormal.
double ulps(real got, double want) {
  using limits = std::numeric_limits<real>;
  if (std::isnan(want)) return std::isnan(got) ? 0 : 1e30;
  if (std::isinf(got) || std::abs(want) > double(limits::max())) {
    return double(got) == double(real(want)) ? 0 : 1e30;
  }
  const double size = std::max(std::abs(want), double(limits::min()));
  const double unit = std::ldexp(1.0, std::ilogb(size) - (limits::digits - 1));
  return std::abs(double(got) - want) / unit;
}

template <class F, class R>
double worst(double from, double to, F&& f, R&& exact) {
  double most = 0;
  const int steps = 40001;
  for (int i = 0; i < steps; ++i) {
    const auto x = real(from + (to - from) * i / (steps - 1));
    const Vec y = f(cpu::splat(x));
    for (int l = 1; l < cpu::lanes; ++l) EXPECT_TRUE(y[l] == y[0] || std::isnan(y[0]));
    most = std::max(most, ulps(y[0], exact(double(x))));
  }
  return most;
}

TEST(KernelsMath, exp_is_within_two_units) {
  const auto f = [](Vec x) { return cpu::exp(x); };
  const auto exact = [](double x) { return std::exp(x); };
  EXPECT_LE(worst(-2, 2, f, exact), 2);
  EXPECT_LE(worst(-87, 88.7, f, exact), 2);
  EXPECT_LE(worst(-110, -87, f, exact), 2);  // subnormal results and zero
  EXPECT_LE(worst(88.6, 95, f, exact), 2);   // up to infinity
  constexpr double inf = std::numeric_limits<double>::infinity();
  EXPECT_EQ(f(cpu::splat(real(-inf)))[0], 0);
  EXPECT_EQ(f(cpu::splat(real(inf)))[0], real(inf));
  EXPECT_EQ(f(cpu::splat(0))[0], 1);
  EXPECT_TRUE(std::isnan(f(cpu::splat(ref::poison))[0]));
}

TEST(KernelsMath, tanh_is_within_two_units) {
  const auto f = [](Vec x) { return cpu::tanh(x); };
  const auto exact = [](double x) { return std::tanh(x); };
  EXPECT_LE(worst(-0.7, 0.7, f, exact), 2);
  EXPECT_LE(worst(-12, 12, f, exact), 2);
  EXPECT_LE(worst(-1e-6, 1e-6, f, exact), 2);
  EXPECT_EQ(f(cpu::splat(real(1e30)))[0], 1);
  EXPECT_TRUE(std::signbit(f(cpu::splat(real(-0.0)))[0]));
}

TEST(KernelsMath, normal_distribution_is_relatively_exact_in_the_tail) {
  const auto below = [](Vec x) { return cpu::normal(x).below; };
  const auto density = [](Vec x) { return cpu::normal(x).density; };
  const auto exact_below = [](double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); };
  const auto exact_density = [](double x) {
    return std::exp(-0.5 * x * x) / std::sqrt(2 * std::acos(-1.0));
  };
  // In the double build the expected value takes a rounded argument, whose square amplifies it.
  const double slack = sizeof(real) == 4 ? 0 : 3;
  for (const double top : {1.0, 4.0, 13.0, 20.0}) {
    EXPECT_LE(worst(-top, top, below, exact_below), 6 + slack * top * top);
    EXPECT_LE(worst(-top, top, density, exact_density), 4 + slack * top * top);
  }
}

}  // namespace
}  // namespace whence
