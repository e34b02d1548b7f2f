// pack and product: sums, epilogues, and bits that depend on nothing but the operands.
#include "kernels/product.h"
#include "tests/ref/linear.h"
#include "tests/ref/rows.h"

namespace whence {
namespace {

using namespace ref;
using k::Unary;

struct Problem {
  int64_t m, n, k;
  Reals a, b, packed;
  Problem(int64_t m_, int64_t n_, int64_t k_, uint64_t seed)
      : m(m_),
        n(n_),
        k(k_),
        a(noise(m * k, seed)),
        b(noise(n * k, seed + 100)),
        packed(size_t(k::packed_count(n, k)), poison) {
    cpu::Stream s{1};
    k::pack(s, b.data(), n, k, k, 1, packed.data());
  }
  Reals run(int threads, const k::Epilogue& e = {}) const {
    cpu::Stream s{threads};
    Reals c(size_t(m * n), poison);
    k::product(s, a.data(), k, packed.data(), m, n, k, e, c.data(), n);
    return c;
  }
};

TEST(KernelsProduct, sums_match_double_loops_for_all_sizes) {
  // Each size of a tile's rows, panels that are full, half and less, no rows, no columns.
  for (int64_t m : {0, 1, 2, 3, 5, 6, 7, 13, 14, 15, 29, 43})
    for (int64_t n : {0, 1, 7, 16, 17, 32, 33, 63, 100})
      for (int64_t k : {0, 1, 5, 64, 129}) {
        const Problem p(m, n, k, uint64_t(m * 10007 + n * 101 + k));
        const Bounded want = product(p.a, k, p.b, k, 1, m, n, k);
        expect_within(
            p.run(1), want,
            "m " + std::to_string(m) + " n " + std::to_string(n) + " k " + std::to_string(k));
      }
}

TEST(KernelsProduct, large_product_matches_double_loops) {
  const Problem p(197, 259, 1031, 5);
  expect_within(p.run(2), product(p.a, p.k, p.b, p.k, 1, p.m, p.n, p.k), "197 x 259 x 1031");
}

TEST(KernelsProduct, rows_and_columns_may_be_strided) {
  const int64_t m = 17, n = 41, k = 23, lda = 31, ldc = 57;
  const Reals a = noise(m * lda, 1),
              bt = noise(k * n, 2);  // b transposed: element (n, k) at k n_ + n
  cpu::Stream s{2};
  Reals packed(size_t(k::packed_count(n, k)), poison);
  k::pack(s, bt.data(), n, k, 1, n, packed.data());
  const Bounded want = product(a, lda, bt, 1, n, m, n, k);
  Reals c(size_t(m * ldc), real(-7));
  k::product(s, a.data(), lda, packed.data(), m, n, k, {}, c.data(), ldc);
  for (int64_t i = 0; i < m; ++i) {
    Bounded row(static_cast<size_t>(n));
    for (size_t j = 0; j < size_t(n); ++j) {
      row.value[j] = want.value[size_t(i * n) + j];
      row.error[j] = want.error[size_t(i * n) + j];
    }
    expect_within(std::span(c).subspan(size_t(i * ldc), size_t(n)), row, "strided row");
    for (int64_t j = n; j < ldc; ++j) ASSERT_EQ(c[size_t(i * ldc + j)], real(-7)) << "gap written";
  }
}

TEST(KernelsProduct, pack_accepts_any_strides) {
  const int64_t n = 45, k = 37;
  const Reals b = noise(3 * n * 2 * k, 9);
  cpu::Stream s{1}, s2{2};
  Reals dense, packed(size_t(k::packed_count(n, k))), again(packed.size());
  for (int64_t j = 0; j < n; ++j)
    for (int64_t x = 0; x < k; ++x) dense.push_back(b[size_t(j * 6 * k + x * 3)]);
  k::pack(s, b.data(), n, k, 6 * k, 3, packed.data());
  k::pack(s2, dense.data(), n, k, k, 1, again.data());
  expect_same_bits(again, packed, "packed");
}

TEST(KernelsProduct, bits_depend_neither_on_threads_nor_on_rows_in_the_call) {
  const Problem p(61, 97, 333, 21);
  const Reals bias = noise(p.n, 3);
  const k::Epilogue e{.bias = bias.data(), .activation = Unary::gelu};
  const Reals whole = p.run(1, e);
  for (int threads : {2, 3, 8}) expect_same_bits(p.run(threads, e), whole, "threads");
  for (int64_t part : {1, 2, 9, 14, 30}) {
    cpu::Stream s{2};
    Reals c(whole.size(), poison);
    for (int64_t i = 0; i < p.m; i += part) {
      k::product(s, p.a.data() + i * p.k, p.k, p.packed.data(), std::min(part, p.m - i), p.n, p.k,
                 e, c.data() + i * p.n, p.n);
    }
    expect_same_bits(c, whole, "parts of " + std::to_string(part));
  }
}

TEST(KernelsProduct, bits_do_not_depend_on_the_column_of_the_panel) {
  // The same row of b at different places of a panel, and alone.
  const int64_t m = 5, k = 77;
  const Reals a = noise(m * k, 1), b = noise(40 * k, 2);
  cpu::Stream s{1};
  const auto column = [&](int64_t first, int64_t n, int64_t at) {
    Reals packed(size_t(k::packed_count(n, k))), c(size_t(m * n));
    k::pack(s, b.data() + first * k, n, k, k, 1, packed.data());
    k::product(s, a.data(), k, packed.data(), m, n, k, {}, c.data(), n);
    Reals out;
    for (int64_t i = 0; i < m; ++i) out.push_back(c[size_t(i * n + at)]);
    return out;
  };
  const Reals alone = column(33, 1, 0);
  expect_same_bits(column(0, 40, 33), alone, "second panel");
  expect_same_bits(column(20, 20, 13), alone, "narrow panel");
}

TEST(KernelsProduct, epilogue_adds_bias_then_activates_then_adds_residual) {
  for (Unary f : {Unary::identity, Unary::relu, Unary::gelu, Unary::gelu_tanh, Unary::gelu_quick,
                  Unary::tanh}) {
    const Problem p(15, 50, 40, 77);
    const Reals bias = noise(p.n, 1), residual = noise(p.m * p.n, 2);
    Bounded want = product(p.a, p.k, p.b, p.k, 1, p.m, p.n, p.k);
    for (size_t i = 0; i < want.value.size(); ++i) {
      const double x = want.value[i] + bias[i % size_t(p.n)];
      want.value[i] = unary(f, x) + residual[i];
      // No activation is steeper than 1.13.
      want.error[i] = 1.13 * want.error[i] + 8 * eps * (std::abs(x) + std::abs(residual[i]) + 1);
    }
    k::Epilogue e{.bias = bias.data(), .activation = f, .residual = residual.data()};
    const Reals c = p.run(2, e);
    expect_within(c, want, "activation " + std::to_string(int(f)));
    // The residual may be the result's own memory.
    Reals in_place = residual;
    cpu::Stream s{1};
    e.residual = in_place.data();
    k::product(s, p.a.data(), p.k, p.packed.data(), p.m, p.n, p.k, e, in_place.data(), p.n);
    expect_same_bits(in_place, c, "in place");
  }
}

TEST(KernelsProduct, nothing_summed_leaves_the_epilogue) {
  const Reals bias = noise(5, 1);
  cpu::Stream s{1};
  Reals c(10, poison);
  k::product(s, nullptr, 0, nullptr, 2, 5, 0, {.bias = bias.data()}, c.data(), 5);
  for (size_t i = 0; i < 10; ++i) EXPECT_EQ(c[i], bias[i % 5]);
}

TEST(KernelsProduct, nan_reaches_its_row_or_column_only) {
  Problem p(16, 40, 20, 3);
  p.a[3 * 20 + 7] = poison;
  const Reals c = p.run(1);
  for (size_t i = 0; i < c.size(); ++i) EXPECT_EQ(std::isnan(c[i]), i / 40 == 3) << i;
  for (Unary f : {Unary::relu, Unary::gelu, Unary::gelu_tanh, Unary::gelu_quick, Unary::tanh}) {
    const Reals after = p.run(1, {.activation = f});
    EXPECT_TRUE(std::isnan(after[3 * 40 + 39])) << int(f);
    EXPECT_FALSE(std::isnan(after[39])) << int(f);
  }
}

}  // namespace
}  // namespace whence
