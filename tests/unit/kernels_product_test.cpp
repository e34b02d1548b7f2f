// pack and product: sums, epilogues, and bits that depend on nothing but the operands.
#include "kernels/product.h"
#include "tests/ref/backends.h"
#include "tests/ref/functions.h"
#include "tests/ref/linear.h"

namespace whence {
namespace {

using namespace ref;
using k::Unary;

// c [m, n], each element one chain of fused multiply-adds in ascending k.
Reals chains(const Reals& a, const Reals& b, int64_t m, int64_t n, int64_t k) {
  Reals c(static_cast<size_t>(m * n));
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      real sum = 0;
      for (int64_t x = 0; x < k; ++x)
        sum = std::fma(a[size_t(i * k + x)], b[size_t(j * k + x)], sum);
      c[size_t(i * n + j)] = sum;
    }
  return c;
}

template <class Backend>
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
    Backend::run([&](auto& s) { k::pack(s, b.data(), n, k, k, 1, packed.data()); });
  }
  Reals run(const k::Epilogue& e = {}) const { return run_parts(std::max<int64_t>(m, 1), e); }
  Reals run_parts(int64_t part, const k::Epilogue& e = {}) const {
    Reals c(size_t(m * n), poison);
    Backend::run([&](auto& s) {
      for (int64_t i = 0; i < m; i += part)
        k::product(s, a.data() + i * k, k, packed.data(), std::min(part, m - i), n, k, e,
                   c.data() + i * n, n);
    });
    return c;
  }
  Bounded want() const { return product(a, k, b, k, 1, m, n, k); }
};

template <class Backend>
struct KernelsProduct : testing::Test {};
TYPED_TEST_SUITE(KernelsProduct, Backends, BackendNames);

TYPED_TEST(KernelsProduct, sums_match_double_loops_for_all_sizes) {
  // Each size of a tile's rows, panels that are full, half and less, no rows, no columns.
  for (int64_t m : {0, 1, 2, 3, 5, 6, 7, 13, 14, 15, 29, 43})
    for (int64_t n : {0, 1, 7, 16, 17, 32, 33, 63, 100})
      for (int64_t k : {0, 1, 5, 64, 129}) {
        const Problem<TypeParam> p(m, n, k, uint64_t(m * 10007 + n * 101 + k));
        expect_within(
            p.run(), p.want(),
            "m " + std::to_string(m) + " n " + std::to_string(n) + " k " + std::to_string(k));
      }
}

TEST(KernelsProductCpu, large_product_matches_double_loops) {
  const Problem<Cpu> p(197, 259, 1031, 5);
  expect_within(p.run(), p.want(), "197 x 259 x 1031");
}

// Results so large that a device takes its middle and its wide tiles, in steps of which the last
// one is not full; the tiles at the edges are not full either.
TYPED_TEST(KernelsProduct, every_element_is_one_chain_in_tiles_of_any_size) {
  const int64_t shapes[][3] = {
      {11, 45, 133}, {37, 45, 133}, {200, 2021, 37}, {77, 16263, 19}, {65, 16321, 16}};
  for (const auto& [m, n, k] : shapes) {
    const Problem<TypeParam> p(m, n, k, uint64_t(k));
    expect_same_bits(p.run(), chains(p.a, p.b, m, n, k), std::to_string(m) + " rows");
  }
}

// Sums of the CPU are those of chains of 256: errors grow with the chain, not with k.
TEST(KernelsProductCpu, long_sums_are_sums_of_chains) {
  for (const int64_t k : {256, 257, 512, 1031}) {
    const Problem<Cpu> p(17, 45, k, uint64_t(k));
    Reals want;
    for (int64_t x = 0; x < k; x += 256) {
      const int64_t n = std::min<int64_t>(256, k - x);
      Reals a, b;
      for (int64_t i = 0; i < p.m; ++i)
        a.insert(a.end(), &p.a[size_t(i * k + x)], &p.a[size_t(i * k + x)] + n);
      for (int64_t j = 0; j < p.n; ++j)
        b.insert(b.end(), &p.b[size_t(j * k + x)], &p.b[size_t(j * k + x)] + n);
      const Reals part = chains(a, b, p.m, p.n, n);
      for (size_t i = 0; i < part.size(); ++i)
        if (x == 0)
          want.push_back(part[i]);
        else
          want[i] += part[i];
    }
    expect_same_bits(p.run(), want, std::to_string(k) + " summed");
  }
}

