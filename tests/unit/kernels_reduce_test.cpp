// Sums over any axes: values, many terms, bits.
#include <array>

#include "kernels/elementwise.h"
#include "tests/ref/arrays.h"
#include "tests/ref/backends.h"

namespace whence {
namespace {

using namespace ref;

template <class Backend>
class KernelsReduce : public testing::Test {};
TYPED_TEST_SUITE(KernelsReduce, Backends, BackendNames);

// The sums of x over the axes that are not kept, times 0.25.
Bounded sums(const Reals& x, const std::array<int64_t, 5>& n, const std::array<bool, 5>& kept) {
  std::array<int64_t, 5> step{}, i{};
  int64_t outputs = 1;
  for (size_t axis = 5; axis-- > 0;) {
    step[axis] = kept[axis] ? outputs : 0;
    if (kept[axis]) outputs *= n[axis];
  }
  Bounded want(static_cast<size_t>(outputs));
  size_t at = 0;
  for (i[0] = 0; i[0] < n[0]; ++i[0])
    for (i[1] = 0; i[1] < n[1]; ++i[1])
      for (i[2] = 0; i[2] < n[2]; ++i[2])
        for (i[3] = 0; i[3] < n[3]; ++i[3])
          for (i[4] = 0; i[4] < n[4]; ++i[4], ++at) {
            size_t o = 0;
            for (size_t axis = 0; axis < 5; ++axis) o += size_t(i[axis] * step[axis]);
            want.value[o] += 0.25 * x[at];
            want.error[o] += eps * std::abs(x[at]) * double(x.size()) / double(outputs);
          }
  for (double& e : want.error) e += 2 * eps;
  return want;
}

template <class Backend>
Reals reduce_on(const Reals& x, const std::array<int64_t, 5>& n, const std::array<bool, 5>& kept,
                real scale) {
  int64_t outputs = 1;
  for (size_t axis = 0; axis < 5; ++axis) outputs *= kept[axis] ? n[axis] : 1;
  Reals y(static_cast<size_t>(outputs), poison);
  Backend::run([&](auto& s) { k::reduce_sum(s, x.data(), n, kept, scale, y.data()); });
  return y;
}

TYPED_TEST(KernelsReduce, over_every_subset_of_axes) {
  for (const std::array<int64_t, 5>& n : {std::array<int64_t, 5>{2, 3, 5, 4, 19},
                                          {1, 7, 1, 3, 40},
                                          {3, 1, 1, 1, 1},
                                          {1, 1, 1, 2, 300}}) {
    const Reals x = noise(n[0] * n[1] * n[2] * n[3] * n[4], 4);
    for (unsigned mask = 0; mask < 32; ++mask) {
      std::array<bool, 5> kept{};
      for (size_t axis = 0; axis < 5; ++axis) kept[axis] = mask >> axis & 1;
      expect_within(reduce_on<TypeParam>(x, n, kept, real(0.25)), sums(x, n, kept),
                    "mask " + std::to_string(mask));
    }
  }
}

// More terms than one thread, warp or chunk of a sum takes. Whole numbers add up exactly in any
// order, so that a term that is left out or counted twice shows.
TYPED_TEST(KernelsReduce, of_many_terms) {
  struct Case {
    std::array<int64_t, 5> size;
    std::array<bool, 5> kept;
  };
  for (const auto& [n, kept] :
       {Case{{1, 1, 1, 700, 3}, {0, 0, 0, 0, 1}}, Case{{1, 40, 2, 9, 5}, {0, 0, 1, 0, 1}},
        Case{{1, 1, 2, 257, 33}, {0, 0, 1, 0, 1}}, Case{{1, 1, 1, 2, 2500}, {0, 0, 0, 1, 0}},
        Case{{1, 1, 1, 3, 1024}, {0, 0, 0, 1, 0}}, Case{{23, 2, 7, 3, 11}, {0, 1, 0, 1, 0}},
        Case{{300, 2, 1, 2, 5}, {0, 1, 0, 1, 0}}, Case{{1, 1, 1, 1, 5000}, {0, 0, 0, 0, 0}}}) {
    Reals x = noise(n[0] * n[1] * n[2] * n[3] * n[4], 5, 8);
    for (real& v : x) v = std::round(v);
    Bounded want = sums(x, n, kept);
    for (double& e : want.error) e = 0;
    expect_within(reduce_on<TypeParam>(x, n, kept, real(0.25)), want, std::to_string(n[4]));
  }
}

TYPED_TEST(KernelsReduce, of_a_sample_does_not_depend_on_the_others) {
  const auto check = [](const std::array<int64_t, 5>& n, const std::array<bool, 5>& kept) {
    const auto part = size_t(n[1] * n[2] * n[3] * n[4]);
    const Reals x = noise(n[0] * int64_t(part), 6);
    const Reals all = reduce_on<TypeParam>(x, n, kept, 1);
    const size_t outputs = all.size() / size_t(n[0]);
    for (size_t i = 0; i < size_t(n[0]); ++i) {
      const Reals sample(x.begin() + ptrdiff_t(i * part), x.begin() + ptrdiff_t((i + 1) * part));
      const Reals alone = reduce_on<TypeParam>(sample, {1, n[1], n[2], n[3], n[4]}, kept, 1);
      expect_same_bits(std::span(all).subspan(i * outputs, outputs), alone, "sample");
    }
  };
  check({3, 1, 1, 30, 7}, {1, 0, 0, 0, 1});
  check({3, 1, 1, 300, 7}, {1, 0, 0, 0, 1});
  check({3, 1, 1, 1, 77}, {1, 0, 0, 0, 0});
  check({3, 1, 1, 50, 41}, {1, 0, 0, 0, 0});
  check({2, 1, 30, 4, 41}, {1, 0, 0, 1, 0});
}

TYPED_TEST(KernelsReduce, gives_nan_where_a_term_is_nan) {
  Reals x = noise(3 * 40 * 5, 1);
  x[size_t((1 * 40 + 33) * 5 + 2)] = poison;
  const Reals rows = reduce_on<TypeParam>(x, {1, 1, 3, 40, 5}, {0, 0, 1, 0, 0}, 1);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(std::isnan(rows[i]), i == 1);
  const Reals columns = reduce_on<TypeParam>(x, {1, 1, 3, 40, 5}, {0, 0, 1, 0, 1}, 1);
  for (size_t i = 0; i < 15; ++i) EXPECT_EQ(std::isnan(columns[i]), i == 7);
}

TEST(KernelsReduceCpu, has_equal_bits_for_any_threads) {
  const std::array<int64_t, 5> n{1, 3, 50, 40, 96};
  const Reals x = noise(3 * 50 * 40 * 96, 9);
  for (const std::array<bool, 5>& kept :
       {std::array<bool, 5>{0, 0, 0, 0, 1}, {0, 1, 0, 0, 0}, {0, 1, 0, 1, 0}, {0, 0, 1, 0, 1}}) {
    Reals one(x.size()), other(one.size());
    cpu::Stream s1{1};
    k::reduce_sum(s1, x.data(), n, kept, 1, one.data());
    for (int threads : {2, 5}) {
      cpu::Stream s{threads};
      k::reduce_sum(s, x.data(), n, kept, 1, other.data());
      expect_same_bits(other, one, "threads");
    }
  }
}

TYPED_TEST(KernelsReduce, sums_over_nothing_are_zero_and_no_sums_are_fine) {
  Reals y(3, poison), one(1, poison);
  TypeParam::run([&](auto& s) {
    k::reduce_sum(s, nullptr, {1, 1, 1, 0, 3}, {true, true, true, false, true}, 1, y.data());
    k::reduce_sum(s, nullptr, {1, 1, 1, 1, 0}, {true, true, true, true, false}, 1, one.data());
    k::reduce_sum(s, nullptr, {0, 1, 1, 2, 3}, {true, true, true, false, true}, 1, nullptr);
    k::reduce_sum(s, nullptr, {0, 1, 1, 2, 3}, {true, true, true, true, false}, 1, nullptr);
  });
  for (real v : y) EXPECT_EQ(v, 0);
  EXPECT_EQ(one[0], 0);
}

}  // namespace
}  // namespace whence
