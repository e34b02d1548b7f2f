// Attention on tensor cores: every output against double loops over the rounded factors, and what
// is left to the kernels in f32.
#if defined(WHENCE_HAVE_SIMT) && !defined(WHENCE_F64)
#include "kernels/cuda/ptx.cuh"
#include "tests/unit/rounded_attention.h"

namespace whence {
namespace {

using namespace ref;

template <class T>
struct TensorAttention : testing::Test {};
TYPED_TEST_SUITE(TensorAttention, Schedules, Names);
// Half a unit in the last of 8 bits, relative to the number.
constexpr double rounding = 0x1p-8;

AttentionCase rounded(AttentionCase c) {
  for (Reals* operand : {&c.q, &c.k, &c.v, &c.dcontext})
    for (real& x : *operand) x = gpu::to_float(gpu::to_bf16(x));
  return c;
}

// f(b, h, i, j) for every element of the maps.
template <class F>
void for_map(const k::AttentionSize& z, F&& f) {
  for (int64_t b = 0; b < z.batch; ++b)
    for (int64_t h = 0; h < z.heads; ++h)
      for (int64_t i = 0; i < z.queries; ++i)
        for (int64_t j = 0; j < z.keys; ++j) f(b, h, i, j);
}

// What is expected of operands that are rounded already: their products are exact, so captured maps
// are within the bounds of f32. In context = sum_j P_j v_j / sum_j P_j the left factors are rounded
// once more, each by at most `rounding` of itself; so are P in dv, dS in dq and in dk.
struct TensorReference : AttentionReference {
  explicit TensorReference(const AttentionCase& c) : AttentionReference(c) {
    for_map(c.size, [&](int64_t b, int64_t h, int64_t i, int64_t j) {
      const size_t m = c.at_map(b, h, i, j);
      const double p = rounding * probs.value[m], ds = rounding * std::abs(dscores.value[m]);
      for (int64_t d = 0; d < c.size.width; ++d) {
        const size_t at_q = c.at_q(b, i, h, d), at_k = c.at_k(b, j, h, d);
        context.error[at_q] += p * std::abs(double(c.v[at_k]));
        dv.error[at_k] += p * std::abs(double(c.dcontext[at_q]));
        dq.error[at_q] += ds * std::abs(double(c.k[at_k]));
        dk.error[at_k] += ds * std::abs(double(c.q[at_q]));
      }
    });
    // Rounding carries the errors of what is rounded along.
    for (Bounded* sums : {&context, &dv, &dq, &dk})
      for (double& e : sums->error) e *= 1 + 2 * rounding;
  }
};

Bounded head_mean(const AttentionCase& c, const Bounded& map) {
  const k::AttentionSize& z = c.size;
  Bounded out(size_t(z.batch * z.queries * z.keys));
  for_map(z, [&](int64_t b, int64_t h, int64_t i, int64_t j) {
    const size_t m = c.at_map(b, h, i, j), at = size_t((b * z.queries + i) * z.keys + j);
    const double heads = double(z.heads), value = map.value[m];
    out.value[at] += value / heads;
    out.error[at] += (map.error[m] + (heads + 4) * eps * std::abs(value)) / heads + 1e-37;
  });
  return out;
}

Bounded one_row(const AttentionCase& c, const Bounded& map, int64_t row) {
  Bounded out;
  for_map(c.size, [&](int64_t b, int64_t h, int64_t i, int64_t j) {
    if (i != row) return;
    out.value.push_back(map.value[c.at_map(b, h, i, j)]);
    out.error.push_back(map.error[c.at_map(b, h, i, j)]);
  });
  return out;
}

Bounded relevance(const AttentionCase& c, const AttentionReference& r) {
  Bounded map(r.probs.value.size());
  for (size_t m = 0; m < map.value.size(); ++m) {
    const double p = r.probs.value[m], g = r.dprobs.value[m];
    map.value[m] = std::max(p * g, 0.0);
    map.error[m] = p * r.dprobs.error[m] + std::abs(g) * r.probs.error[m] + eps * std::abs(p * g);
  }
  return head_mean(c, map);
}

Bounded chain(const AttentionCase& c, const Bounded& map, const Reals& in) {
  const k::AttentionSize& z = c.size;
  Bounded out(size_t(z.batch * z.keys));
  for (int64_t b = 0; b < z.batch; ++b)
    for (int64_t i = 0; i < z.queries; ++i)
      for (int64_t j = 0; j < z.keys; ++j) {
        const auto m = size_t((b * z.queries + i) * z.keys + j), o = size_t(b * z.keys + j);
        const double w = in[size_t(b * z.queries + i)];
        out.value[o] += w * map.value[m];
        out.error[o] +=
            std::abs(w) * (map.error[m] + chain_error(z.queries + z.heads, map.value[m]));
      }
  return out;
}

std::string name(const k::AttentionSize& z) {
  return "B" + std::to_string(z.batch) + " H" + std::to_string(z.heads) + " Q" +
         std::to_string(z.queries) + " N" + std::to_string(z.keys) + " D" + std::to_string(z.width);
}

// Every width of tile, filled and not; one query, one key; a last tile of 1, of 17, of 64 rows;
// more keys than fit into shared memory, and so many tiles that a block owns several heads of a
// map.
const k::AttentionSize sizes[] = {
    {1, 1, 1, 1, 8},     {2, 3, 17, 50, 8},   {1, 2, 50, 1, 24},  {2, 2, 1, 17, 32},
    {2, 2, 50, 65, 40},  {1, 1, 81, 64, 64},  {1, 2, 50, 17, 80}, {1, 1, 20, 70, 96},
    {1, 1, 66, 35, 128}, {1, 1, 9, 130, 128}, {1, 2, 3, 2100, 8},
};

template <class B>
void expect_forward(const k::AttentionSize& z) {
  const AttentionCase c(z, 11), exact = rounded(c);
  const TensorReference want(exact);
  Outputs got(c);
  forward<B>(c, got.context.data(), got.capture());
  expect_within(got.context, want.context, name(z) + " context");
  expect_within(got.probs, want.probs, name(z) + " probs");
  expect_within(got.row, one_row(c, want.probs, got.row_index), name(z) + " row");
  expect_within(got.mean, head_mean(c, want.probs), name(z) + " head mean");
}

template <class B>
void expect_backward(const k::AttentionSize& z) {
  const AttentionCase c(z, 12), exact = rounded(c);
  const TensorReference want(exact);
  Outputs got(c);
  backward<B>(c, got.gradients());
  expect_within(got.dq, want.dq, name(z) + " dq");
  expect_within(got.dk, want.dk, name(z) + " dk");
  expect_within(got.dv, want.dv, name(z) + " dv");
  expect_within(got.dprobs, want.dprobs, name(z) + " dprobs");
  expect_within(got.drow, one_row(c, want.dprobs, got.row_index), name(z) + " dprobs row");
  expect_within(got.dmean, head_mean(c, want.dprobs), name(z) + " dprobs mean");
  const Bounded map = relevance(c, want);
  expect_within(got.relevance, map, name(z) + " relevance");
  expect_within(got.chain_out, chain(c, map, got.chain_in), name(z) + " chain");
}

TYPED_TEST(TensorAttention, forward_outputs_match_double_loops_over_rounded_factors) {
  for (const k::AttentionSize& z : sizes) expect_forward<TypeParam>(z);
}
TYPED_TEST(TensorAttention, backward_outputs_match_double_loops_over_rounded_factors) {
  for (const k::AttentionSize& z : sizes) expect_backward<TypeParam>(z);
}
TEST(TensorAttentionValues, an_image_of_197_tokens) {
  expect_forward<InBf16>({1, 1, 197, 197, 64});
  expect_backward<InBf16>({1, 1, 197, 197, 64});
}

double relative_l2(const Reals& got, const Reals& want) {
  double off = 0, size = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    off += (double(got[i]) - want[i]) * (double(got[i]) - want[i]);
    size += double(want[i]) * want[i];
  }
  return std::sqrt(off / size);
}

TEST(TensorAttentionValues, stays_close_to_attention_in_f32) {
  const AttentionCase c({1, 4, 50, 50, 64}, 7, 3);
  const Outputs got = everything<InBf16>(c), want = everything<Threads<2>>(c);
  const auto close = [](const Reals& x, const Reals& y) {
    const double off = relative_l2(x, y);
    EXPECT_LE(off, 2e-2);
    EXPECT_GE(off, 1e-4);  // else these were not the kernels that round
  };
  close(got.context, want.context);
  close(got.probs, want.probs);
  close(got.mean, want.mean);
  close(got.dq, want.dq);
  close(got.dk, want.dk);
  close(got.dv, want.dv);
  close(got.dprobs, want.dprobs);
  close(got.dmean, want.dmean);
  close(got.relevance, want.relevance);
  close(got.chain_out, want.chain_out);
}

TYPED_TEST(TensorAttention, outputs_need_only_the_operands_of_their_formula) {
  const AttentionCase c({2, 2, 5, 7, 8}, 3);
  const Outputs want = everything<TypeParam>(c);
  Outputs got(c);
  TypeParam::run([&](auto& s) {
    k::attention_bwd(s, nullptr, nullptr, c.v.data(), c.dcontext.data(), c.size, real(c.scale),
                     {.dprobs_row = got.drow.data(), .row_index = got.row_index});
    k::attention(s, c.q.data(), c.k.data(), nullptr, c.size, real(c.scale), nullptr,
                 {.row = got.row.data(), .row_index = got.row_index});
  });
  expect_same_bits(got.drow, want.drow, "dprobs row");
  expect_same_bits(got.row, want.row, "row");
}

TYPED_TEST(TensorAttention, huge_scores_give_a_one_hot_row) {
  AttentionCase c({1, 1, 2, 70, 8}, 3);
  for (real& x : c.q) x = 1000;
  for (real& x : c.k) x = -1000;
  for (int64_t d = 0; d < 8; ++d) c.k[c.at_k(0, 67, 0, d)] = 1000;
  Outputs got(c);
  forward<TypeParam>(c, got.context.data(), got.capture());
  const AttentionCase exact = rounded(c);
  for (int64_t j = 0; j < 70; ++j) EXPECT_EQ(got.probs[size_t(j)], j == 67 ? 1 : 0);
  for (int64_t d = 0; d < 8; ++d) EXPECT_EQ(got.context[size_t(d)], exact.v[c.at_k(0, 67, 0, d)]);
}

TYPED_TEST(TensorAttention, nan_stays_in_its_query_row) {
  AttentionCase c({1, 2, 20, 20, 8}, 3);
  c.q[c.at_q(0, 7, 1, 2)] = poison;
  Outputs got(c);
  forward<TypeParam>(c, got.context.data(), got.capture());
  for (int64_t h = 0; h < 2; ++h)
    for (int64_t i = 0; i < 20; ++i)
      for (int64_t d = 0; d < 8; ++d)
        EXPECT_EQ(std::isnan(got.context[c.at_q(0, i, h, d)]), h == 1 && i == 7);
  got.chain_in.assign(20, real(1));
  backward<TypeParam>(c, got.gradients());
  EXPECT_TRUE(std::isnan(got.chain_out[0]));
  EXPECT_TRUE(std::isnan(got.relevance[7 * 20]));
  EXPECT_FALSE(std::isnan(got.relevance[8 * 20]));
  // A query that has no weight in the chain leaves no trace there.
  got.chain_in[7] = 0;
  backward<TypeParam>(c, got.gradients());
  for (real x : got.chain_out) EXPECT_FALSE(std::isnan(x));
}

// Scores grow along the keys, so that what was summed before shrinks again and again.
TYPED_TEST(TensorAttention, later_keys_may_have_much_larger_scores) {
  AttentionCase c({1, 1, 3, 200, 8}, 3);
  for (real& x : c.q) x = 1;
  for (int64_t j = 0; j < 200; ++j)
    for (int64_t d = 0; d < 8; ++d) c.k[c.at_k(0, j, 0, d)] = real(double(j) / 16);
  const AttentionCase exact = rounded(c);
  const TensorReference want(exact);
  const Outputs got = everything<TypeParam>(c);
  expect_within(got.context, want.context, "context");
  expect_within(got.probs, want.probs, "probs");
  expect_within(got.dq, want.dq, "dq");
}

TYPED_TEST(TensorAttention, scores_of_minus_infinity_have_no_weight) {
  constexpr real infinity = std::numeric_limits<real>::infinity();
  AttentionCase c({1, 1, 2, 150, 8}, 3);
  for (int64_t d = 0; d < 8; ++d) c.q[size_t(d)] = 1;
  for (int64_t j = 0; j < 149; ++j) c.k[c.at_k(0, j, 0, 1)] = -infinity;  // whole tiles and more
  Outputs got(c);
  forward<TypeParam>(c, got.context.data(), got.capture());
  const AttentionCase exact = rounded(c);
  for (int64_t j = 0; j < 150; ++j) EXPECT_EQ(got.probs[size_t(j)], j == 149 ? 1 : 0);
  for (int64_t d = 0; d < 8; ++d) EXPECT_EQ(got.context[size_t(d)], exact.v[c.at_k(0, 149, 0, d)]);
  // A row without a finite score has no probabilities.
  c.k[c.at_k(0, 149, 0, 1)] = -infinity;
  forward<TypeParam>(c, got.context.data(), got.capture());
  EXPECT_TRUE(std::isnan(got.context[0]));
  EXPECT_TRUE(std::isnan(got.probs[0]));
  EXPECT_TRUE(std::isnan(got.probs[149]));
}

// Several tiles to a part of the chain, and rows without weight that it may leave out.
TYPED_TEST(TensorAttention, a_long_chain_with_gaps_matches_double_loops) {
  const AttentionCase c({1, 2, 600, 3, 8}, 8);
  Outputs got(c);
  std::fill(got.chain_in.begin() + 60, got.chain_in.begin() + 300, real(0));
  backward<TypeParam>(c, got.gradients());
  const AttentionCase exact = rounded(c);
  const TensorReference want(exact);
  expect_within(got.chain_out, chain(c, relevance(c, want), got.chain_in), "chain");
}

TYPED_TEST(TensorAttention, empty_sizes_give_empty_sums) {
  for (const k::AttentionSize& z :
       {k::AttentionSize{0, 2, 3, 3, 8}, {2, 0, 3, 3, 8}, {2, 2, 0, 3, 8}, {2, 2, 3, 0, 8}}) {
    const AttentionCase c(z, 1);
    Outputs got(c);
    forward<TypeParam>(c, got.context.data(), got.capture());
    backward<TypeParam>(c, got.gradients());
    for (const Reals& sums : {got.context, got.dq, got.dk, got.dv})
      for (real x : sums) EXPECT_EQ(x, 0);
  }
}

TEST(TensorAttentionValues, other_widths_and_formats_are_computed_in_f32) {
  using InF32 = Rounding<Precision::f32>;
  for (const int64_t width : {12, 136}) {
    const AttentionCase c({1, 2, 5, 7, width}, 3);
    expect_same_outputs(everything<InBf16>(c), everything<InF32>(c));
  }
  const AttentionCase c({1, 2, 5, 7, 16}, 3);
  expect_same_outputs(everything<Rounding<Precision::tf32>>(c), everything<InF32>(c));
}

}  // namespace
}  // namespace whence
#endif
