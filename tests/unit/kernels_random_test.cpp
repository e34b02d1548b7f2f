// Philox and its variates: published vectors, moments, independence of chunking and processor.
#include <algorithm>
#include <bit>

#include "kernels/random.h"
#include "tests/ref/arrays.h"
#include "tests/ref/backends.h"

namespace whence {
namespace {

using namespace ref;

using Words = std::array<uint32_t, 4>;
using Generator = void (*)(cpu::Stream&, const k::RandomKey&, int64_t, real*);

TEST(KernelsRandomFormulas, philox_gives_the_published_vectors) {
  // Known answers of philox4x32 with 10 rounds, distributed with Random123.
  EXPECT_EQ(k::philox({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const uint32_t ones = 0xffffffff;
  EXPECT_EQ(k::philox({ones, ones, ones, ones}, {ones, ones}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(k::philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

template <class Backend>
Reals normal_on(const k::RandomKey& key, int64_t count) {
  Reals y(static_cast<size_t>(count), poison);
  Backend::run([&](auto& s) { k::random_normal(s, key, count, y.data()); });
  return y;
}
template <class Backend>
Reals uniform_on(const k::RandomKey& key, int64_t count) {
  Reals y(static_cast<size_t>(count), poison);
  Backend::run([&](auto& s) { k::random_uniform(s, key, count, y.data()); });
  return y;
}

template <class Backend>
class KernelsRandom : public testing::Test {};
TYPED_TEST_SUITE(KernelsRandom, Backends, BackendNames);

TYPED_TEST(KernelsRandom, variates_follow_the_documented_layout) {
  const k::RandomKey key{0x0123456789abcdefu, 17, 23};
  const int64_t n = 1021;
  const Reals z = normal_on<TypeParam>(key, n), u = uniform_on<TypeParam>(key, n);
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

// Of every processor, compiler and instruction set the same: the hash (FNV-1a, over the bits of
// each element) was computed once.
TYPED_TEST(KernelsRandom, bits_are_those_of_every_build) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const k::RandomKey& key : {k::RandomKey{42, 3, 5}, {0xfedcba9876543210, 0, 0xffffffff}}) {
    for (const Reals& y : {normal_on<TypeParam>(key, 4099), uniform_on<TypeParam>(key, 4099)})
      for (real v : y) hash = (hash ^ uint64_t(k::Exact<real>::bits(v))) * 0x100000001b3;
  }
  EXPECT_EQ(hash, sizeof(real) == 4 ? 14474201715746206190u : 1646665291188799227u);
}

TYPED_TEST(KernelsRandom, any_count_gives_the_same_elements) {
  const k::RandomKey key{42, 3, 5};
  const Reals whole = normal_on<Cpu>(key, 3001), flat = uniform_on<Cpu>(key, 3001);
  for (int64_t count : {0, 1, 2, 3, 4, 5, 15, 16, 63, 64, 65, 1023, 1024, 1025, 3001}) {
    const auto n = size_t(count);
    expect_same_bits(normal_on<TypeParam>(key, count), std::span(whole).first(n), "normal");
    expect_same_bits(uniform_on<TypeParam>(key, count), std::span(flat).first(n), "uniform");
  }
}

TEST(KernelsRandomCpu, any_threads_give_the_same_elements) {
  const k::RandomKey key{42, 3, 5};
  const int64_t count = 200003;
  Reals one(size_t{200003}), other(one.size());
  for (const auto f : {Generator{k::random_normal}, Generator{k::random_uniform}}) {
    cpu::Stream s{1};
    f(s, key, count, one.data());
    for (int threads : {2, 7}) {
      cpu::Stream shared{threads};
      f(shared, key, count, other.data());
      expect_same_bits(other, one, "threads");
    }
  }
}

// The formulas against the standard library in double, in units in the last place of the result.
template <class F, class R>
double worst(double from, double to, F&& f, R&& exact) {
  double most = 0;
  const int steps = 40001;
  for (int i = 0; i < steps; ++i) {
    const auto x = real(from + (to - from) * i / (steps - 1));
    const double want = exact(double(x));
    const double unit =
        want == 0 ? std::numeric_limits<double>::min() : std::ldexp(eps, std::ilogb(want));
    most = std::max(most, std::abs(double(f(x)) - want) / unit);
  }
  return most;
}

TEST(KernelsRandomFormulas, logarithm_and_turns_are_within_two_units) {
  const auto log = [](real x) { return k::exact_log(x); };
  const auto exact_log = [](double x) { return std::log(x); };
  EXPECT_LE(worst(0.5, 2, log, exact_log), 2);
  EXPECT_LE(worst(0x1p-24, 1, log, exact_log), 2);
  EXPECT_LE(worst(0x1p-24, 0x1p-14, log, exact_log), 2);
  EXPECT_LE(worst(1 - 1e-4, 1, log, exact_log), 2);
  EXPECT_LE(worst(1, 1e6, log, exact_log), 2);
  const double quarter = std::acos(-1.0) / 2;
  EXPECT_LE(worst(
                -0.5, 0.5, [](real x) { return k::exact_sin_quarter(x); },
                [=](double x) { return std::sin(quarter * x); }),
            2);
  EXPECT_LE(worst(
                -0.5, 0.5, [](real x) { return k::exact_cos_quarter(x); },
                [=](double x) { return std::cos(quarter * x); }),
            2);
}

TEST(KernelsRandomCpu, variates_have_their_moments) {
  const int64_t n = 400000;
  const Reals z = normal_on<Cpu>({7, 0, 0}, n), u = uniform_on<Cpu>({7, 0, 0}, n);
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

TYPED_TEST(KernelsRandom, seed_item_and_draw_each_select_another_stream) {
  const Reals base = normal_on<TypeParam>({1, 2, 3}, 64);
  for (const k::RandomKey& key :
       {k::RandomKey{2, 2, 3}, {1, 3, 3}, {1, 2, 4}, {1, 3, 2}, {1 + (uint64_t{1} << 32), 2, 3}}) {
    const Reals other = normal_on<TypeParam>(key, 64);
    int equal = 0;
    for (size_t i = 0; i < 64; ++i) equal += other[i] == base[i];
    EXPECT_EQ(equal, 0);
  }
}

TYPED_TEST(KernelsRandom, rows_have_keys_of_their_own) {
  const int64_t count = 131;
  const std::vector<int32_t> keys{1, 2, 3, 4, int32_t(0x80000001), -1, -7, 5, 1, 2, 3, 5};
  Reals got(size_t(3 * count), poison), want(size_t(3 * count), poison);
  TypeParam::run([&](auto& s) {
    k::random_normal_rows(s, keys.data(), 3, count, got.data());
    for (size_t r = 0; r < 3; ++r) {
      const auto word = [&](size_t i) { return uint32_t(keys[4 * r + i]); };
      k::random_normal(s, {uint64_t{word(1)} << 32 | word(0), word(2), word(3)}, count,
                       want.data() + int64_t(r) * count);
    }
    k::random_normal_rows(s, nullptr, 0, count, nullptr);
  });
  expect_same_bits(got, want, "rows");
}

}  // namespace
}  // namespace whence
