// Activations, broadcasting pairs, copies and patches.
#include <algorithm>
#include <array>
#include <set>

#include "kernels/elementwise.h"
#include "tests/ref/arrays.h"
#include "tests/ref/backends.h"
#include "tests/ref/functions.h"

namespace whence {
namespace {

using namespace ref;
using k::Binary;
using k::Unary;

// Calls for host arrays that wait for the result. y may be x, dx may be dy.
template <class Backend>
void unary_on(Unary f, const Reals& x, Reals& y) {
  Backend::run([&](auto& s) { k::unary(s, f, x.data(), int64_t(x.size()), y.data()); });
}
template <class Backend>
void unary_bwd_on(Unary f, const Reals& x, const Reals& dy, Reals& dx) {
  Backend::run(
      [&](auto& s) { k::unary_bwd(s, f, x.data(), dy.data(), int64_t(x.size()), dx.data()); });
}

template <class Backend>
class KernelsElementwise : public testing::Test {};
TYPED_TEST_SUITE(KernelsElementwise, Backends, BackendNames);

TYPED_TEST(KernelsElementwise, activations_have_their_published_values) {
  const Reals x = {-3, -1, real(0.5), 1, 3};
  const std::pair<Unary, Doubles> rows[] = {
      {k::Gelu{}, {-0.004049694, -0.158655254, 0.345731231, 0.841344746, 2.995950306}},
      {k::GeluTanh{}, {-0.003637392, -0.158808009, 0.345714010, 0.841191991, 2.996362608}},
      {k::GeluQuick{}, {-0.018071310, -0.154204234, 0.350388437, 0.845795766, 2.981928690}},
  };
  for (const auto& [f, want] : rows) {
    Reals y(x.size());
    unary_on<TypeParam>(f, x, y);
    for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(y[i], want[i], 6e-10 + eps * std::abs(x[i]));
  }
}

TYPED_TEST(KernelsElementwise, activations_match_double_on_a_fine_grid) {
  Reals x;
  for (int i = -4000; i <= 4000; ++i) x.push_back(real(i * 0.003));
  for (real tiny : {1e-3, 1e-6, 1e-20, 1e-37}) {
    x.push_back(tiny);
    x.push_back(-tiny);
  }
  for (Unary f : k::every_unary) {
    Reals y(x.size(), poison);
    unary_on<TypeParam>(f, x, y);
    Bounded want(x.size());
    for (size_t i = 0; i < x.size(); ++i) {
      want.value[i] = unary(f, x[i]);
      // A few roundings relative to the value. The factor of gelu_tanh is 1 + tanh, and cancels
      // where it is small, and that of gelu_quick takes an exponential of a rounded argument.
      double error = 6 * eps * std::abs(want.value[i]);
      if (f == k::GeluTanh{}) error += 2 * eps * std::abs(x[i]);
      if (f == k::GeluQuick{}) error *= 1 + std::abs(x[i]) / 3;
      // In the double build the expected value is no better: its erfc takes a rounded argument,
      // which the square amplifies.
      if (f == k::Gelu{} && sizeof(real) == 8) error *= 1 + double(x[i]) * x[i] / 4;
      want.error[i] = error + 1e-44;
    }
    expect_within(y, want, facts_of(f).name);
  }
}

TYPED_TEST(KernelsElementwise, activation_gradients_match_differences) {
  Reals x;
  for (int i = -300; i <= 300; ++i) x.push_back(real(i * 0.041 + 0.0007));
  const Reals dy = noise(int64_t(x.size()), 3);
  for (Unary f : k::every_unary) {
    Reals dx(x.size(), poison);
    unary_bwd_on<TypeParam>(f, x, dy, dx);
    Bounded want(x.size());
    for (size_t i = 0; i < x.size(); ++i) {
      const double h = 1e-5, at = x[i];
      want.value[i] = dy[i] * (unary(f, at + h) - unary(f, at - h)) / (2 * h);
      want.error[i] = 12 * eps + 1e-8;
    }
    expect_within(dx, want, facts_of(f).name);
    Reals in_place = dy;
    unary_bwd_on<TypeParam>(f, x, in_place, in_place);
    expect_same_bits(in_place, dx, "in place");
  }
  for (Unary f : std::initializer_list<Unary>{k::Relu{}, k::Relu6{}, k::Abs{}}) {
    Reals slope = {poison};
    unary_bwd_on<TypeParam>(f, {0}, {1}, slope);
    EXPECT_EQ(slope[0], 0) << facts_of(f).name;
  }
}

TYPED_TEST(KernelsElementwise, activations_at_the_ends_of_the_range) {
  constexpr real inf = std::numeric_limits<real>::infinity();
  constexpr real top = std::numeric_limits<real>::max();
  for (Unary f : k::every_unary) {
    const Reals x = {top, inf, poison, real(-30), 0};
    Reals y(5), slope(5);
    unary_on<TypeParam>(f, x, y);
    unary_bwd_on<TypeParam>(f, x, Reals(5, 1), slope);
    EXPECT_EQ(y[0], real(unary(f, top))) << facts_of(f).name;
    EXPECT_EQ(y[1], real(unary(f, inf))) << facts_of(f).name;
    EXPECT_TRUE(std::isnan(y[2])) << facts_of(f).name;
    EXPECT_TRUE(std::isnan(slope[2])) << facts_of(f).name;
    EXPECT_NEAR(y[3], unary(f, -30), 6 * eps * std::abs(unary(f, -30)) + 1e-20) << facts_of(f).name;
    EXPECT_EQ(y[4], unary(f, 0)) << facts_of(f).name;
    EXPECT_FALSE(std::isnan(slope[0])) << facts_of(f).name;
  }
}

TYPED_TEST(KernelsElementwise, functions_are_what_their_facts_say) {
  Reals x;
  for (int i = -1200; i <= 1200; ++i) x.push_back(real(i * 0.01));
  const Reals ones(x.size(), 1);
  std::set<std::string> names;
  for (Unary f : k::every_unary) {
    const k::Facts facts = facts_of(f);
    EXPECT_TRUE(names.insert(facts.name).second) << facts.name << " twice";
    Reals y(x.size()), slope(x.size()), slope_of_result(x.size());
    unary_on<TypeParam>(f, x, y);
    unary_bwd_on<TypeParam>(f, x, ones, slope);
    unary_bwd_on<TypeParam>(f, y, ones, slope_of_result);
    EXPECT_EQ(facts.keeps_zero, unary(f, 0) == 0) << facts.name;
    EXPECT_EQ(facts.non_negative, *std::ranges::min_element(y) >= 0) << facts.name;
    const std::set<real> slopes(slope.begin(), slope.end());
    EXPECT_EQ(facts.rectifier, slopes == std::set<real>({0, 1})) << facts.name;
    if (facts.rectifier) expect_same_bits(slope_of_result, slope, facts.name);
  }
}

// The test of any threads asks for long arrays; of the other processors, for more than one block.
TEST(KernelsElementwiseCpu, unary_has_equal_bits_for_any_threads) {
  const int64_t n = 100003;
  const Reals x = noise(n, 1, 4);
  for (Unary f : k::every_unary) {
    Reals one(x.size(), poison), two = x;
    cpu::Stream s1{1}, s3{3};
    k::unary(s1, f, x.data(), n, one.data());
    k::unary(s3, f, two.data(), n, two.data());
    expect_same_bits(two, one, facts_of(f).name);
  }
}

TYPED_TEST(KernelsElementwise, unary_and_affine_work_in_place_and_at_any_place) {
  const Reals x = noise(2051, 1, 4);
  for (Unary f : k::every_unary) {
    Reals apart(x.size(), poison), over = x;
    unary_on<TypeParam>(f, x, apart);
    unary_on<TypeParam>(f, over, over);
    expect_same_bits(over, apart, facts_of(f).name);
    // An element's bits do not depend on its place in a vector or block.
    Reals single(1);
    for (size_t i : {size_t{3}, size_t{77}, size_t{2050}}) {
      unary_on<TypeParam>(f, {x[i]}, single);
      EXPECT_EQ(single[0], apart[i]);
    }
  }
  Reals y = x;
  TypeParam::run([&](auto& s) {
    k::affine(s, y.data(), real(-0.5), real(0.25), int64_t(y.size()), y.data());
    k::unary(s, k::Relu{}, nullptr, 0, nullptr);
    k::unary_bwd(s, k::Relu{}, nullptr, nullptr, 0, nullptr);
    k::affine(s, nullptr, 1, 1, 0, nullptr);
  });
  for (size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(y[i], -0.5 * x[i] + 0.25, 2 * eps);
}

real joined(Binary f, real a, real b) {
  return f == Binary::add ? a + b : f == Binary::sub ? a - b : f == Binary::mul ? a * b : a;
}

// y of all five axes, a and b with their own steps.
template <class Backend>
void check_binary(Binary f, const k::Broadcast& space, const std::string& what) {
  int64_t count = 1, last_a = 0, last_b = 0;
  for (size_t i = 0; i < 5; ++i) {
    count *= space.size[i];
    last_a += (space.size[i] - 1) * space.a[i];
    last_b += (space.size[i] - 1) * space.b[i];
  }
  const Reals a = noise(last_a + 1, 1), b = noise(last_b + 1, 2);
  Reals y(static_cast<size_t>(count), poison);
  Backend::run([&](auto& s) { k::binary(s, f, a.data(), b.data(), space, y.data()); });
  size_t at = 0;
  std::array<int64_t, 5> i{};
  const auto& n = space.size;
  for (i[0] = 0; i[0] < n[0]; ++i[0])
    for (i[1] = 0; i[1] < n[1]; ++i[1])
      for (i[2] = 0; i[2] < n[2]; ++i[2])
        for (i[3] = 0; i[3] < n[3]; ++i[3])
          for (i[4] = 0; i[4] < n[4]; ++i[4], ++at) {
            int64_t at_a = 0, at_b = 0;
            for (size_t x = 0; x < 5; ++x) {
              at_a += i[x] * space.a[x];
              at_b += i[x] * space.b[x];
            }
            const real va = a[size_t(at_a)], vb = b[size_t(at_b)];
            ASSERT_EQ(y[at], joined(f, va, vb)) << what << " at " << at;
          }
}

TYPED_TEST(KernelsElementwise, binary_broadcasts_along_any_axes) {
  for (Binary f : {Binary::add, Binary::sub, Binary::mul, Binary::first}) {
    check_binary<TypeParam>(f, {{1, 1, 1, 1, 1}, {}, {}}, "scalars");
    check_binary<TypeParam>(f, {{1, 1, 1, 1, 77}, {0, 0, 0, 0, 1}, {0, 0, 0, 0, 0}},
                            "vector and scalar");
    check_binary<TypeParam>(f, {{1, 1, 1, 1, 77}, {}, {}}, "two scalars over a row");
    check_binary<TypeParam>(f, {{2, 3, 4, 5, 6}, {360, 120, 30, 6, 1}, {360, 120, 30, 6, 1}},
                            "dense");
    check_binary<TypeParam>(f, {{1, 1, 3, 5, 33}, {0, 0, 165, 33, 1}, {0, 0, 0, 0, 1}}, "bias");
    check_binary<TypeParam>(f, {{1, 1, 3, 5, 33}, {0, 0, 165, 33, 1}, {0, 0, 5, 1, 0}},
                            "one a row");
    check_binary<TypeParam>(f, {{1, 2, 3, 5, 7}, {0, 0, 35, 7, 1}, {0, 105, 0, 7, 1}},
                            "outer axes");
    check_binary<TypeParam>(f, {{1, 1, 1, 9, 8}, {0, 0, 0, 1, 9}, {0, 0, 0, 8, 1}},
                            "transposed operand");
    check_binary<TypeParam>(f, {{2, 1, 3, 1, 5}, {15, 0, 5, 0, 1}, {1, 0, 0, 0, 2}},
                            "size 1 between");
    check_binary<TypeParam>(f, {{1, 1, 1, 31, 101}, {0, 0, 0, 101, 1}, {0, 0, 0, 0, 1}}, "blocks");
  }
}

TEST(KernelsElementwiseCpu, binary_shares_out_long_rows_and_many_rows) {
  for (const k::Broadcast& space :
       {k::Broadcast{{1, 1, 1, 300, 401}, {0, 0, 0, 401, 1}, {0, 0, 0, 401, 1}},
        {{1, 1, 1, 300, 401}, {0, 0, 0, 401, 1}, {0, 0, 0, 0, 1}}})
    check_binary<Cpu>(Binary::sub, space, "large");
}

TYPED_TEST(KernelsElementwise, binary_may_write_over_a_dense_operand) {
  const Reals a = noise(2 * 3 * 21, 1), b = noise(21, 2);
  const k::Broadcast space{{1, 1, 2, 3, 21}, {0, 0, 63, 21, 1}, {0, 0, 0, 0, 1}};
  const k::Broadcast swapped{space.size, space.b, space.a};
  Reals apart(a.size()), over_a = a, over_b = a;
  TypeParam::run([&](auto& s) {
    k::binary(s, Binary::mul, a.data(), b.data(), space, apart.data());
    k::binary(s, Binary::mul, over_a.data(), b.data(), space, over_a.data());
    k::binary(s, Binary::mul, b.data(), over_b.data(), swapped, over_b.data());
    k::binary(s, Binary::add, nullptr, nullptr, {{1, 1, 0, 3, 21}, {}, {}}, nullptr);
  });
  expect_same_bits(over_a, apart, "over a");
  expect_same_bits(over_b, apart, "over b");
}

TYPED_TEST(KernelsElementwise, copy_blocks_moves_strided_blocks) {
  const Reals src = noise(1700, 1);
  for (int64_t inner : {1, 3, 20}) {
    Reals dst(2200, real(-1));
    TypeParam::run(
        [&](auto& s) { k::copy_blocks(s, src.data() + 5, 31, 54, inner, dst.data(), 40); });
    for (int64_t i = 0; i < 55; ++i)
      for (int64_t j = 0; j < 40; ++j) {
        const real want = i < 54 && j < inner ? src[size_t(5 + i * 31 + j)] : real(-1);
        ASSERT_EQ(dst[size_t(i * 40 + j)], want);
      }
  }
  Reals same(12, 0), filled(1030, 0);
  TypeParam::run([&](auto& s) {
    k::copy_blocks(s, src.data(), 0, 4, 3, same.data(), 3);  // one block repeated
    k::copy_blocks(s, nullptr, 0, 0, 3, nullptr, 0);
    k::copy_blocks(s, nullptr, 3, 3, 0, nullptr, 3);
    k::fill(s, real(2.5), 1029, 1, filled.data());
    k::fill(s, real(7), 3, 400, filled.data());
    k::fill(s, real(2.5), 0, 1, nullptr);
  });
  for (size_t i = 0; i < 12; ++i) EXPECT_EQ(same[i], src[i % 3]);
  for (size_t i = 0; i < 1030; ++i)
    EXPECT_EQ(filled[i], i % 400 == 0 ? real(7) : i < 1029 ? real(2.5) : real(0));
}

TYPED_TEST(KernelsElementwise, patches_are_ordered_as_a_convolution_weight) {
  for (const k::PatchSize& z : {k::PatchSize{2, 3, 8, 12, 4},
                                {3, 1, 6, 3, 3},
                                {1, 2, 5, 7, 1},
                                {2, 5, 14, 14, 7},
                                {0, 3, 4, 4, 2}}) {
    const int64_t p = z.patch, down = z.height / p, across = z.width / p;
    const Reals x = noise(z.batch * z.channels * z.height * z.width, 1);
    Reals y(x.size(), poison), back(x.size(), poison);
    TypeParam::run([&](auto& s) {
      k::patchify(s, x.data(), z, y.data());
      k::unpatchify(s, y.data(), z, back.data());
    });
    size_t at = 0;
    for (int64_t b = 0; b < z.batch; ++b)
      for (int64_t t = 0; t < down * across; ++t)
        for (int64_t c = 0; c < z.channels; ++c)
          for (int64_t i = 0; i < p; ++i)
            for (int64_t j = 0; j < p; ++j) {
              const int64_t line = (b * z.channels + c) * z.height + t / across * p + i;
              ASSERT_EQ(y[at++], x[size_t(line * z.width + t % across * p + j)]);
            }
    expect_same_bits(back, x, "unpatchify");
  }
}

TYPED_TEST(KernelsElementwise, rows_are_accumulated_in_ascending_order) {
  const int64_t rows = 7, count = 333;
  const Reals x = noise(rows * count, 1), weight = noise(rows, 2), before = noise(3 * count, 3);
  const std::vector<int32_t> slot{2, 0, -1, 2, 2, 0, -5};
  Reals state = before, want = before;
  TypeParam::run([&](auto& s) {
    k::accumulate(s, x.data(), weight.data(), slot.data(), rows, count, state.data());
    k::accumulate(s, nullptr, nullptr, nullptr, 0, count, state.data());
  });
  for (size_t r = 0; r < size_t(rows); ++r)
    for (size_t i = 0; i < size_t(count) && slot[r] >= 0; ++i) {
      const real term = weight[r] * x[r * size_t(count) + i];
      want[size_t(slot[r]) * size_t(count) + i] += term;
    }
  expect_same_bits(state, want, "state");
}

}  // namespace
}  // namespace whence
