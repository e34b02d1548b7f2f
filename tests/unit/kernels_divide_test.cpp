// Stabilised quotients: every kind, broadcast and in place, where denominators are small.
#include "kernels/elementwise.h"
#include "tests/ref/arrays.h"
#include "tests/ref/backends.h"
#include "tests/ref/relevance.h"

namespace whence {
namespace {

using namespace ref;
using k::Division;

template <class Backend>
class KernelsDivide : public testing::Test {};
TYPED_TEST_SUITE(KernelsDivide, Backends, BackendNames);

constexpr Division kinds[] = {Division::guarded, Division::away, Division::shifted};

template <class Backend>
Reals quotients(Division kind, double epsilon, const Reals& a, const Reals& b,
                const k::Broadcast& space, size_t count) {
  Reals y(count, poison);
  Backend::run(
      [&](auto& s) { k::divide(s, kind, real(epsilon), a.data(), b.data(), space, y.data()); });
  return y;
}

k::Broadcast row_of(int64_t count) {
  return {{1, 1, 1, 1, count}, {0, 0, 0, 0, 1}, {0, 0, 0, 0, 1}};
}

// One rounding in the sum, one in the quotient.
void expect_quotient(real got, real a, real b, Division kind, double epsilon) {
  const Stabiliser by{Stabiliser::Kind(kind), double(real(epsilon))};
  const double e = by.epsilon;
  // The sum is rounded first, as the published code does.
  const real sum = b + real(kind == Division::away && b < 0 ? -e : e);
  const double want = kind == Division::guarded && b == 0     ? 0
                      : sum == 0 && kind == Division::guarded ? double(a) / e
                                                              : double(a) / double(sum);
  if (std::isnan(want)) {
    EXPECT_TRUE(std::isnan(got)) << a << " / " << b;
  } else if (std::isinf(real(want))) {
    EXPECT_EQ(got, real(want)) << a << " / " << b;
  } else {
    EXPECT_NEAR(got, want, eps * std::abs(want)) << a << " / " << b;
  }
}

TYPED_TEST(KernelsDivide, keeps_every_kind_of_small_denominator_away_from_zero) {
  Reals a, b;
  const real tiny = real(1e-9);
  for (real top : {real(1), real(-3), real(0), tiny})
    for (real below : {real(2), real(-2), real(0), real(-0.0), tiny, -tiny, real(-2e-9),
                       real(5e-10), real(1e-3), real(-1e-3), real(INFINITY), real(NAN)})
      a.push_back(top), b.push_back(below);
  for (Division kind : kinds)
    for (double epsilon : {1e-9, 0.25, 0.0}) {
      const Reals y =
          quotients<TypeParam>(kind, epsilon, a, b, row_of(int64_t(a.size())), a.size());
      for (size_t i = 0; i < a.size(); ++i) expect_quotient(y[i], a[i], b[i], kind, epsilon);
    }
}

TYPED_TEST(KernelsDivide, repeats_operands_that_are_smaller) {
  constexpr int64_t batch = 2, rows = 3, cols = 37;
  const Reals a = noise(batch * rows * cols, 1), b = noise(rows, 2);
  k::Broadcast space;
  space.size = {1, 1, batch, rows, cols};
  space.a = {0, 0, rows * cols, cols, 1};
  space.b = {0, 0, 0, 1, 0};
  for (Division kind : kinds) {
    const Reals y = quotients<TypeParam>(kind, 0.01, a, b, space, a.size());
    for (size_t i = 0; i < a.size(); ++i)
      expect_quotient(y[i], a[i], b[i / cols % rows], kind, 0.01);
    Reals in_place = a;
    TypeParam::run([&](auto& s) {
      k::divide(s, kind, real(0.01), in_place.data(), b.data(), space, in_place.data());
    });
    EXPECT_EQ(in_place, y);
  }
}

}  // namespace
}  // namespace whence
