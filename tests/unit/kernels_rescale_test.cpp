// Slopes between a value and its reference: of functions and of max-pools.
#include "kernels/elementwise.h"
#include "kernels/pool.h"
#include "tests/ref/arrays.h"
#include "tests/ref/backends.h"
#include "tests/ref/functions.h"

namespace whence {
namespace {

using namespace ref;
using k::PoolSize;
using k::Unary;

constexpr real epsilon = real(1e-10);

template <class Backend>
struct KernelsRescale : testing::Test {
  static Reals functions_on(Unary f, const Reals& x, const Reals& dy, real e = epsilon) {
    Reals dx(dy.size(), poison);
    const auto count = int64_t(dy.size()), references = int64_t(x.size()) - count;
    Backend::run([&](auto& s) {
      k::rescale(s, f, e, x.data(), x.data() + count, references, dy.data(), count, dx.data());
    });
    return dx;
  }
  // The samples behind those of `z` are references.
  static Reals pools_on(const PoolSize& z, const Reals& x, const Reals& dy, real e = epsilon) {
    const int64_t sample = z.height * z.width * z.channels, count = z.batch * sample;
    const int64_t references = int64_t(x.size()) / sample - z.batch;
    Reals dx(size_t(count), poison);
    Backend::run([&](auto& s) {
      k::max_pool_rescale(s, e, x.data(), x.data() + count, references, dy.data(), z, dx.data());
    });
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
  const Reals dy = noise(half, 2);
  for (Unary f : k::every_unary) {
    const Reals dx = this->functions_on(f, x, dy);
    Bounded want(half);
    for (size_t i = 0; i < half; ++i) {
      const double a = x[i], b = x[half + i];
      const double slope = (unary(f, a) - unary(f, b)) / (a - b);
      // The values are good to some roundings of themselves and of x.
      const double error = 12 * eps * (1 + std::abs(a) + std::abs(b)) / std::abs(a - b) + 8 * eps;
      want.value[i] = dy[i] * slope;
      want.error[i] = std::abs(dy[i]) * error;
    }
    expect_within(dx, want, facts_of(f).name);
  }
}

TYPED_TEST(KernelsRescale, one_reference_serves_all_samples) {
  const size_t sample = 301, samples = 7;
  const Reals x = noise(samples * sample, 1, 4), x0 = noise(sample, 2, 4);
  const Reals dy = noise(samples * sample, 3);
  Reals shared = x, own = x;
  shared.insert(shared.end(), x0.begin(), x0.end());
  for (size_t i = 0; i < samples; ++i) own.insert(own.end(), x0.begin(), x0.end());
  for (Unary f : std::initializer_list<Unary>{k::Relu{}, k::Gelu{}})
    expect_same_bits(this->functions_on(f, shared, dy), this->functions_on(f, own, dy), "function");
  const PoolSize z{3, 7, 6, 19, 4, 3, 3, 2, 1};
  const auto n = int64_t(z.height * z.width * z.channels);
  const Reals images = noise(4 * n, 5), d = noise(3 * z.out_height * z.out_width * z.channels, 6);
  Reals with_own(images.begin(), images.begin() + 3 * n);
  for (int i = 0; i < 3; ++i) with_own.insert(with_own.end(), images.begin() + 3 * n, images.end());
  expect_same_bits(this->pools_on(z, images, d), this->pools_on(z, with_own, d), "pool");
}

TYPED_TEST(KernelsRescale, functions_have_their_derivative_at_the_value_where_both_are_near) {
  const real d = real(0.001);
  const Reals x = {2, -2, 0, 1, real(0.5), 2 + d, -2 - d, 0, 1, real(0.5) + 2 * d};
  const Reals dy = {1, 2, 3, 4, 5};
  for (Unary f : k::every_unary) {
    const Reals dx = this->functions_on(f, x, dy, real(1.5) * d);
    Reals slope(5), ones(5, 1);
    TypeParam::run([&](auto& s) { k::unary_bwd(s, f, x.data(), ones.data(), 5, slope.data()); });
    for (size_t i = 0; i < 4; ++i)  // the last is not near
      EXPECT_EQ(dx[i], dy[i] * slope[i]) << facts_of(f).name << ", element " << i;
    const double far = (unary(f, x[9]) - unary(f, x[4])) / (double(x[9]) - x[4]);
    EXPECT_NEAR(dx[4], 5 * far, 5 * 20 * eps / d);
  }
  EXPECT_EQ(this->functions_on(k::Relu{}, {0, 0}, {1})[0], 0);  // derivative 0 at 0
}

TYPED_TEST(KernelsRescale, functions_work_in_place_and_at_any_place) {
  const size_t half = 515;
  const Reals x = noise(2 * half, 1, 4), dy = noise(half, 2);
  for (Unary f : std::initializer_list<Unary>{k::Relu{}, k::Gelu{}}) {
    const Reals apart = this->functions_on(f, x, dy);
    Reals over = dy;
    TypeParam::run([&](auto& s) {
      k::rescale(s, f, epsilon, x.data(), x.data() + half, int64_t(half), over.data(),
                 int64_t(half), over.data());
    });
    expect_same_bits(over, apart, "in place");
    for (size_t i : {size_t{0}, size_t{13}, half - 1}) {
      const Reals one = this->functions_on(f, {x[i], x[half + i]}, {dy[i]});
      EXPECT_EQ(one[0], apart[i]);
    }
  }
  EXPECT_TRUE(this->functions_on(k::Relu{}, {}, {}).empty());
  for (const Reals& pair : {Reals{poison, 1}, Reals{1, poison}})  // no side hides the other
    EXPECT_TRUE(std::isnan(this->functions_on(k::Relu{}, pair, {1})[0]));
}

TEST(KernelsRescaleCpu, functions_have_equal_bits_for_any_threads) {
  const size_t half = 100003;
  const Reals x = noise(2 * half, 1, 4), dy = noise(half, 2);
  const int64_t count = half;
  for (const int64_t references : {count, count / 7}) {  // 7 samples
    Reals one(half, poison), three(half, poison);
    cpu::Stream s1{1}, s3{3};
    k::rescale(s1, k::Gelu{}, epsilon, x.data(), x.data() + half, references, dy.data(), count,
               one.data());
    k::rescale(s3, k::Gelu{}, epsilon, x.data(), x.data() + half, references, dy.data(), count,
               three.data());
    expect_same_bits(three, one, "threads");
  }
}

// --- max-pools -----------------------------------------------------------------------------------

// Overlapping windows, padded ones, windows with gaps, channels that fill no vector.
std::vector<PoolSize> sizes() {
  return {{2, 4, 6, 3, 2, 3, 2, 2, 0}, {2, 7, 6, 19, 4, 3, 3, 2, 1}, {1, 5, 4, 33, 5, 4, 3, 1, 1},
          {1, 7, 8, 4, 2, 3, 2, 3, 0}, {1, 3, 3, 1, 1, 1, 3, 3, 0},  {1, 1, 1, 1, 1, 1, 1, 1, 0},
          {0, 4, 4, 3, 2, 2, 2, 2, 0}};
}

struct Images {
  Reals x, dy;  // x: the samples, then a reference of each
  explicit Images(const PoolSize& z)
      : x(noise(2 * z.batch * z.height * z.width * z.channels, 3)),
        dy(noise(z.batch * z.out_height * z.out_width * z.channels, 4)) {}
};

// The formula, window by window.
Bounded rescaled(const PoolSize& z, const Images& p, double e) {
  const auto at = [&](int64_t b, int64_t h, int64_t w, int64_t c) {
    return size_t(((b * z.height + h) * z.width + w) * z.channels + c);
  };
  const size_t half = p.x.size() / 2;
  Bounded dx(half);
  Doubles gradient(half);
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
          const int64_t x0 = b + z.batch;
          const auto here = best(b), there = best(x0);
          const double y = p.x[at(b, here[0], here[1], c)];
          const double y0 = p.x[at(x0, there[0], there[1], c)], top = std::max(y, y0);
          dx.value[at(b, here[0], here[1], c)] += p.dy[out] * (top - y0);
          dx.value[at(b, there[0], there[1], c)] += p.dy[out] * (y - top);
          gradient[at(b, here[0], here[1], c)] += p.dy[out];
        }
  for (size_t i = 0; i < half; ++i) {
    const double d = double(p.x[i]) - p.x[half + i];
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
  PoolSize both = z;
  both.batch = 2 * z.batch;
  Reals y(2 * p.dy.size());
  TypeParam::run([&](auto& s) { k::max_pool(s, p.x.data(), both, y.data()); });
  const Reals dx = this->pools_on(z, p.x, p.dy);
  double before = 0, after = 0;
  for (size_t i = 0, half = y.size() / 2; i < half; ++i)
    before += p.dy[i] * (double(y[i]) - y[half + i]);
  for (size_t i = 0, half = dx.size(); i < half; ++i)
    after += dx[i] * (double(p.x[i]) - p.x[half + i]);
  EXPECT_NEAR(after, before, 1000 * eps);
}

TYPED_TEST(KernelsRescale, max_pools_have_the_same_bits_for_a_pair_alone) {
  const PoolSize z = sizes()[1];
  const Images p(z);
  const Reals whole = this->pools_on(z, p.x, p.dy);
  PoolSize pair = z;
  pair.batch = 1;
  // Part i of n.
  const auto part = [](const Reals& v, size_t i, size_t n) {
    return Reals(v.begin() + int64_t(i * v.size() / n),
                 v.begin() + int64_t((i + 1) * v.size() / n));
  };
  for (size_t b : {0, 1}) {
    Reals x = part(p.x, b, 4);
    const Reals reference = part(p.x, b + 2, 4);
    x.insert(x.end(), reference.begin(), reference.end());
    expect_same_bits(this->pools_on(pair, x, part(p.dy, b, 2)), part(whole, b, 2),
                     "pair " + std::to_string(b));
  }
}

}  // namespace
}  // namespace whence
