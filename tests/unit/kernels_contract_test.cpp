// contract: two-operand einsums with arbitrary strides.
#include "tests/ref/backends.h"
#include "tests/ref/linear.h"

namespace whence {
namespace {

using namespace ref;
using k::Axis;
using k::Contraction;

Contraction::Role role(std::initializer_list<Axis> axes) {
  Contraction::Role out;
  for (const Axis& x : axes) out.axes[size_t(out.count++)] = x;
  return out;
}

int64_t extent(const Contraction& l, int64_t Axis::*step) {
  int64_t last = 0;
  for (const auto* r : {&l.loops, &l.rows, &l.cols, &l.sums})
    for (int i = 0; i < r->count; ++i) {
      const Axis& x = r->axes[size_t(i)];
      if (x.*step == 0) continue;
      if (x.size == 0) return 0;
      last += (x.size - 1) * (x.*step);
    }
  return last + 1;
}

template <class Backend>
Reals run(const Contraction& l, const Reals& a, const Reals& b, real scale) {
  Reals c(size_t(extent(l, &Axis::c)), 0);
  Backend::run([&](auto& s) { k::contract(s, a.data(), b.data(), c.data(), l, scale); });
  return c;
}

// The bits are those of the CPU, whatever its number of threads: one chain of fused multiply-adds.
template <class Backend>
void check_bits(const Contraction& l, const std::string& what) {
  const real scale = real(0.75);
  const Reals a = noise(extent(l, &Axis::a), 1), b = noise(extent(l, &Axis::b), 2);
  const Reals got = run<Backend>(l, a, b, scale);
  for (int threads : {1, 5}) {
    Reals c(got.size(), 0);
    cpu::Stream s{threads};
    k::contract(s, a.data(), b.data(), c.data(), l, scale);
    expect_same_bits(got, c, what + ", threads");
  }
}

template <class Backend>
void check(const Contraction& l, const std::string& what) {
  const real scale = real(0.75);
  const Reals a = noise(extent(l, &Axis::a), 1), b = noise(extent(l, &Axis::b), 2);
  const Reals c = run<Backend>(l, a, b, scale);
  expect_within(c, Einsum(a, b, l, scale, c.size()).out, what);
  check_bits<Backend>(l, what);
}

// "bij,bjk->bik" with dense operands.
Contraction batched(int64_t b, int64_t i, int64_t j, int64_t k) {
  return {.loops = role({{b, i * j, j * k, i * k}}),
          .rows = role({{i, j, 0, k}}),
          .cols = role({{k, 0, 1, 1}}),
          .sums = role({{j, 1, k, 0}})};
}

template <class Backend>
struct KernelsContract : testing::Test {};
TYPED_TEST_SUITE(KernelsContract, Backends, BackendNames);

TYPED_TEST(KernelsContract, batched_matrices_of_all_sizes) {
  for (int64_t b : {1, 3})
    for (int64_t i : {1, 2, 14, 31})
      for (int64_t j : {0, 1, 33, 70})
        for (int64_t k : {1, 15, 32, 65}) {
          check<TypeParam>(batched(b, i, j, k), std::to_string(b) + " " + std::to_string(i) + " " +
                                                    std::to_string(j) + " " + std::to_string(k));
        }
}

TYPED_TEST(KernelsContract, score_and_context_layouts_of_attention) {
  const int64_t B = 2, N = 37, M = 29, H = 3, D = 20;
  // "bnhd,bmhd->bhnm"
  check<TypeParam>({.loops = role({{B, N * H * D, M * H * D, H * N * M}, {H, D, D, N * M}}),
                    .rows = role({{N, H * D, 0, M}}),
                    .cols = role({{M, 0, H * D, 1}}),
                    .sums = role({{D, 1, 1, 0}})},
                   "bnhd,bmhd->bhnm");
  // "bhnm,bmhd->bnhd"
  check<TypeParam>({.loops = role({{B, H * N * M, M * H * D, N * H * D}, {H, N * M, D, D}}),
                    .rows = role({{N, M, 0, H * D}}),
                    .cols = role({{D, 0, 1, 1}}),
                    .sums = role({{M, 1, H * D, 0}})},
                   "bhnm,bmhd->bnhd");
}

TYPED_TEST(KernelsContract, several_letters_in_every_role) {
  // "abc,dabe... " with rows (r1, r2), columns (c1, c2), sums (s1, s2) laid out so that none merge.
  const int64_t L = 2, R1 = 3, R2 = 5, C1 = 4, C2 = 9, S1 = 3, S2 = 7;
  check<TypeParam>({.loops = role({{L, R1 * R2 * S1 * S2, C1 * C2 * S1 * S2, R1 * R2 * C1 * C2}}),
                    .rows = role({{R1, S1 * R2 * S2, 0, C1 * R2 * C2}, {R2, S2, 0, C2}}),
                    .cols = role({{C1, 0, S2 * C2 * S1, R2 * C2}, {C2, 0, S1, 1}}),
                    .sums = role({{S1, R2 * S2, 1, 0}, {S2, 1, S1 * C2, 0}})},
                   "two letters each");
}

TYPED_TEST(KernelsContract, transposed_operands_and_result) {
  const int64_t I = 19, J = 40, K = 35;
  check<TypeParam>({.loops = {},
                    .rows = role({{I, 1, 0, 1}}),
                    .cols = role({{K, 0, J, I}}),
                    .sums = role({{J, I, 1, 0}})},
                   "ji,kj->ki");
}

TYPED_TEST(KernelsContract, loop_letter_absent_from_one_operand) {
  const int64_t B = 3, I = 6, J = 11, K = 17;
  check<TypeParam>({.loops = role({{B, I * J, 0, I * K}}),
                    .rows = role({{I, J, 0, K}}),
                    .cols = role({{K, 0, 1, 1}}),
                    .sums = role({{J, 1, K, 0}})},
                   "bij,jk->bik");
}

TYPED_TEST(KernelsContract, vector_times_matrix_and_matrix_times_vector) {
  for (int64_t N : {1, 16, 197}) {
    for (int64_t K : {1, 33, 197}) {
      const std::string at = std::to_string(N) + " " + std::to_string(K);
      // "bk,bkn->bn" and "bk,bnk->bn": one row.
      check<TypeParam>({.loops = role({{2, K, N * K, N}}),
                        .rows = {},
                        .cols = role({{N, 0, 1, 1}}),
                        .sums = role({{K, 1, N, 0}})},
                       "bk,bkn->bn " + at);
      check<TypeParam>({.loops = role({{2, K, N * K, N}}),
                        .rows = {},
                        .cols = role({{N, 0, K, 1}}),
                        .sums = role({{K, 1, 1, 0}})},
                       "bk,bnk->bn " + at);
      // "bnk,bk->bn" and "bkn,bk->bn": one column.
      check<TypeParam>({.loops = role({{2, N * K, K, N}}),
                        .rows = role({{N, K, 0, 1}}),
                        .cols = {},
                        .sums = role({{K, 1, 1, 0}})},
                       "bnk,bk->bn " + at);
      check<TypeParam>({.loops = role({{2, N * K, K, N}}),
                        .rows = role({{N, 1, 0, 1}}),
                        .cols = {},
                        .sums = role({{K, N, 1, 0}})},
                       "bkn,bk->bn " + at);
    }
  }
}

TYPED_TEST(KernelsContract, elementwise_and_dot_products) {
  check<TypeParam>({.loops = role({{100, 1, 1, 1}}), .rows = {}, .cols = {}, .sums = {}}, "i,i->i");
  check<TypeParam>(
      {.loops = role({{7, 50, 50, 1}}), .rows = {}, .cols = {}, .sums = role({{50, 1, 1, 0}})},
      "bi,bi->b");
  check<TypeParam>(
      {.loops = {}, .rows = role({{9, 1, 0, 21}}), .cols = role({{21, 0, 1, 1}}), .sums = {}},
      "i,j->ij");
}

// Results so large that a device takes its middle and its wide tiles; either operand is adjacent
// along the sum or along its lines, and the result along its rows or its columns.
TYPED_TEST(KernelsContract, tiles_of_any_size_over_all_layouts) {
  const int64_t shapes[][4] = {{3, 35, 40, 70}, {32, 65, 80, 37}, {32, 129, 136, 19}};
  for (const auto& [L, I, K, J] : shapes) {
    for (int layout = 0; layout < 8; ++layout) {
      const bool a_sums = layout & 1, b_sums = layout & 2, rows = layout & 4;
      check_bits<TypeParam>({.loops = role({{L, I * J, J * K, I * K}}),
                             .rows = role({{I, a_sums ? J : 1, 0, rows ? 1 : K}}),
                             .cols = role({{K, 0, b_sums ? J : 1, rows ? I : 1}}),
                             .sums = role({{J, a_sums ? 1 : I, b_sums ? 1 : K, 0}})},
                            std::to_string(I) + " rows, layout " + std::to_string(layout));
    }
  }
}

TYPED_TEST(KernelsContract, several_letters_with_one_row) {
  const int64_t L = 3, M = 2, C1 = 5, C2 = 7, S1 = 4, S2 = 9;
  const int64_t C = C1 * C2, S = S1 * S2;
  const auto loops =
      role({{L, S, M * C * S, C}, {M, L * S, C * S, L * C}});  // a and c hold them in other orders
  // Columns of the matrix adjacent, then its summed elements; a holds these transposed.
  check<TypeParam>({.loops = loops,
                    .rows = {},
                    .cols = role({{C1, 0, C2, 1}, {C2, 0, 1, C1}}),
                    .sums = role({{S1, 1, S2 * C, 0}, {S2, S1, C, 0}})},
                   "columns");
  check<TypeParam>({.loops = loops,
                    .rows = {},
                    .cols = role({{C1, 0, S, 1}, {C2, 0, C1 * S, C1}}),
                    .sums = role({{S1, 1, S2, 0}, {S2, S1, 1, 0}})},
                   "sums");
}

TYPED_TEST(KernelsContract, many_loops) {
  check<TypeParam>({.loops = role({{70001, 1, 1, 1}}), .rows = {}, .cols = {}, .sums = {}},
                   "i,i->i");
}

// What lies between the strides of the operands is not read, and that of the result not written.
TYPED_TEST(KernelsContract, gaps_are_left_alone) {
  const int64_t I = 9, J = 5, K = 34;
  for (int64_t rows : {int64_t{1}, I}) {
    const Contraction l{.loops = {},
                        .rows = role({{rows, 2 * J, 0, 3 * K}}),
                        .cols = role({{K, 0, 2 * J, 2}}),
                        .sums = role({{J, 1, 1, 0}})};
    Reals a(size_t(2 * J * rows), poison), b(size_t(2 * J * K), poison);
    Reals c(size_t(3 * K * rows), real(-7));
    for (size_t i = 0; i < a.size(); ++i) a[i] = i / size_t(J) % 2 == 0 ? real(1) : poison;
    for (size_t i = 0; i < b.size(); ++i) b[i] = i / size_t(J) % 2 == 0 ? real(1) : poison;
    TypeParam::run([&](auto& s) { k::contract(s, a.data(), b.data(), c.data(), l, 1); });
    for (size_t i = 0; i < c.size(); ++i) {
      const size_t j = i % size_t(3 * K);
      EXPECT_EQ(c[i], j < size_t(2 * K) && j % 2 == 0 ? real(J) : real(-7)) << i;
    }
  }
}

TYPED_TEST(KernelsContract, bits_do_not_depend_on_how_many_rows_or_loops_share_the_call) {
  const int64_t I = 23, J = 1100, K = 44;  // the sum is taken in several pieces
  const Contraction l = batched(2, I, J, K);
  const Reals a = noise(2 * I * J, 1), b = noise(2 * J * K, 2);
  Reals whole(size_t(2 * I * K)), parts(whole.size());
  TypeParam::run([&](auto& s) {
    k::contract(s, a.data(), b.data(), whole.data(), l, 1);
    for (int64_t x = 0; x < 2; ++x) {
      for (int64_t i = 0; i < I; ++i) {  // one row at a time takes the vector path
        k::contract(s, a.data() + (x * I + i) * J, b.data() + x * J * K,
                    parts.data() + (x * I + i) * K, batched(1, 1, J, K), 1);
      }
    }
  });
  expect_same_bits(parts, whole, "rows");
}

TYPED_TEST(KernelsContract, empty_results_touch_nothing) {
  Reals c(4, real(3));
  TypeParam::run([&](auto& s) {
    for (const Contraction& l : {batched(0, 2, 2, 2), batched(2, 0, 2, 2), batched(2, 2, 2, 0)})
      k::contract(s, nullptr, nullptr, c.data(), l, 1);
  });
  for (real x : c) EXPECT_EQ(x, real(3));
}

}  // namespace
}  // namespace whence