TYPED_TEST(KernelsProduct, a_sum_that_underflows_keeps_its_sign) {
  Problem<TypeParam> p(2, 3, 5, 1);
  const real tiny = std::numeric_limits<real>::min();
  p.a.assign(p.a.size(), -tiny);
  p.b.assign(p.b.size(), tiny);
  TypeParam::run([&](auto& s) { k::pack(s, p.b.data(), p.n, p.k, p.k, 1, p.packed.data()); });
  for (real x : p.run()) EXPECT_TRUE(x == 0 && std::signbit(x)) << x;
}

TYPED_TEST(KernelsProduct, parts_of_weights_have_the_bits_of_packed_parts) {
  const auto part_of = [](k::Part part, real b) {
    return part == k::Part::all        ? b
           : part == k::Part::positive ? std::max(b, real(0))
                                       : std::min(b, real(0));
  };
  const int64_t shapes[][3] = {{1, 33, 70}, {5, 17, 1}, {29, 100, 129}, {77, 16263, 5}, {3, 5, 0}};
  for (const auto& [m, n, k] : shapes) {
    const Problem<TypeParam> p(m, n, k, 7);
    const Reals bias = noise(n, 3), residual = noise(m * n, 4);
    const k::Epilogue e{bias.data(), k::Relu{}, residual.data(), false};
    for (const k::Part part : {k::Part::all, k::Part::positive, k::Part::negative}) {
      Problem<TypeParam> packed = p;
      for (real& b : packed.b) b = part_of(part, b);
      TypeParam::run(
          [&](auto& s) { k::pack(s, packed.b.data(), n, k, k, 1, packed.packed.data()); });
      Reals c(size_t(m * n), poison);
      TypeParam::run([&](auto& s) {
        k::part_product(s, part, p.a.data(), k, p.packed.data(), m, n, k, e, c.data(), n);
      });
      expect_same_bits(c, packed.run(e), "part " + std::to_string(int(part)));
    }
  }
}

