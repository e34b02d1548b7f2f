// Pooling: windows of every kind, ties, NaN, and bits that do not depend on the batch.
#include "kernels/pool.h"
#include "tests/ref/arrays.h"
#include "tests/ref/backends.h"

namespace whence {
namespace {

using namespace ref;
using k::PoolSize;

// Sizes that an image and its windows have in common; the last window is where `windows` says.
PoolSize pool(int64_t batch, int64_t height, int64_t width, int64_t channels, int64_t size,
              int64_t stride, int64_t pad, bool partial) {
  const auto windows = [&](int64_t n) {
    const int64_t room = n + 2 * pad - size;
    return room / stride + 1 + (partial && room % stride != 0 ? 1 : 0);
  };
  return {batch, height, width, channels, windows(height), windows(width), size, stride, pad};
}

std::vector<PoolSize> sizes() {
  return {pool(2, 4, 6, 3, 2, 2, 0, false), pool(2, 7, 6, 19, 3, 2, 1, false),
          pool(1, 6, 7, 5, 3, 2, 0, true),  pool(2, 5, 4, 33, 3, 1, 1, false),
          pool(1, 7, 8, 4, 2, 3, 0, false), pool(2, 3, 3, 1, 3, 3, 0, false),
          pool(1, 1, 1, 1, 1, 1, 0, false), pool(0, 4, 4, 3, 2, 2, 0, false)};
}

template <class Backend>
struct KernelsPool : testing::Test {};
TYPED_TEST_SUITE(KernelsPool, Backends, BackendNames);

size_t in_x(const PoolSize& z, int64_t b, int64_t h, int64_t w, int64_t c) {
  return size_t(((b * z.height + h) * z.width + w) * z.channels + c);
}

// Calls f(offset of the window's result, offsets of its elements inside the image in row-major
// order, elements inside the image and its padding).
template <class F>
void each_window(const PoolSize& z, F&& f) {
  size_t out = 0;
  for (int64_t b = 0; b < z.batch; ++b)
    for (int64_t h = 0; h < z.out_height; ++h)
      for (int64_t w = 0; w < z.out_width; ++w)
        for (int64_t c = 0; c < z.channels; ++c) {
          std::vector<size_t> elements;
          int64_t padded = 0;
          for (int64_t i = h * z.stride - z.pad; i < h * z.stride - z.pad + z.size; ++i)
            for (int64_t j = w * z.stride - z.pad; j < w * z.stride - z.pad + z.size; ++j) {
              padded += i < z.height + z.pad && j < z.width + z.pad;
              if (i >= 0 && j >= 0 && i < z.height && j < z.width)
                elements.push_back(in_x(z, b, i, j, c));
            }
          f(out++, elements, padded);
        }
}

struct Images {
  Reals x, dy;
  Images(const PoolSize& z, uint64_t seed)
      : x(noise(z.batch * z.height * z.width * z.channels, seed)),
        dy(noise(z.batch * z.out_height * z.out_width * z.channels, seed + 1)) {}
};

// Values of few kinds, so that windows have several maxima.
TYPED_TEST(KernelsPool, maxima_and_the_first_of_equal_ones) {
  for (const PoolSize& z : sizes())
    for (bool ties : {false, true}) {
      Images p(z, 3);
      if (ties)
        for (real& v : p.x) v = std::round(v);
      Reals y(p.dy.size(), poison), dx(p.x.size(), poison), want(p.dy.size()), slopes(p.x.size());
      TypeParam::run([&](auto& s) {
        k::max_pool(s, p.x.data(), z, y.data());
        k::max_pool_bwd(s, p.x.data(), p.dy.data(), z, dx.data());
      });
      each_window(z, [&](size_t out, const std::vector<size_t>& elements, int64_t) {
        const size_t best = *std::max_element(elements.begin(), elements.end(),
                                              [&](size_t a, size_t b) { return p.x[a] < p.x[b]; });
        want[out] = p.x[best];
        slopes[best] += p.dy[out];
      });
      expect_same_bits(y, want, "forward");
      for (size_t i = 0; i < dx.size(); ++i) ASSERT_EQ(dx[i], slopes[i]) << "element " << i;
    }
}

TYPED_TEST(KernelsPool, padding_and_infinities_never_hide_an_element) {
  const PoolSize z = pool(1, 3, 3, 2, 3, 2, 1, false);
  Images p(z, 1);
  p.x.assign(p.x.size(), -std::numeric_limits<real>::infinity());
  Reals y(p.dy.size(), poison), dx(p.x.size(), poison);
  TypeParam::run([&](auto& s) { k::max_pool(s, p.x.data(), z, y.data()); });
  for (real v : y) EXPECT_EQ(v, -std::numeric_limits<real>::infinity());
  p.x.assign(p.x.size(), real(-5));
  p.x[in_x(z, 0, 1, 1, 0)] = poison;
  TypeParam::run([&](auto& s) {
    k::max_pool(s, p.x.data(), z, y.data());
    k::max_pool_bwd(s, p.x.data(), p.dy.data(), z, dx.data());
  });
  for (size_t i = 0; i < y.size(); ++i) EXPECT_EQ(std::isnan(y[i]), i % 2 == 0) << i;
  EXPECT_EQ(dx[in_x(z, 0, 1, 1, 0)], ((p.dy[0] + p.dy[2]) + p.dy[4]) + p.dy[6]);
  EXPECT_EQ(dx[in_x(z, 0, 0, 0, 0)], 0);
}

TYPED_TEST(KernelsPool, averages_with_and_without_padding) {
  for (const PoolSize& z : sizes())
    for (bool padding : {false, true}) {
      const Images p(z, 7);
      Reals y(p.dy.size(), poison), dx(p.x.size(), poison);
      TypeParam::run([&](auto& s) {
        k::average_pool(s, p.x.data(), z, padding, y.data());
        k::average_pool_bwd(s, p.dy.data(), z, padding, dx.data());
      });
      Bounded want(y.size()), slopes(dx.size());
      each_window(z, [&](size_t out, const std::vector<size_t>& elements, int64_t padded) {
        const double count = padding ? double(padded) : double(elements.size());
        for (size_t at : elements) {
          want.value[out] += p.x[at] / count;
          want.error[out] += 4 * eps;
          slopes.value[at] += p.dy[out] / count;
          slopes.error[at] += 4 * eps;
        }
      });
      expect_within(y, want, "forward");
      expect_within(dx, slopes, "backward");
    }
}

TYPED_TEST(KernelsPool, bits_do_not_depend_on_the_batch) {
  const PoolSize z = pool(3, 7, 6, 19, 3, 2, 1, false);
  const Images p(z, 9);
  PoolSize one = z;
  one.batch = 1;
  const size_t in = p.x.size() / 3, out = p.dy.size() / 3;
  const auto run = [&](const PoolSize& size, size_t b) {
    std::array<Reals, 4> r{Reals(p.dy.size()), Reals(p.x.size()), Reals(p.dy.size()),
                           Reals(p.x.size())};
    TypeParam::run([&](auto& s) {
      k::max_pool(s, p.x.data() + b * in, size, r[0].data());
      k::max_pool_bwd(s, p.x.data() + b * in, p.dy.data() + b * out, size, r[1].data());
      k::average_pool(s, p.x.data() + b * in, size, true, r[2].data());
      k::average_pool_bwd(s, p.dy.data() + b * out, size, true, r[3].data());
    });
    return r;
  };
  const auto whole = run(z, 0);
  for (size_t b = 0; b < 3; ++b) {
    const auto single = run(one, b);
    for (size_t i = 0; i < 4; ++i) {
      const size_t count = i % 2 ? in : out;
      expect_same_bits(std::span(single[i]).first(count),
                       std::span(whole[i]).subspan(b * count, count),
                       "kernel " + std::to_string(i));
    }
  }
}

}  // namespace
}  // namespace whence
