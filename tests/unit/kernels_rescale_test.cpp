// Slopes between a value and its reference: of functions and of max-pools.
#include "kernels/elementwise.h"
#include "kernels/pool.h"
#include "tests/ref/backends.h"
#include "tests/ref/rows.h"

namespace whence {
namespace {

using namespace ref;
using k::PoolSize;
using k::Unary;

constexpr real epsilon = real(1e-10);
constexpr Unary functions[] = {Unary::identity,   Unary::relu, Unary::gelu, Unary::gelu_tanh,
                               Unary::gelu_quick, Unary::tanh, Unary::relu6};

template <class Backend>
struct KernelsRescale : testing::Test {
  static Reals functions_on(Unary f, const Reals& x, const Reals& dy, real e = epsilon) {
    Reals dx(x.size(), poison);
    Backend::run([&](auto& s) {
      k::rescale(s, f, e, x.data(), dy.data(), int64_t(x.size()) / 2, dx.data());
    });
    return dx;
  }
  static Reals pools_on(const PoolSize& z, const Reals& x, const Reals& dy, real e = epsilon) {
    Reals dx(x.size(), poison);
    Backend::run([&](auto& s) { k::max_pool_rescale(s, e, x.data(), dy.data(), z, dx.data()); });
    return dx;
  }
};
TYPED_TEST_SUITE(KernelsRescale, Backends, BackendNames);

// --- functions -----------------------------------------------------------------------------------

TYPED_TEST(KernelsRescale, functions_have_the_slope_between_both_values) {
  const size_t half = 301;
  Reals x = noise(2 * half, 1, 4);
  x[7] = 0, x[half + 7] = -1;
  x[8] = -1, x[half + 8] = -2;
  const Reals dy = noise(2 * half, 2);
  for (Unary f : functions) {
    const Reals dx = this->functions_on(f, x, dy);
    Bounded want(2 * half);
    for (size_t i = 0; i < half; ++i) {
      const double a = x[i], b = x[half + i];
      const double slope = (unary(f, a) - unary(f, b)) / (a - b);
      // The values are good to some roundings of themselves and of x.
      const double error = 12 * eps * (1 + std::abs(a) + std::abs(b)) / std::abs(a - b) + 8 * eps;
      for (size_t at : {i, half + i}) {
        want.value[at] = dy[at] * slope;
        want.error[at] = std::abs(dy[at]) * error;
      }
    }
    expect_within(dx, want, "function " + std::to_string(int(f)));
  }
}

TYPED_TEST(KernelsRescale, functions_have_their_derivative_at_the_value_where_both_are_near) {
  const real d = real(0.001);
  const Reals x = {2, -2, 0, 1, real(0.5), 2 + d, -2 - d, 0, 1, real(0.5) + 2 * d};
  const Reals dy = {1, 2, 3, 4, 5, -1, -2, -3, -4, -5};
  for (Unary f : functions) {
    const Reals dx = this->functions_on(f, x, dy, real(1.5) * d);
    Reals slope(5), ones(5, 1);
    TypeParam::run([&](auto& s) { k::unary_bwd(s, f, x.data(), ones.data(), 5, slope.data()); });
    for (size_t i = 0; i < 10; ++i) {
      if (i % 5 == 4) continue;  // not near
      EXPECT_EQ(dx[i], dy[i] * slope[i % 5]) << "function " << int(f) << ", element " << i;
    }
    const double far = (unary(f, x[9]) - unary(f, x[4])) / (double(x[9]) - x[4]);
    EXPECT_NEAR(dx[9], -5 * far, 5 * 20 * eps / d);
  }
  EXPECT_EQ(this->functions_on(Unary::relu, {0, 0}, {1, 1})[0], 0);  // derivative 0 at 0
}

TYPED_TEST(KernelsRescale, functions_work_in_place_and_at_any_place) {
  const size_t half = 515;
  const Reals x = noise(2 * half, 1, 4), dy = noise(2 * half, 2);
  for (Unary f : {Unary::relu, Unary::gelu}) {
    const Reals apart = this->functions_on(f, x, dy);
    Reals over = dy;
    TypeParam::run([&](auto& s) {
      k::rescale(s, f, epsilon, x.data(), over.data(), int64_t(half), over.data());
    });
    expect_same_bits(over, apart, "in place");
    for (size_t i : {size_t{0}, size_t{13}, half - 1}) {
      const Reals one = this->functions_on(f, {x[i], x[half + i]}, {dy[i], dy[half + i]});
      EXPECT_EQ(one[0], apart[i]);
      EXPECT_EQ(one[1], apart[half + i]);
    }
  }
  EXPECT_TRUE(this->functions_on(Unary::relu, {}, {}).empty());
  for (const Reals& pair : {Reals{poison, 1}, Reals{1, poison}})  // no side hides the other
    EXPECT_TRUE(std::isnan(this->functions_on(Unary::relu, pair, {1, 1})[0]));
}

TEST(KernelsRescaleCpu, functions_have_equal_bits_for_any_threads) {
  const size_t half = 100003;
  const Reals x = noise(2 * half, 1, 4), dy = noise(2 * half, 2);
  Reals one(2 * half, poison), three(2 * half, poison);
  cpu::Stream s1{1}, s3{3};
  k::rescale(s1, Unary::gelu, epsilon, x.data(), dy.data(), half, one.data());
  k::rescale(s3, Unary::gelu, epsilon, x.data(), dy.data(), half, three.data());
  expect_same_bits(three, one, "threads");
}

// --- max-pools -----------------------------------------------------------------------------------

// Overlapping windows, padded ones, windows with gaps, channels that fill no vector.
std::vector<PoolSize> sizes() {
  return {{4, 4, 6, 3, 2, 3, 2, 2, 0}, {4, 7, 6, 19, 4, 3, 3, 2, 1}, {2, 5, 4, 33, 5, 4, 3, 1, 1},
          {2, 7, 8, 4, 2, 3, 2, 3, 0}, {2, 3, 3, 1, 1, 1, 3, 3, 0},  {2, 1, 1, 1, 1, 1, 1, 1, 0},
          {0, 4, 4, 3, 2, 2, 2, 2, 0}};
}

struct Images {
  Reals x, dy;
  explicit Images(const PoolSize& z)
      : x(noise(z.batch * z.height * z.width * z.channels, 3)),
        dy(noise(z.batch * z.out_height * z.out_width * z.channels, 4)) {}
};

// The formula, window by window.
Bounded rescaled(const PoolSize& z, const Images& p, double e) {
  const auto at = [&](int64_t b, int64_t h, int64_t w, int64_t c) {
    return size_t(((b * z.height + h) * z.width + w) * z.channels + c);
  };
  Bounded dx(p.x.size());
  Doubles gradient(p.x.size());
  size_t out = 0;
  for (int64_t b = 0; b < z.batch; ++b)
    for (int64_t h = 0; h < z.out_height; ++h)
      for (int64_t w = 0; w < z.out_width; ++w)
        for (int64_t c = 0; c < z.channels; ++c, ++out) {
          // The first maximum of the window in sample a.
          const auto best = [&](int64_t a) {
            std::array<int64_t, 2> first{-1, -1};
            for (int64_t i = h * z.stride - z.pad; i < h * z.stride - z.pad + z.size; ++i)
              for (int64_t j = w * z.stride - z.pad; j < w * z.stride - z.pad + z.size; ++j)
                if (i >= 0 && j >= 0 && i < z.height && j < z.width &&
                    (first[0] < 0 || p.x[at(a, i, j, c)] > p.x[at(a, first[0], first[1], c)]))
                  first = {i, j};
            return first;
          };
          const int64_t x = b % (z.batch / 2), x0 = x + z.batch / 2;
          const auto here = best(x), there = best(x0);
          const double y = p.x[at(x, here[0], here[1], c)];
          const double y0 = p.x[at(x0, there[0], there[1], c)], top = std::max(y, y0);
          dx.value[at(b, here[0], here[1], c)] += p.dy[out] * (top - y0);
          dx.value[at(b, there[0], there[1], c)] += p.dy[out] * (y - top);
          gradient[at(b, here[0], here[1], c)] += p.dy[out];
        }
  const size_t half = p.x.size() / 2;
  for (size_t i = 0; i < p.x.size(); ++i) {
    const double d = double(p.x[i % half]) - p.x[half + i % half];
    const bool near = std::abs(d) < e;
    dx.value[i] = near ? gradient[i] : dx.value[i] / d;
    dx.error[i] = 40 * eps * (near ? 1 : 1 + 2 / std::abs(d));
  }
  return dx;
}

TYPED_TEST(KernelsRescale, max_pools_hand_the_rise_to_where_the_maxima_are) {
  for (const PoolSize& z : sizes()) {
    Images p(z);
    expect_within(this->pools_on(z, p.x, p.dy), rescaled(z, p, epsilon), "distinct");
    for (real& v : p.x) v = std::round(2 * v);  // ties, and values that do not differ
    expect_within(this->pools_on(z, p.x, p.dy), rescaled(z, p, epsilon), "equal");
  }
  const PoolSize z = sizes()[1];
  const Images p(z);
  expect_within(this->pools_on(z, p.x, p.dy, real(0.2)), rescaled(z, p, 0.2), "near");
}

TYPED_TEST(KernelsRescale, max_pools_lose_nothing) {
  const PoolSize z = sizes()[2];
  const Images p(z);
  Reals y(p.dy.size());
  TypeParam::run([&](auto& s) { k::max_pool(s, p.x.data(), z, y.data()); });
  const Reals dx = this->pools_on(z, p.x, p.dy);
  double before = 0, after = 0;
  for (size_t i = 0, half = y.size() / 2; i < half; ++i)
    before += p.dy[i] * (double(y[i]) - y[half + i]);
  for (size_t i = 0, half = dx.size() / 2; i < half; ++i)
    after += dx[i] * (double(p.x[i]) - p.x[half + i]);
  EXPECT_NEAR(after, before, 1000 * eps);
}

TYPED_TEST(KernelsRescale, max_pools_have_the_same_bits_for_a_pair_alone) {
  const PoolSize z = sizes()[1];
  const Images p(z);
  const Reals whole = this->pools_on(z, p.x, p.dy);
  PoolSize pair = z;
  pair.batch = 2;
  const auto samples = [&](const Reals& v, size_t a, size_t b) {
    const size_t n = v.size() / 4;
    Reals two(v.begin() + int64_t(a * n), v.begin() + int64_t((a + 1) * n));
    two.insert(two.end(), v.begin() + int64_t(b * n), v.begin() + int64_t((b + 1) * n));
    return two;
  };
  for (size_t b : {0, 1})
    expect_same_bits(this->pools_on(pair, samples(p.x, b, b + 2), samples(p.dy, b, b + 2)),
                     samples(whole, b, b + 2), "pair " + std::to_string(b));
}

}  // namespace
}  // namespace whence
