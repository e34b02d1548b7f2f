// contract: two-operand einsums with arbitrary strides.
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

void check(const Contraction& l, const std::string& what, real scale = real(0.75)) {
  const Reals a = noise(extent(l, &Axis::a), 1), b = noise(extent(l, &Axis::b), 2);
  const auto c_count = size_t(extent(l, &Axis::c));
  const Einsum want(a, b, l, scale, c_count);
  Reals once;
  for (int threads : {1, 2, 5}) {
    Reals c(c_count, 0);
    cpu::Stream s{threads};
    k::contract(s, a.data(), b.data(), c.data(), l, scale);
    expect_within(c, want.out, what);
    if (threads == 1) once = c;
    expect_same_bits(c, once, what + ", threads");
  }
}

// "bij,bjk->bik" with dense operands.
Contraction batched(int64_t b, int64_t i, int64_t j, int64_t k) {
  return {.loops = role({{b, i * j, j * k, i * k}}),
          .rows = role({{i, j, 0, k}}),
          .cols = role({{k, 0, 1, 1}}),
          .sums = role({{j, 1, k, 0}})};
}

TEST(KernelsContract, batched_matrices_of_all_sizes) {
  for (int64_t b : {1, 3})
    for (int64_t i : {1, 2, 14, 31})
      for (int64_t j : {0, 1, 33, 70})
        for (int64_t k : {1, 15, 32, 65}) {
          check(batched(b, i, j, k), std::to_string(b) + " " + std::to_string(i) + " " +
                                         std::to_string(j) + " " + std::to_string(k));
        }
}

TEST(KernelsContract, score_and_context_layouts_of_attention) {
  const int64_t B = 2, N = 37, M = 29, H = 3, D = 20;
  // "bnhd,bmhd->bhnm"
  check({.loops = role({{B, N * H * D, M * H * D, H * N * M}, {H, D, D, N * M}}),
         .rows = role({{N, H * D, 0, M}}),
         .cols = role({{M, 0, H * D, 1}}),
         .sums = role({{D, 1, 1, 0}})},
        "bnhd,bmhd->bhnm");
  // "bhnm,bmhd->bnhd"
  check({.loops = role({{B, H * N * M, M * H * D, N * H * D}, {H, N * M, D, D}}),
         .rows = role({{N, M, 0, H * D}}),
         .cols = role({{D, 0, 1, 1}}),
         .sums = role({{M, 1, H * D, 0}})},
        "bhnm,bmhd->bnhd");
}

TEST(KernelsContract, several_letters_in_every_role) {
  // "abc,dabe... " with rows (r1, r2), columns (c1, c2), sums (s1, s2) laid out so that none merge.
  const int64_t L = 2, R1 = 3, R2 = 5, C1 = 4, C2 = 9, S1 = 3, S2 = 7;
  check({.loops = role({{L, R1 * R2 * S1 * S2, C1 * C2 * S1 * S2, R1 * R2 * C1 * C2}}),
         .rows = role({{R1, S1 * R2 * S2, 0, C1 * R2 * C2}, {R2, S2, 0, C2}}),
         .cols = role({{C1, 0, S2 * C2 * S1, R2 * C2}, {C2, 0, S1, 1}}),
         .sums = role({{S1, R2 * S2, 1, 0}, {S2, 1, S1 * C2, 0}})},
        "two letters each");
}

TEST(KernelsContract, transposed_operands_and_result) {
  const int64_t I = 19, J = 40, K = 35;
  check({.loops = {},
         .rows = role({{I, 1, 0, 1}}),
         .cols = role({{K, 0, J, I}}),
         .sums = role({{J, I, 1, 0}})},
        "ji,kj->ki");
}

TEST(KernelsContract, loop_letter_absent_from_one_operand) {
  const int64_t B = 3, I = 6, J = 11, K = 17;
  check({.loops = role({{B, I * J, 0, I * K}}),
         .rows = role({{I, J, 0, K}}),
         .cols = role({{K, 0, 1, 1}}),
         .sums = role({{J, 1, K, 0}})},
        "bij,jk->bik");
}

TEST(KernelsContract, vector_times_matrix_and_matrix_times_vector) {
  for (int64_t N : {1, 16, 197}) {
    for (int64_t K : {1, 33, 197}) {
      const std::string at = std::to_string(N) + " " + std::to_string(K);
      // "bk,bkn->bn" and "bk,bnk->bn": one row.
      check({.loops = role({{2, K, N * K, N}}),
             .rows = {},
             .cols = role({{N, 0, 1, 1}}),
             .sums = role({{K, 1, N, 0}})},
            "bk,bkn->bn " + at);
      check({.loops = role({{2, K, N * K, N}}),
             .rows = {},
             .cols = role({{N, 0, K, 1}}),
             .sums = role({{K, 1, 1, 0}})},
            "bk,bnk->bn " + at);
      // "bnk,bk->bn" and "bkn,bk->bn": one column.
      check({.loops = role({{2, N * K, K, N}}),
             .rows = role({{N, K, 0, 1}}),
             .cols = {},
             .sums = role({{K, 1, 1, 0}})},
            "bnk,bk->bn " + at);
      check({.loops = role({{2, N * K, K, N}}),
             .rows = role({{N, 1, 0, 1}}),
             .cols = {},
             .sums = role({{K, N, 1, 0}})},
            "bkn,bk->bn " + at);
    }
  }
}

TEST(KernelsContract, elementwise_and_dot_products) {
  check({.loops = role({{100, 1, 1, 1}}), .rows = {}, .cols = {}, .sums = {}}, "i,i->i");
  check({.loops = role({{7, 50, 50, 1}}), .rows = {}, .cols = {}, .sums = role({{50, 1, 1, 0}})},
        "bi,bi->b");
  check({.loops = {}, .rows = role({{9, 1, 0, 21}}), .cols = role({{21, 0, 1, 1}}), .sums = {}},
        "i,j->ij");
}

TEST(KernelsContract, bits_do_not_depend_on_how_many_rows_or_loops_share_the_call) {
  const int64_t I = 23, J = 1100, K = 44;  // the sum is taken in several pieces
  const Contraction l = batched(2, I, J, K);
  const Reals a = noise(2 * I * J, 1), b = noise(2 * J * K, 2);
  cpu::Stream s{1};
  Reals whole(size_t(2 * I * K)), parts(whole.size());
  k::contract(s, a.data(), b.data(), whole.data(), l, 1);
  for (int64_t x = 0; x < 2; ++x) {
    for (int64_t i = 0; i < I; ++i) {  // one row at a time takes the vector path
      k::contract(s, a.data() + (x * I + i) * J, b.data() + x * J * K,
                  parts.data() + (x * I + i) * K, batched(1, 1, J, K), 1);
    }
  }
  expect_same_bits(parts, whole, "rows");
}

TEST(KernelsContract, empty_results_touch_nothing) {
  Reals c(4, real(3));
  cpu::Stream s{2};
  for (const Contraction& l : {batched(0, 2, 2, 2), batched(2, 0, 2, 2), batched(2, 2, 2, 0)}) {
    k::contract(s, nullptr, nullptr, c.data(), l, 1);
  }
  for (real x : c) EXPECT_EQ(x, real(3));
}

}  // namespace
}  // namespace whence
