// Activations, broadcasting pairs, sums over axes, copies and patches.
#include <array>

#include "kernels/elementwise.h"
#include "tests/ref/rows.h"

namespace whence {
namespace {

using namespace ref;
using k::Binary;
using k::Unary;

constexpr Unary functions[] = {Unary::identity,  Unary::relu,       Unary::gelu,
                               Unary::gelu_tanh, Unary::gelu_quick, Unary::tanh};

TEST(KernelsElementwise, activations_have_their_published_values) {
  const Reals x = {-3, -1, real(0.5), 1, 3};
  const std::pair<Unary, Doubles> rows[] = {
      {Unary::gelu, {-0.004049694, -0.158655254, 0.345731231, 0.841344746, 2.995950306}},
      {Unary::gelu_tanh, {-0.003637392, -0.158808009, 0.345714010, 0.841191991, 2.996362608}},
      {Unary::gelu_quick, {-0.018071310, -0.154204234, 0.350388437, 0.845795766, 2.981928690}},
  };
  cpu::Stream s{1};
  for (const auto& [f, want] : rows) {
    Reals y(x.size());
    k::unary(s, f, x.data(), int64_t(x.size()), y.data());
    for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(y[i], want[i], 6e-10 + eps * std::abs(x[i]));
  }
}

TEST(KernelsElementwise, activations_match_double_on_a_fine_grid) {
  Reals x;
  for (int i = -4000; i <= 4000; ++i) x.push_back(real(i * 0.003));
  for (real tiny : {1e-3, 1e-6, 1e-20, 1e-37}) {
    x.push_back(tiny);
    x.push_back(-tiny);
  }
  cpu::Stream s{2};
  for (Unary f : functions) {
    Reals y(x.size(), poison);
    k::unary(s, f, x.data(), int64_t(x.size()), y.data());
    Bounded want(x.size());
    for (size_t i = 0; i < x.size(); ++i) {
      want.value[i] = unary(f, x[i]);
      // A few roundings relative to the value. The factor of gelu_tanh is 1 + tanh, and cancels
      // where it is small, and that of gelu_quick takes an exponential of a rounded argument.
      double error = 6 * eps * std::abs(want.value[i]);
      if (f == Unary::gelu_tanh) error += 2 * eps * std::abs(x[i]);
      if (f == Unary::gelu_quick) error *= 1 + std::abs(x[i]) / 3;
      // The double build's erfc takes a rounded argument, which its square amplifies.
      if (f == Unary::gelu && sizeof(real) == 8) error *= 1 + double(x[i]) * x[i] / 4;
      want.error[i] = error + 1e-44;
    }
    expect_within(y, want, "function " + std::to_string(int(f)));
  }
}

TEST(KernelsElementwise, activation_gradients_match_differences) {
  Reals x;
  for (int i = -300; i <= 300; ++i) x.push_back(real(i * 0.041 + 0.0007));
  const Reals dy = noise(int64_t(x.size()), 3);
  cpu::Stream s{1};
  for (Unary f : functions) {
    Reals dx(x.size(), poison);
    k::unary_bwd(s, f, x.data(), dy.data(), int64_t(x.size()), dx.data());
    Bounded want(x.size());
    for (size_t i = 0; i < x.size(); ++i) {
      const double h = 1e-5, at = x[i];
      want.value[i] = dy[i] * (unary(f, at + h) - unary(f, at - h)) / (2 * h);
      want.error[i] = 12 * eps + 1e-8;
    }
    expect_within(dx, want, "function " + std::to_string(int(f)));
    Reals in_place = dy;
    k::unary_bwd(s, f, x.data(), in_place.data(), int64_t(x.size()), in_place.data());
    expect_same_bits(in_place, dx, "in place");
  }
  const real at_zero = 0, one = 1;
  real slope = poison;
  k::unary_bwd(s, Unary::relu, &at_zero, &one, 1, &slope);
  EXPECT_EQ(slope, 0);
}

TEST(KernelsElementwise, activations_at_the_ends_of_the_range) {
  constexpr real inf = std::numeric_limits<real>::infinity();
  constexpr real top = std::numeric_limits<real>::max();
  cpu::Stream s{1};
  for (Unary f : functions) {
    const Reals x = {top, inf, poison, real(-30), 0};
    Reals y(5), slope(5);
    const Reals one(5, 1);
    k::unary(s, f, x.data(), 5, y.data());
    k::unary_bwd(s, f, x.data(), one.data(), 5, slope.data());
    EXPECT_EQ(y[0], f == Unary::tanh ? 1 : top) << int(f);
    EXPECT_EQ(y[1], f == Unary::tanh ? 1 : inf) << int(f);
    EXPECT_TRUE(std::isnan(y[2])) << int(f);
    EXPECT_TRUE(std::isnan(slope[2])) << int(f);
    if (f != Unary::identity && f != Unary::tanh) {
      EXPECT_NEAR(y[3], 0, 1e-20) << int(f);
    }
    EXPECT_EQ(y[4], 0) << int(f);
    EXPECT_FALSE(std::isnan(slope[0])) << int(f);
  }
}

TEST(KernelsElementwise, unary_and_affine_work_in_place_and_for_any_threads) {
  const int64_t n = 100003;
  const Reals x = noise(n, 1, 4);
  for (Unary f : functions) {
    Reals one(x.size(), poison), two = x;
    cpu::Stream s1{1}, s3{3};
    k::unary(s1, f, x.data(), n, one.data());
    k::unary(s3, f, two.data(), n, two.data());
    expect_same_bits(two, one, "function " + std::to_string(int(f)));
    // An element's bits do not depend on its place in a vector.
    Reals single(1);
    for (size_t i : {size_t{3}, size_t{77}, size_t(n - 1)}) {
      k::unary(s1, f, &x[i], 1, single.data());
      EXPECT_EQ(single[0], one[i]);
    }
  }
  Reals y = x;
  cpu::Stream s{2};
  k::affine(s, y.data(), real(-0.5), real(0.25), n, y.data());
  for (size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(y[i], -0.5 * x[i] + 0.25, 2 * eps);
  k::unary(s, Unary::relu, nullptr, 0, nullptr);
}

// y of all five axes, a and b with their own steps.
void check_binary(Binary f, const k::Broadcast& space, const std::string& what) {
  int64_t count = 1, last_a = 0, last_b = 0;
  for (size_t i = 0; i < 5; ++i) {
    count *= space.size[i];
    last_a += (space.size[i] - 1) * space.a[i];
    last_b += (space.size[i] - 1) * space.b[i];
  }
  const Reals a = noise(last_a + 1, 1), b = noise(last_b + 1, 2);
  for (int threads : {1, 3}) {
    Reals y(static_cast<size_t>(count), poison);
    cpu::Stream s{threads};
    k::binary(s, f, a.data(), b.data(), space, y.data());
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
              const real want = f == Binary::add ? va + vb : f == Binary::sub ? va - vb : va * vb;
              ASSERT_EQ(y[at], want) << what << " at " << at;
            }
  }
}

TEST(KernelsElementwise, binary_broadcasts_along_any_axes) {
  for (Binary f : {Binary::add, Binary::sub, Binary::mul}) {
    check_binary(f, {{1, 1, 1, 1, 1}, {}, {}}, "scalars");
    check_binary(f, {{1, 1, 1, 1, 77}, {0, 0, 0, 0, 1}, {0, 0, 0, 0, 0}}, "vector and scalar");
    check_binary(f, {{1, 1, 1, 1, 77}, {}, {}}, "two scalars over a row");
    check_binary(f, {{2, 3, 4, 5, 6}, {360, 120, 30, 6, 1}, {360, 120, 30, 6, 1}}, "dense");
    check_binary(f, {{1, 1, 3, 5, 33}, {0, 0, 165, 33, 1}, {0, 0, 0, 0, 1}}, "bias");
    check_binary(f, {{1, 1, 3, 5, 33}, {0, 0, 165, 33, 1}, {0, 0, 5, 1, 0}}, "one a row");
    check_binary(f, {{1, 2, 3, 5, 7}, {0, 0, 35, 7, 1}, {0, 105, 0, 7, 1}}, "outer axes");
    check_binary(f, {{1, 1, 1, 9, 8}, {0, 0, 0, 1, 9}, {0, 0, 0, 8, 1}}, "transposed operand");
    check_binary(f, {{1, 1, 1, 300, 401}, {0, 0, 0, 401, 1}, {0, 0, 0, 401, 1}}, "large");
  }
}

TEST(KernelsElementwise, binary_may_write_over_a_dense_operand) {
  const Reals a = noise(2 * 3 * 21, 1), b = noise(21, 2);
  cpu::Stream s{1};
  const k::Broadcast space{{1, 1, 2, 3, 21}, {0, 0, 63, 21, 1}, {0, 0, 0, 0, 1}};
  Reals apart(a.size()), over = a;
  k::binary(s, Binary::mul, a.data(), b.data(), space, apart.data());
  k::binary(s, Binary::mul, over.data(), b.data(), space, over.data());
  expect_same_bits(over, apart, "over a");
  const k::Broadcast swapped{space.size, space.b, space.a};
  over = a;
  k::binary(s, Binary::mul, b.data(), over.data(), swapped, over.data());
  expect_same_bits(over, apart, "over b");
  k::binary(s, Binary::add, nullptr, nullptr, {{1, 1, 0, 3, 21}, {}, {}}, nullptr);
}

TEST(KernelsElementwise, reduce_sum_over_every_subset_of_axes) {
  for (const std::array<int64_t, 5>& n : {std::array<int64_t, 5>{2, 3, 5, 4, 19},
                                          {1, 7, 1, 3, 40},
                                          {3, 1, 1, 1, 1},
                                          {1, 1, 1, 2, 300}}) {
    const Reals x = noise(n[0] * n[1] * n[2] * n[3] * n[4], 4);
    for (unsigned mask = 0; mask < 32; ++mask) {
      std::array<bool, 5> kept{};
      std::array<int64_t, 5> step{};
      int64_t outputs = 1;
      for (size_t axis = 5; axis-- > 0;) {
        kept[axis] = mask >> axis & 1;
        step[axis] = kept[axis] ? outputs : 0;
        if (kept[axis]) outputs *= n[axis];
      }
      Bounded want(static_cast<size_t>(outputs));
      std::array<int64_t, 5> i{};
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
      Reals one;
      for (int threads : {1, 2, 5}) {
        Reals y(size_t(outputs), poison);
        cpu::Stream s{threads};
        k::reduce_sum(s, x.data(), n, kept, real(0.25), y.data());
        expect_within(y, want, "mask " + std::to_string(mask));
        if (threads == 1) one = y;
        expect_same_bits(y, one, "threads");
      }
    }
  }
}

TEST(KernelsElementwise, reduce_sum_of_large_tensors_has_equal_bits_for_any_threads) {
  const std::array<int64_t, 5> n{1, 3, 50, 40, 96};
  const Reals x = noise(3 * 50 * 40 * 96, 9);
  for (const std::array<bool, 5>& kept :
       {std::array<bool, 5>{0, 0, 0, 0, 1}, {0, 1, 0, 0, 0}, {0, 1, 0, 1, 0}, {0, 0, 1, 0, 1}}) {
    Reals one(1 * 3 * 50 * 40 * 96), two(one.size());
    cpu::Stream s1{1}, s2{2};
    k::reduce_sum(s1, x.data(), n, kept, 1, one.data());
    k::reduce_sum(s2, x.data(), n, kept, 1, two.data());
    expect_same_bits(two, one, "threads");
  }
}

TEST(KernelsElementwise, sums_over_nothing_are_zero) {
  Reals y(3, poison);
  cpu::Stream s{1};
  k::reduce_sum(s, nullptr, {1, 1, 1, 0, 3}, {true, true, true, false, true}, 1, y.data());
  for (real v : y) EXPECT_EQ(v, 0);
  y[0] = poison;
  k::reduce_sum(s, nullptr, {1, 1, 1, 1, 0}, {true, true, true, true, false}, 1, y.data());
  EXPECT_EQ(y[0], 0);
}

TEST(KernelsElementwise, copy_blocks_moves_strided_blocks) {
  const Reals src = noise(1000, 1);
  cpu::Stream s{2};
  for (int64_t inner : {1, 3, 20}) {
    Reals dst(1500, real(-1));
    k::copy_blocks(s, src.data() + 5, 31, 25, inner, dst.data(), 40);
    for (int64_t i = 0; i < 25; ++i)
      for (int64_t j = 0; j < 40; ++j) {
        const real want = j < inner ? src[size_t(5 + i * 31 + j)] : real(-1);
        ASSERT_EQ(dst[size_t(i * 40 + j)], want);
      }
  }
  Reals same(12, 0);
  k::copy_blocks(s, src.data(), 0, 4, 3, same.data(), 3);  // one block repeated
  for (size_t i = 0; i < 12; ++i) EXPECT_EQ(same[i], src[i % 3]);
  k::copy_blocks(s, nullptr, 0, 0, 3, nullptr, 0);
  k::fill(s, real(2.5), 12, same.data());
  for (real v : same) EXPECT_EQ(v, real(2.5));
}

TEST(KernelsElementwise, patches_are_ordered_as_a_convolution_weight) {
  const k::PatchSize z{2, 3, 8, 12, 4};
  const Reals x = noise(2 * 3 * 8 * 12, 1);
  Reals y(x.size(), poison), back(x.size(), poison);
  cpu::Stream s{2};
  k::patchify(s, x.data(), z, y.data());
  for (int64_t b = 0; b < 2; ++b)
    for (int64_t t = 0; t < 6; ++t)
      for (int64_t c = 0; c < 3; ++c)
        for (int64_t i = 0; i < 4; ++i)
          for (int64_t j = 0; j < 4; ++j) {
            const real pixel = x[size_t(((b * 3 + c) * 8 + t / 3 * 4 + i) * 12 + t % 3 * 4 + j)];
            ASSERT_EQ(y[size_t(((b * 6 + t) * 3 + c) * 16 + i * 4 + j)], pixel);
          }
  k::unpatchify(s, y.data(), z, back.data());
  expect_same_bits(back, x, "unpatchify");
}

}  // namespace
}  // namespace whence
