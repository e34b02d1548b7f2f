// attention and attention_bwd: every output against double loops, alone and together.
#include "tests/ref/attention.h"

namespace whence {
namespace {

using namespace ref;

// Odd sizes, one query, one key, a head wider than a panel, more keys than a query block.
const k::AttentionSize sizes[] = {{1, 1, 1, 1, 1},   {2, 3, 5, 7, 4},    {2, 2, 1, 33, 16},
                                  {1, 2, 50, 1, 8},  {2, 3, 29, 67, 20}, {1, 2, 197, 197, 64},
                                  {3, 1, 16, 32, 33}};

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

// All outputs of both kernels, filled with NaN.
struct Outputs {
  Reals context, probs, mean, row, dq, dk, dv, dprobs, dmean, drow, relevance, chain_in, chain_out;
  int64_t row_index;
  explicit Outputs(const AttentionCase& c) {
    const k::AttentionSize& z = c.size;
    const auto of = [](int64_t n) { return Reals(size_t(n), poison); };
    context = dq = of(int64_t(c.q.size()));
    dk = dv = of(int64_t(c.k.size()));
    probs = dprobs = of(z.batch * z.heads * z.queries * z.keys);
    mean = dmean = relevance = of(z.batch * z.queries * z.keys);
    row = drow = of(z.batch * z.heads * z.keys);
    chain_in = noise(z.batch * z.queries, 99);
    for (real& x : chain_in) x = x < 0 ? real(0) : x;  // about half the rows can be skipped
    chain_out = of(z.batch * z.keys);
    row_index = z.queries / 2;
  }
  k::AttentionCapture capture() {
    return {
        .probs = probs.data(), .head_mean = mean.data(), .row = row.data(), .row_index = row_index};
  }
  k::AttentionGradients gradients() {
    return {.dq = dq.data(),
            .dk = dk.data(),
            .dv = dv.data(),
            .dprobs = dprobs.data(),
            .dprobs_mean = dmean.data(),
            .dprobs_row = drow.data(),
            .row_index = row_index,
            .relevance = relevance.data(),
            .chain_in = chain_in.data(),
            .chain_out = chain_out.data()};
  }
};

void forward(const AttentionCase& c, int threads, real* context, const k::AttentionCapture& out) {
  cpu::Stream s{threads};
  k::attention(s, c.q.data(), c.k.data(), c.v.data(), c.size, real(c.scale), context, out);
}
void backward(const AttentionCase& c, int threads, const k::AttentionGradients& out) {
  cpu::Stream s{threads};
  k::attention_bwd(s, c.q.data(), c.k.data(), c.v.data(), c.dcontext.data(), c.size, real(c.scale),
                   out);
}

TEST(KernelsAttention, forward_outputs_match_double_loops) {
  for (const k::AttentionSize& z : sizes) {
    const AttentionCase c(z, 11);
    const AttentionReference want(c);
    Outputs got(c);
    forward(c, 2, got.context.data(), got.capture());
    expect_within(got.context, want.context, name(z) + " context");
    expect_within(got.probs, want.probs, name(z) + " probs");
    expect_within(got.row, one_row(c, want.probs, got.row_index), name(z) + " row");
    expect_within(
        got.mean,
        head_mean(c, [&](size_t m) { return std::pair(want.probs.value[m], want.probs.error[m]); }),
        name(z) + " head mean");
  }
}

TEST(KernelsAttention, backward_outputs_match_double_loops) {
  for (const k::AttentionSize& z : sizes) {
    const AttentionCase c(z, 12);
    const AttentionReference want(c);
    Outputs got(c);
    backward(c, 2, got.gradients());
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

TEST(KernelsAttention, gradients_match_differences_of_the_reference) {
  AttentionCase c({2, 2, 3, 4, 3}, 5);
  Outputs got(c);
  backward(c, 1, got.gradients());
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

TEST(KernelsAttention, an_output_asked_for_alone_has_the_same_bits) {
  const AttentionCase c({2, 3, 31, 45, 16}, 8);
  Outputs all(c);
  forward(c, 1, all.context.data(), all.capture());
  backward(c, 1, all.gradients());
  {
    Outputs one(c);
    forward(c, 1, one.context.data(), {});
    expect_same_bits(one.context, all.context, "context");
    forward(c, 1, nullptr, {.row = one.row.data(), .row_index = one.row_index});
    expect_same_bits(one.row, all.row, "row");
    forward(c, 1, nullptr, {.head_mean = one.mean.data()});
    expect_same_bits(one.mean, all.mean, "head mean");
    forward(c, 1, nullptr, {.probs = one.probs.data()});
    expect_same_bits(one.probs, all.probs, "probs");
  }
  Outputs one(c);
  backward(c, 1, {.dq = one.dq.data()});
  expect_same_bits(one.dq, all.dq, "dq");
  backward(c, 1, {.dk = one.dk.data()});
  expect_same_bits(one.dk, all.dk, "dk");
  backward(c, 1, {.dv = one.dv.data()});
  expect_same_bits(one.dv, all.dv, "dv");
  backward(c, 1, {.dprobs = one.dprobs.data()});
  expect_same_bits(one.dprobs, all.dprobs, "dprobs");
  backward(c, 1, {.dprobs_mean = one.dmean.data()});
  expect_same_bits(one.dmean, all.dmean, "dprobs mean");
  backward(c, 1, {.dprobs_row = one.drow.data(), .row_index = one.row_index});
  expect_same_bits(one.drow, all.drow, "dprobs row");
  backward(c, 1, {.relevance = one.relevance.data()});
  expect_same_bits(one.relevance, all.relevance, "relevance");
  backward(c, 1, {.chain_in = one.chain_in.data(), .chain_out = one.chain_out.data()});
  expect_same_bits(one.chain_out, all.chain_out, "chain");
}

TEST(KernelsAttention, bits_depend_neither_on_threads_nor_on_the_batch) {
  const AttentionCase c({3, 5, 40, 51, 24}, 4);
  Outputs one(c);
  forward(c, 1, one.context.data(), one.capture());
  backward(c, 1, one.gradients());
  for (int threads : {2, 3, 4, 16}) {
    Outputs many(c);
    forward(c, threads, many.context.data(), many.capture());
    backward(c, threads, many.gradients());
    expect_same_bits(many.context, one.context, "context");
    expect_same_bits(many.mean, one.mean, "head mean");
    expect_same_bits(many.dq, one.dq, "dq");
    expect_same_bits(many.dk, one.dk, "dk");
    expect_same_bits(many.dv, one.dv, "dv");
    expect_same_bits(many.dmean, one.dmean, "dprobs mean");
    expect_same_bits(many.relevance, one.relevance, "relevance");
    expect_same_bits(many.chain_out, one.chain_out, "chain");
  }
  // The last sample alone.
  AttentionCase last = c;
  last.size.batch = 1;
  const auto tail = [](const Reals& x) { return Reals(x.end() - int64_t(x.size() / 3), x.end()); };
  last.q = tail(c.q);
  last.k = tail(c.k);
  last.v = tail(c.v);
  last.dcontext = tail(c.dcontext);
  Outputs alone(last);
  alone.chain_in = tail(one.chain_in);
  forward(last, 2, alone.context.data(), alone.capture());
  backward(last, 2, alone.gradients());
  expect_same_bits(alone.context, tail(one.context), "context");
  expect_same_bits(alone.mean, tail(one.mean), "head mean");
  expect_same_bits(alone.dk, tail(one.dk), "dk");
  expect_same_bits(alone.relevance, tail(one.relevance), "relevance");
  expect_same_bits(alone.chain_out, tail(one.chain_out), "chain");
}

TEST(KernelsAttention, a_unit_chain_row_picks_one_row_of_the_relevance) {
  const AttentionCase c({2, 3, 21, 21, 8}, 6);
  Outputs got(c);
  std::fill(got.chain_in.begin(), got.chain_in.end(), real(0));
  for (int64_t b = 0; b < 2; ++b) got.chain_in[size_t(b * 21 + 20)] = 1;
  backward(c, 2,
           {.relevance = got.relevance.data(),
            .chain_in = got.chain_in.data(),
            .chain_out = got.chain_out.data()});
  for (int64_t b = 0; b < 2; ++b)
    for (int64_t j = 0; j < 21; ++j)
      EXPECT_NEAR(got.chain_out[size_t(b * 21 + j)], got.relevance[size_t((b * 21 + 20) * 21 + j)],
                  8 * eps);
  std::fill(got.chain_in.begin(), got.chain_in.end(), real(0));
  backward(c, 2, {.chain_in = got.chain_in.data(), .chain_out = got.chain_out.data()});
  for (real x : got.chain_out) EXPECT_EQ(x, 0);
}

TEST(KernelsAttention, huge_scores_give_a_one_hot_row) {
  AttentionCase c({1, 1, 2, 40, 4}, 3);
  for (real& x : c.q) x = 1000;
  for (real& x : c.k) x = -1000;
  for (int64_t d = 0; d < 4; ++d) c.k[c.at_k(0, 17, 0, d)] = 1000;
  Outputs got(c);
  forward(c, 1, got.context.data(), got.capture());
  for (int64_t j = 0; j < 40; ++j) EXPECT_EQ(got.probs[size_t(j)], j == 17 ? 1 : 0);
  for (int64_t d = 0; d < 4; ++d) EXPECT_EQ(got.context[size_t(d)], c.v[c.at_k(0, 17, 0, d)]);
}

TEST(KernelsAttention, nan_stays_in_its_query_row) {
  AttentionCase c({1, 2, 20, 20, 8}, 3);
  c.q[c.at_q(0, 7, 1, 2)] = poison;
  Outputs got(c);
  forward(c, 1, got.context.data(), got.capture());
  for (int64_t h = 0; h < 2; ++h)
    for (int64_t i = 0; i < 20; ++i)
      for (int64_t d = 0; d < 8; ++d)
        EXPECT_EQ(std::isnan(got.context[c.at_q(0, i, h, d)]), h == 1 && i == 7);
  got.chain_in.assign(20, real(1));
  backward(c, 1, got.gradients());
  EXPECT_TRUE(std::isnan(got.chain_out[0]));
  EXPECT_TRUE(std::isnan(got.relevance[7 * 20]));
  EXPECT_FALSE(std::isnan(got.relevance[8 * 20]));
}

TEST(KernelsAttention, empty_sizes_give_empty_sums) {
  for (const k::AttentionSize& z :
       {k::AttentionSize{0, 2, 3, 3, 4}, {2, 0, 3, 3, 4}, {2, 2, 0, 3, 4}, {2, 2, 3, 0, 4}}) {
    const AttentionCase c(z, 1);
    Outputs got(c);
    forward(c, 2, got.context.data(), got.capture());
    backward(c, 2, got.gradients());
    // No query reaches the keys, no key a query: sums over nothing.
    for (const Reals& sums : {got.context, got.dq, got.dk, got.dv})
      for (real x : sums) EXPECT_EQ(x, 0);
  }
}

}  // namespace
}  // namespace whence
