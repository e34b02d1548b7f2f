// Tensor cores: rounding, the lane layouts of the matrix instructions, products with rounded
// factors.
#if defined(WHENCE_HAVE_SIMT) && !defined(WHENCE_F64)
#include "kernels/cuda/ptx.cuh"
#include "kernels/product.h"
#include "tests/ref/arrays.h"
#include "tests/ref/backends.h"

namespace whence {
namespace {

using namespace ref;

TEST(TensorFormats, bf16_rounds_to_the_nearest_and_ties_to_even) {
  const auto round = [](float x) { return gpu::to_float(gpu::to_bf16(x)); };
  EXPECT_EQ(round(1.0f), 1.0f);
  EXPECT_EQ(round(1.0f + 0x1p-8f), 1.0f);                       // a tie, down to even
  EXPECT_EQ(round(1.0f + 3 * 0x1p-8f), 1.0f + 2 * 0x1p-7f);     // a tie, up to even
  EXPECT_EQ(round(1.0f + 0x1p-8f + 0x1p-20f), 1.0f + 0x1p-7f);  // above a tie
  EXPECT_EQ(round(-3.14159265f), -3.140625f);
  EXPECT_EQ(round(0x1.fffffep127f), INFINITY);
  EXPECT_EQ(round(-INFINITY), -INFINITY);
  EXPECT_TRUE(std::isnan(round(NAN)));
  EXPECT_TRUE(std::isnan(round(gpu::float_of(0x7f800001))));  // all its set bits are cut off
  EXPECT_TRUE(std::signbit(round(-0.0f)));
}

TEST(TensorFormats, tf32_keeps_ten_bits_of_the_fraction) {
  const auto round = [](float x) { return gpu::float_of(gpu::to_tf32(x)); };
  EXPECT_EQ(round(1.0f + 0x1p-10f), 1.0f + 0x1p-10f);
  EXPECT_EQ(round(1.0f + 0x1p-11f), 1.0f + 0x1p-10f);  // a tie, away from zero
  EXPECT_EQ(round(-1.0f - 0x1p-11f), -1.0f - 0x1p-10f);
  EXPECT_EQ(round(1.0f + 0x1p-12f), 1.0f);
  EXPECT_EQ(round(-INFINITY), -INFINITY);
  EXPECT_TRUE(std::isnan(round(NAN)));
}

// One warp multiplies matrices of small integers, which every format holds exactly. The lanes'
// parts are written out from the manual's tables, element by element.
__global__ void bf16_kernel(const float* a, const float* b, float* c) {
  const int g = int(threadIdx.x) / 4, t = int(threadIdx.x) % 4;
  const auto at = [&](int row, int k) { return gpu::pair(a[row * 16 + k], a[row * 16 + k + 1]); };
  const uint32_t left[4] = {at(g, 2 * t), at(g + 8, 2 * t), at(g, 2 * t + 8), at(g + 8, 2 * t + 8)};
  const auto down = [&](int k) { return gpu::pair(b[k * 8 + g], b[(k + 1) * 8 + g]); };
  const uint32_t right[2] = {down(2 * t), down(2 * t + 8)};
  float sum[4] = {1, 1, 1, 1};
  gpu::multiply_bf16(sum, left, right);
  for (int i = 0; i < 4; ++i) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
}
__global__ void tf32_kernel(const float* a, const float* b, float* c) {
  const int g = int(threadIdx.x) / 4, t = int(threadIdx.x) % 4;
  const auto at = [&](int row, int k) { return gpu::to_tf32(a[row * 8 + k]); };
  const uint32_t left[4] = {at(g, t), at(g + 8, t), at(g, t + 4), at(g + 8, t + 4)};
  const uint32_t right[2] = {gpu::to_tf32(b[t * 8 + g]), gpu::to_tf32(b[(t + 4) * 8 + g])};
  float sum[4] = {1, 1, 1, 1};
  gpu::multiply_tf32(sum, left, right);
  for (int i = 0; i < 4; ++i) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
}
// The 16 x 16 halves of `x` come through ldmatrix, as they are and transposed, 8x8 at a time.
__global__ void load_kernel(const uint16_t* x, uint32_t* plain, uint32_t* transposed) {
  WHENCE_SHARED(uint16_t, tile, [16][24]);
  const auto lane = int(threadIdx.x);
  for (int i = lane; i < 256; i += 32) tile[i / 16][i % 16] = x[i];
  __syncwarp();
  const uint16_t* row = &tile[lane / 8 % 2 * 8 + lane % 8][lane / 16 * 8];
  uint32_t words[4];
  gpu::load_matrices(words, row);
  for (int i = 0; i < 4; ++i) plain[lane * 4 + i] = words[i];
  gpu::load_matrices<true>(words, row);
  for (int i = 0; i < 4; ++i) transposed[lane * 4 + i] = words[i];
}

template <class Kernel>
void expect_product(Kernel kernel, int depth) {
  std::vector<float> a(size_t(16 * depth)), b(size_t(depth * 8)), c(16 * 8, NAN);
  for (size_t i = 0; i < a.size(); ++i) a[i] = float(int(i * 37 % 23) - 11);
  for (size_t i = 0; i < b.size(); ++i) b[i] = float(int(i * 29 % 19) - 9);
  Emulated<simt::Order::priority>::run([&](auto& s) {
    gpu::launch(s, {1, 32}, kernel, static_cast<const float*>(a.data()),
                static_cast<const float*>(b.data()), c.data());
  });
  for (int r = 0; r < 16; ++r)
    for (int n = 0; n < 8; ++n) {
      float want = 1;
      for (int k = 0; k < depth; ++k) want += a[size_t(r * depth + k)] * b[size_t(k * 8 + n)];
      EXPECT_EQ(c[size_t(r * 8 + n)], want) << r << " " << n;
    }
}

TEST(TensorInstructions, products_of_integers_are_exact) {
  expect_product(bf16_kernel, 16);
  expect_product(tf32_kernel, 8);
}

TEST(TensorInstructions, matrices_are_loaded_as_documented) {
  std::vector<uint16_t> x(256);
  for (size_t i = 0; i < 256; ++i) x[i] = uint16_t(i * 251 + 7);
  std::vector<uint32_t> plain(128), transposed(128);
  Emulated<simt::Order::priority>::run([&](auto& s) {
    gpu::launch(s, {1, 32}, load_kernel, static_cast<const uint16_t*>(x.data()), plain.data(),
                transposed.data());
  });
  for (int l = 0; l < 32; ++l)
    for (int m = 0; m < 4; ++m) {
      const int top = m % 2 * 8, left = m / 2 * 8, g = l / 4, t = l % 4;
      const auto at = [&](int r, int c) { return uint32_t{x[size_t((top + r) * 16 + left + c)]}; };
      EXPECT_EQ(plain[size_t(l * 4 + m)], at(g, 2 * t) | at(g, 2 * t + 1) << 16);
      EXPECT_EQ(transposed[size_t(l * 4 + m)], at(2 * t, g) | at(2 * t + 1, g) << 16);
    }
}

struct Operands {
  Reals a, packed, b, bias, residual;
  int64_t m, n, k;
  Operands(int64_t m_, int64_t n_, int64_t k_)
      : a(noise(m_ * (k_ + 3), 1)),
        packed(size_t(k::packed_count(n_, k_)), poison),
        b(noise(n_ * k_, 2)),
        bias(noise(n_, 3)),
        residual(noise(m_ * n_, 4)),
        m(m_),
        n(n_),
        k(k_) {}
  // Rows of a are k + 3 apart: nothing may rely on their alignment.
  template <class Backend>
  Reals run(Precision precision, int64_t rows) {
    Reals c(size_t(rows * n), poison);
    Backend::run([&](auto& s) {
      s.precision = precision;
      k::pack(s, b.data(), n, k, k, 1, packed.data());
      k::product(s, a.data(), k + 3, packed.data(), rows, n, k,
                 {bias.data(), k::Relu{}, residual.data()}, c.data(), n);
    });
    return c;
  }
  double rounded(Precision p, real x) const {
    return p == Precision::bf16   ? gpu::to_float(gpu::to_bf16(x))
           : p == Precision::tf32 ? gpu::float_of(gpu::to_tf32(x))
                                  : x;
  }
};

using Schedules =
    testing::Types<Emulated<simt::Order::random, 4>, Emulated<simt::Order::priority, 5>>;
struct Names {
  template <class T>
  static std::string GetName(int i) {
    return "simt" + std::to_string(i);
  }
};
template <class T>
struct TensorProduct : testing::Test {};
TYPED_TEST_SUITE(TensorProduct, Schedules, Names);

TYPED_TEST(TensorProduct, equals_double_sums_of_rounded_factors) {
  for (const auto& [m, n, k] : {std::array<int64_t, 3>{2, 3, 8}, {65, 70, 40}, {130, 33, 72}})
    for (const Precision precision : {Precision::bf16, Precision::tf32}) {
      Operands x(m, n, k);
      Bounded want(size_t(m * n));
      for (int64_t i = 0; i < m; ++i)
        for (int64_t j = 0; j < n; ++j) {
          double sum = x.bias[size_t(j)], size = std::abs(sum);
          for (int64_t d = 0; d < k; ++d) {
            const double term = x.rounded(precision, x.a[size_t(i * (k + 3) + d)]) *
                                x.rounded(precision, x.b[size_t(j * k + d)]);
            sum += term;
            size += std::abs(term);
          }
          const auto at = size_t(i * n + j);
          want.value[at] = std::max(sum, 0.0) + x.residual[at];
          want.error[at] = double(k + 3) * eps * (size + 1);
        }
      expect_within(x.template run<TypeParam>(precision, m), want,
                    to_string(precision) + " k " + std::to_string(k));
    }
}

TYPED_TEST(TensorProduct, bits_do_not_depend_on_the_rows_that_share_a_call) {
  Operands x(130, 40, 48);
  for (const Precision precision : {Precision::bf16, Precision::tf32}) {
    const Reals all = x.template run<TypeParam>(precision, 130),
                few = x.template run<TypeParam>(precision, 3);
    expect_same_bits(few, std::span(all).first(few.size()), to_string(precision));
  }
}

TYPED_TEST(TensorProduct, sums_that_do_not_fill_16_bytes_are_computed_in_f32) {
  Operands x(5, 7, 12);
  expect_same_bits(x.template run<TypeParam>(Precision::bf16, 5),
                   x.template run<TypeParam>(Precision::f32, 5), "k 12");
}

}  // namespace
}  // namespace whence
#endif
