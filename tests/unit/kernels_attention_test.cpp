// attention and attention_bwd: every output against double loops, extreme scores, empty sizes.
#include "tests/unit/attention_outputs.h"

namespace whence {
namespace {

using namespace ref;

template <class T>
struct KernelsAttention : testing::Test {};
TYPED_TEST_SUITE(KernelsAttention, Backends, BackendNames);

// Odd sizes, one query, one key, a head wider than a panel or than a tile, more keys than a query
// block, more query tiles than a chain has parts.
const k::AttentionSize sizes[] = {
    {1, 1, 1, 1, 1},    {2, 3, 5, 7, 4},      {2, 2, 1, 33, 16},  {1, 2, 50, 1, 8},
    {2, 3, 29, 67, 20}, {1, 1, 197, 197, 64}, {3, 1, 16, 32, 33}, {1, 1, 66, 70, 80},
    {1, 1, 5, 65, 130}, {1, 2, 577, 193, 2},
};

std::string name(const k::AttentionSize& z) {
  return "B" + std::to_string(z.batch) + " H" + std::to_string(z.heads) + " Q" +
         std::to_string(z.queries) + " N" + std::to_string(z.keys) + " D" + std::to_string(z.width);
}

// Means over heads of a map [B, H, Q, N], and one of its query rows.
template <class F>
Bounded head_mean(const AttentionCase& c, F&& element) {
  const k::AttentionSize& z = c.size;
  Bounded out(size_t(z.batch * z.queries * z.keys));
  for (int64_t b = 0; b < z.batch; ++b)
    for (int64_t h = 0; h < z.heads; ++h)
      for (int64_t i = 0; i < z.queries; ++i)
        for (int64_t j = 0; j < z.keys; ++j) {
          const auto [value, error] = element(c.at_map(b, h, i, j));
          const auto at = size_t((b * z.queries + i) * z.keys + j);
          out.value[at] += value / double(z.heads);
          out.error[at] +=
              (error + (double(z.heads) + 4) * eps * std::abs(value)) / double(z.heads) + 1e-37;
        }
  return out;
}

Bounded one_row(const AttentionCase& c, const Bounded& map, int64_t row) {
  const k::AttentionSize& z = c.size;
  Bounded out;
  for (int64_t b = 0; b < z.batch; ++b)
    for (int64_t h = 0; h < z.heads; ++h)
      for (int64_t j = 0; j < z.keys; ++j) {
        out.value.push_back(map.value[c.at_map(b, h, row, j)]);
        out.error.push_back(map.error[c.at_map(b, h, row, j)]);
      }
  return out;
}

Bounded relevance_map(const AttentionCase& c, const AttentionReference& r) {
  return head_mean(c, [&](size_t m) {
    const double p = r.probs.value[m], g = r.dprobs.value[m];
    const double error = p * r.dprobs.error[m] + std::abs(g) * r.probs.error[m];
    return std::pair(std::max(p * g, 0.0), error);
  });
}

Bounded chain(const AttentionCase& c, const Bounded& relevance, const Reals& in) {
  const k::AttentionSize& z = c.size;
  Bounded out(size_t(z.batch * z.keys));
  for (int64_t b = 0; b < z.batch; ++b)
    for (int64_t i = 0; i < z.queries; ++i)
      for (int64_t j = 0; j < z.keys; ++j) {
        const auto m = size_t((b * z.queries + i) * z.keys + j), o = size_t(b * z.keys + j);
        const double w = in[size_t(b * z.queries + i)];
        out.value[o] += w * relevance.value[m];
        out.error[o] += std::abs(w) *
                        (relevance.error[m] + chain_error(z.queries + z.heads, relevance.value[m]));
      }
  return out;
}

TYPED_TEST(KernelsAttention, forward_outputs_match_double_loops) {
  for (const k::AttentionSize& z : sizes) {
    const AttentionCase c(z, 11);
    const AttentionReference want(c);
    Outputs got(c);
    forward<TypeParam>(c, got.context.data(), got.capture());
    expect_within(got.context, want.context, name(z) + " context");
    expect_within(got.probs, want.probs, name(z) + " probs");
    expect_within(got.row, one_row(c, want.probs, got.row_index), name(z) + " row");
    expect_within(
        got.mean,
        head_mean(c, [&](size_t m) { return std::pair(want.probs.value[m], want.probs.error[m]); }),
        name(z) + " head mean");
  }
}

TYPED_TEST(KernelsAttention, backward_outputs_match_double_loops) {
  for (const k::AttentionSize& z : sizes) {
    const AttentionCase c(z, 12);
    const AttentionReference want(c);
    Outputs got(c);
    backward<TypeParam>(c, got.gradients());
    expect_within(got.dq, want.dq, name(z) + " dq");
    expect_within(got.dk, want.dk, name(z) + " dk");
    expect_within(got.dv, want.dv, name(z) + " dv");
    expect_within(got.dprobs, want.dprobs, name(z) + " dprobs");
    expect_within(got.drow, one_row(c, want.dprobs, got.row_index), name(z) + " dprobs row");
    expect_within(
        got.dmean,
        head_mean(c,
                  [&](size_t m) { return std::pair(want.dprobs.value[m], want.dprobs.error[m]); }),
        name(z) + " dprobs mean");
    const Bounded relevance = relevance_map(c, want);
    expect_within(got.relevance, relevance, name(z) + " relevance");
    expect_within(got.chain_out, chain(c, relevance, got.chain_in), name(z) + " chain");
  }
}

TYPED_TEST(KernelsAttention, gradients_match_differences_of_the_reference) {
  AttentionCase c({2, 2, 3, 4, 3}, 5);
  Outputs got(c);
  backward<TypeParam>(c, got.gradients());
  const Doubles dy = widen(c.dcontext);
  const auto numeric = [&](Reals AttentionCase::*which) {
    // Central differences of the context in double; the operand moves by steps that float holds
    // exactly, so the difference quotient is that of the double reference.
    Doubles out;
    AttentionCase moved = c;
    Reals& x = moved.*which;
    for (real& at : x) {
      const real keep = at;
      const double h = 0x1p-10;
      double slope = 0;
      // Richardson extrapolation removes the h^2 term.
      for (const auto& [step, weight] : {std::pair(h, 4.0 / 3), std::pair(2 * h, -1.0 / 3)}) {
        at = real(keep + step);
        const double up = at;
        const Doubles above = AttentionReference(moved).context.value;
        at = real(keep - step);
        const double width = up - at;
        const Doubles below = AttentionReference(moved).context.value;
        for (size_t i = 0; i < dy.size(); ++i)
          slope += weight * dy[i] * (above[i] - below[i]) / width;
        at = keep;
      }
      out.push_back(slope);
    }
    return out;
  };
  const std::pair<Reals AttentionCase::*, const Reals*> operands[] = {
      {&AttentionCase::q, &got.dq}, {&AttentionCase::k, &got.dk}, {&AttentionCase::v, &got.dv}};
  for (const auto& [which, gradient] : operands) {
    Bounded want;
    want.value = numeric(which);
    want.error.assign(want.value.size(), sizeof(real) == 4 ? 2e-5 : 1e-9);
    expect_within(*gradient, want, "gradient");
  }
}

TYPED_TEST(KernelsAttention, a_unit_chain_row_picks_one_row_of_the_relevance) {
  const AttentionCase c({2, 3, 21, 21, 8}, 6);
  Outputs got(c);
  std::fill(got.chain_in.begin(), got.chain_in.end(), real(0));
  for (int64_t b = 0; b < 2; ++b) got.chain_in[size_t(b * 21 + 20)] = 1;
  backward<TypeParam>(c, {.relevance = got.relevance.data(),
                          .chain_in = got.chain_in.data(),
                          .chain_out = got.chain_out.data()});
  for (int64_t b = 0; b < 2; ++b)
    for (int64_t j = 0; j < 21; ++j)
      EXPECT_NEAR(got.chain_out[size_t(b * 21 + j)], got.relevance[size_t((b * 21 + 20) * 21 + j)],
                  8 * eps);
  std::fill(got.chain_in.begin(), got.chain_in.end(), real(0));
  backward<TypeParam>(c, {.chain_in = got.chain_in.data(), .chain_out = got.chain_out.data()});
  for (real x : got.chain_out) EXPECT_EQ(x, 0);
}

TYPED_TEST(KernelsAttention, huge_scores_give_a_one_hot_row) {
  AttentionCase c({1, 1, 2, 40, 4}, 3);
  for (real& x : c.q) x = 1000;
  for (real& x : c.k) x = -1000;
  for (int64_t d = 0; d < 4; ++d) c.k[c.at_k(0, 17, 0, d)] = 1000;
  Outputs got(c);
  forward<TypeParam>(c, got.context.data(), got.capture());
  for (int64_t j = 0; j < 40; ++j) EXPECT_EQ(got.probs[size_t(j)], j == 17 ? 1 : 0);
  for (int64_t d = 0; d < 4; ++d) EXPECT_EQ(got.context[size_t(d)], c.v[c.at_k(0, 17, 0, d)]);
}

TYPED_TEST(KernelsAttention, nan_stays_in_its_query_row) {
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
}

// Scores grow along the keys, so that what was summed before shrinks again and again.
TYPED_TEST(KernelsAttention, later_keys_may_have_much_larger_scores) {
  AttentionCase c({1, 1, 3, 200, 4}, 3);
  for (real& x : c.q) x = 1;
  for (int64_t j = 0; j < 200; ++j)
    for (int64_t d = 0; d < 4; ++d) c.k[c.at_k(0, j, 0, d)] = real(double(j) / 16);
  const AttentionReference want(c);
  const Outputs got = everything<TypeParam>(c);
  expect_within(got.context, want.context, "context");
  expect_within(got.probs, want.probs, "probs");
  expect_within(got.dq, want.dq, "dq");
}

TYPED_TEST(KernelsAttention, scores_of_minus_infinity_have_no_weight) {
  constexpr real infinity = std::numeric_limits<real>::infinity();
  AttentionCase c({1, 1, 2, 150, 4}, 3);
  for (int64_t d = 0; d < 4; ++d) c.q[size_t(d)] = 1;
  // A whole tile and more.
  for (int64_t j = 0; j < 149; ++j) c.k[c.at_k(0, j, 0, 1)] = -infinity;
  Outputs got(c);
  forward<TypeParam>(c, got.context.data(), got.capture());
  for (int64_t j = 0; j < 150; ++j) EXPECT_EQ(got.probs[size_t(j)], j == 149 ? 1 : 0);
  for (int64_t d = 0; d < 4; ++d) EXPECT_EQ(got.context[size_t(d)], c.v[c.at_k(0, 149, 0, d)]);
  // A row without a finite score has no probabilities.
  c.k[c.at_k(0, 149, 0, 1)] = -infinity;
  forward<TypeParam>(c, got.context.data(), got.capture());
  EXPECT_TRUE(std::isnan(got.context[0]));
  EXPECT_TRUE(std::isnan(got.probs[0]));
  EXPECT_TRUE(std::isnan(got.probs[149]));
}

TYPED_TEST(KernelsAttention, heads_without_width_attend_evenly) {
  AttentionCase c({2, 1, 2, 5, 0}, 3);
  c.scale = 1;
  for (Reals* x : {&c.q, &c.k, &c.v, &c.dcontext}) x->reserve(1);  // empty, but not null
  const Outputs got = everything<TypeParam>(c);
  for (real x : got.probs) EXPECT_NEAR(x, 0.2, eps);
  for (const Reals& zeros : {got.dprobs, got.relevance, got.chain_out})
    for (real x : zeros) EXPECT_EQ(x, 0);
}

TYPED_TEST(KernelsAttention, empty_sizes_give_empty_sums) {
  for (const k::AttentionSize& z :
       {k::AttentionSize{0, 2, 3, 3, 4}, {2, 0, 3, 3, 4}, {2, 2, 0, 3, 4}, {2, 2, 3, 0, 4}}) {
    const AttentionCase c(z, 1);
    Outputs got(c);
    forward<TypeParam>(c, got.context.data(), got.capture());
    backward<TypeParam>(c, got.gradients());
    // No query reaches the keys, no key a query: sums over nothing.
    for (const Reals& sums : {got.context, got.dq, got.dk, got.dv})
      for (real x : sums) EXPECT_EQ(x, 0);
  }
}

}  // namespace
}  // namespace whence