TYPED_TEST(KernelsProduct, rows_and_columns_may_be_strided) {
  const int64_t m = 17, n = 41, k = 23, lda = 31, ldc = 57;
  Reals a = noise(m * lda, 1);
  const Reals bt = noise(k * n, 2);  // b transposed: element (n, k) at k n_ + n
  for (int64_t i = 0; i < m; ++i)
    for (int64_t x = k; x < lda; ++x) a[size_t(i * lda + x)] = poison;
  Reals packed(size_t(k::packed_count(n, k)), poison), c(size_t(m * ldc), real(-7));
  TypeParam::run([&](auto& s) {
    k::pack(s, bt.data(), n, k, 1, n, packed.data());
    k::product(s, a.data(), lda, packed.data(), m, n, k, {}, c.data(), ldc);
  });
  const Bounded want = product(a, lda, bt, 1, n, m, n, k);
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

TYPED_TEST(KernelsProduct, pack_accepts_any_strides) {
  const int64_t n = 45, k = 37;
  const Reals b = noise(3 * n * 2 * k, 9);
  Reals dense, transposed(size_t(n * k));
  for (int64_t j = 0; j < n; ++j)
    for (int64_t x = 0; x < k; ++x) {
      dense.push_back(b[size_t(j * 6 * k + x * 3)]);
      transposed[size_t(x * n + j)] = dense.back();
    }
  Reals want(size_t(k::packed_count(n, k))), packed(want.size()), turned(want.size());
  TypeParam::run([&](auto& s) {
    k::pack(s, dense.data(), n, k, k, 1, want.data());
    k::pack(s, b.data(), n, k, 6 * k, 3, packed.data());
    k::pack(s, transposed.data(), n, k, 1, n, turned.data());
  });
  expect_same_bits(packed, want, "strided");
  expect_same_bits(turned, want, "transposed");
}

TEST(KernelsProductCpu, bits_do_not_depend_on_threads) {
  const Problem<Cpu> p(61, 97, 333, 21);
  const Reals bias = noise(p.n, 3);
  const k::Epilogue e{.bias = bias.data(), .activation = k::Gelu{}};
  const Reals whole = p.run(e);
  for (int threads : {1, 3, 8}) {
    cpu::Stream s{threads};
    Reals packed(p.packed.size()), c(whole.size(), poison);
    k::pack(s, p.b.data(), p.n, p.k, p.k, 1, packed.data());
    k::product(s, p.a.data(), p.k, packed.data(), p.m, p.n, p.k, e, c.data(), p.n);
    expect_same_bits(packed, p.packed, "packed");
    expect_same_bits(c, whole, "threads");
  }
}

TYPED_TEST(KernelsProduct, bits_do_not_depend_on_how_many_rows_share_the_call) {
  const Problem<TypeParam> p(61, 97, 133, 21);
  const Reals bias = noise(p.n, 3);
  const k::Epilogue e{.bias = bias.data(), .activation = k::Gelu{}};
  const Reals whole = p.run(e);
  for (int64_t part : {1, 2, 9, 14, 30})
    expect_same_bits(p.run_parts(part, e), whole, "parts of " + std::to_string(part));
  const Problem<TypeParam> wide(200, 2021, 7, 22);  // parts take other tiles than the whole
  expect_same_bits(wide.run_parts(50), wide.run(), "parts of 50");
}

TYPED_TEST(KernelsProduct, bits_do_not_depend_on_the_column_of_the_panel) {
  // The same row of b at different places of a panel, and alone.
  const int64_t m = 5, k = 77;
  const Reals a = noise(m * k, 1), b = noise(40 * k, 2);
  const auto column = [&](int64_t first, int64_t n, int64_t at) {
    Reals packed(size_t(k::packed_count(n, k))), c(size_t(m * n));
    TypeParam::run([&](auto& s) {
      k::pack(s, b.data() + first * k, n, k, k, 1, packed.data());
      k::product(s, a.data(), k, packed.data(), m, n, k, {}, c.data(), n);
    });
    Reals out;
    for (int64_t i = 0; i < m; ++i) out.push_back(c[size_t(i * n + at)]);
    return out;
  };
  const Reals alone = column(33, 1, 0);
  expect_same_bits(column(0, 40, 33), alone, "second panel");
  expect_same_bits(column(20, 20, 13), alone, "narrow panel");
}

TYPED_TEST(KernelsProduct, epilogue_adds_bias_then_activates_then_adds_residual) {
  for (Unary f : k::every_unary) {
    const Problem<TypeParam> p(15, 50, 40, 77);
    const Reals bias = noise(p.n, 1), residual = noise(p.m * p.n, 2);
    Bounded want = p.want();
    for (size_t i = 0; i < want.value.size(); ++i) {
      const double x = want.value[i] + bias[i % size_t(p.n)];
      want.value[i] = unary(f, x) + residual[i];
      // No activation is steeper than 1.13.
      want.error[i] = 1.13 * want.error[i] + 8 * eps * (std::abs(x) + std::abs(residual[i]) + 1);
    }
    k::Epilogue e{.bias = bias.data(), .activation = f, .residual = residual.data()};
    const Reals c = p.run(e);
    expect_within(c, want, facts_of(f).name);
    // The residual may be the result's own memory.
    Reals in_place = residual;
    e.residual = in_place.data();
    TypeParam::run([&](auto& s) {
      k::product(s, p.a.data(), p.k, p.packed.data(), p.m, p.n, p.k, e, in_place.data(), p.n);
    });
    expect_same_bits(in_place, c, "in place");
  }
}

TYPED_TEST(KernelsProduct, nothing_summed_leaves_the_epilogue) {
  const Reals bias = noise(5, 1);
  Reals c(10, poison);
  TypeParam::run([&](auto& s) {
    k::pack(s, nullptr, 5, 0, 0, 1, nullptr);
    k::product(s, nullptr, 0, nullptr, 2, 5, 0, {.bias = bias.data()}, c.data(), 5);
  });
  for (size_t i = 0; i < 10; ++i) EXPECT_EQ(c[i], bias[i % 5]);
}

TYPED_TEST(KernelsProduct, nan_reaches_its_row_or_column_only) {
  Problem<TypeParam> p(16, 40, 20, 3);
  p.a[3 * 20 + 7] = poison;
  const Reals c = p.run();
  for (size_t i = 0; i < c.size(); ++i) EXPECT_EQ(std::isnan(c[i]), i / 40 == 3) << i;
  for (Unary f : k::every_unary) {
    const Reals after = p.run({.activation = f});
    EXPECT_TRUE(std::isnan(after[3 * 40 + 39])) << facts_of(f).name;
    EXPECT_FALSE(std::isnan(after[39])) << facts_of(f).name;
  }
}

}  // namespace
}  // namespace whence
