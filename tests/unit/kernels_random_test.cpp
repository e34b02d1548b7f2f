// Philox and its variates: published vectors, moments, independence of chunking.
#include <algorithm>

#include "kernels/random.h"
#include "tests/ref/arrays.h"

namespace whence {
namespace {

using namespace ref;

using Words = std::array<uint32_t, 4>;

TEST(KernelsRandom, philox_gives_the_published_vectors) {
  // Known answers of philox4x32 with 10 rounds, distributed with Random123.
  EXPECT_EQ(k::philox({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const uint32_t ones = 0xffffffff;
  EXPECT_EQ(k::philox({ones, ones, ones, ones}, {ones, ones}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(k::philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

Reals normal(const k::RandomKey& key, int64_t count, int threads = 1) {
  cpu::Stream s{threads};
  Reals y(static_cast<size_t>(count), poison);
  k::random_normal(s, key, count, y.data());
  return y;
}
Reals uniform(const k::RandomKey& key, int64_t count, int threads = 1) {
  cpu::Stream s{threads};
  Reals y(static_cast<size_t>(count), poison);
  k::random_uniform(s, key, count, y.data());
  return y;
}

TEST(KernelsRandom, variates_follow_the_documented_layout) {
  const k::RandomKey key{0x0123456789abcdefu, 17, 23};
  const int64_t n = 1021;
  const Reals z = normal(key, n), u = uniform(key, n);
  const double tau = 2 * std::acos(-1.0);
  for (int64_t i = 0; i < n; ++i) {
    const Words w = k::philox({uint32_t(i / 4), 0, 23, 17}, {0x89abcdef, 0x01234567});
    const auto j = size_t(i % 4);
    EXPECT_EQ(u[size_t(i)], real(double(w[j] >> 8) * 0x1p-24));
    const double r = std::sqrt(-2 * std::log(double((w[j & 2] >> 8) + 1) * 0x1p-24));
    const double angle = tau * double(w[(j & 2) + 1] >> 8) * 0x1p-24;
    const double want = j % 2 ? r * std::sin(angle) : r * std::cos(angle);
    // The radius and the turn are each within 3 roundings; near u = 1 the radius is small but exact
    // to relative precision.
    EXPECT_NEAR(z[size_t(i)], want, 6 * eps * r) << i;
  }
}

TEST(KernelsRandom, any_count_and_any_threads_give_the_same_elements) {
  const k::RandomKey key{42, 3, 5};
  const Reals whole = normal(key, 200003), flat = uniform(key, 200003);
  for (int64_t count : {0, 1, 2, 3, 4, 5, 15, 16, 63, 64, 65, 1000, 99999}) {
    for (int threads : {1, 2, 7}) {
      const auto n = size_t(count);
      expect_same_bits(normal(key, count, threads), std::span(whole).first(n), "normal");
      expect_same_bits(uniform(key, count, threads), std::span(flat).first(n), "uniform");
    }
  }
}

TEST(KernelsRandom, variates_have_their_moments) {
  const int64_t n = 400000;
  const Reals z = normal({7, 0, 0}, n, 2), u = uniform({7, 0, 0}, n, 2);
  double m1 = 0, m2 = 0, m4 = 0, lag = 0, u1 = 0, u2 = 0;
  for (size_t i = 0; i < size_t(n); ++i) {
    m1 += z[i];
    m2 += double(z[i]) * z[i];
    m4 += std::pow(double(z[i]), 4);
    if (i) lag += double(z[i]) * z[i - 1];
    u1 += u[i];
    u2 += double(u[i]) * u[i];
  }
  const double five_sigma = 5 / std::sqrt(double(n));
  EXPECT_NEAR(m1 / n, 0, five_sigma);
  EXPECT_NEAR(m2 / n, 1, five_sigma * std::sqrt(2.0));
  EXPECT_NEAR(m4 / n, 3, five_sigma * std::sqrt(96.0));
  EXPECT_NEAR(lag / n, 0, five_sigma);
  EXPECT_NEAR(u1 / n, 0.5, five_sigma * std::sqrt(1.0 / 12));
  EXPECT_NEAR(u2 / n, 1.0 / 3, five_sigma * std::sqrt(4.0 / 45));
  const auto [low, high] = std::minmax_element(u.begin(), u.end());
  EXPECT_GE(*low, 0);
  EXPECT_LT(*high, 1);
  EXPECT_LT(*low, real(1e-4));
  EXPECT_GT(*high, real(1 - 1e-4));
}

TEST(KernelsRandom, seed_item_and_draw_each_select_another_stream) {
  const Reals base = normal({1, 2, 3}, 64);
  for (const k::RandomKey& key :
       {k::RandomKey{2, 2, 3}, {1, 3, 3}, {1, 2, 4}, {1, 3, 2}, {1 + (uint64_t{1} << 32), 2, 3}}) {
    const Reals other = normal(key, 64);
    int equal = 0;
    for (size_t i = 0; i < 64; ++i) equal += other[i] == base[i];
    EXPECT_EQ(equal, 0);
  }
}

}  // namespace
}  // namespace whence
