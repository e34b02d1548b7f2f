// Calls of attention and attention_bwd for tests: all outputs, and comparison of their bits.
#pragma once

#include "tests/ref/attention.h"
#include "tests/ref/backends.h"

namespace whence::ref {

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

// A backend: the CPU with n threads.
template <int n>
struct Threads {
  template <class F>
  static void run(F&& f) {
    cpu::Stream s{n};
    f(s);
  }
};
template <class B>
void forward(const AttentionCase& c, real* context, const k::AttentionCapture& out) {
  B::run([&](auto& s) {
    k::attention(s, c.q.data(), c.k.data(), c.v.data(), c.size, real(c.scale), context, out);
  });
}
template <class B>
void backward(const AttentionCase& c, const k::AttentionGradients& out) {
  B::run([&](auto& s) {
    k::attention_bwd(s, c.q.data(), c.k.data(), c.v.data(), c.dcontext.data(), c.size,
                     real(c.scale), out);
  });
}

inline void expect_same_outputs(const Outputs& got, const Outputs& want) {
  expect_same_bits(got.context, want.context, "context");
  expect_same_bits(got.probs, want.probs, "probs");
  expect_same_bits(got.mean, want.mean, "head mean");
  expect_same_bits(got.row, want.row, "row");
  expect_same_bits(got.dq, want.dq, "dq");
  expect_same_bits(got.dk, want.dk, "dk");
  expect_same_bits(got.dv, want.dv, "dv");
  expect_same_bits(got.dprobs, want.dprobs, "dprobs");
  expect_same_bits(got.dmean, want.dmean, "dprobs mean");
  expect_same_bits(got.drow, want.drow, "dprobs row");
  expect_same_bits(got.relevance, want.relevance, "relevance");
  expect_same_bits(got.chain_out, want.chain_out, "chain");
}
template <class B>
Outputs everything(const AttentionCase& c) {
  Outputs out(c);
  forward<B>(c, out.context.data(), out.capture());
  backward<B>(c, out.gradients());
  return out;
}

// Every output asked for by itself has the bits that it has beside the others.
template <class B>
void expect_same_bits_alone(const AttentionCase& c) {
  const Outputs all = everything<B>(c);
  Outputs one(c);
  forward<B>(c, one.context.data(), {});
  forward<B>(c, nullptr, {.row = one.row.data(), .row_index = one.row_index});
  forward<B>(c, nullptr, {.head_mean = one.mean.data()});
  forward<B>(c, nullptr, {.probs = one.probs.data()});
  backward<B>(c, {.dq = one.dq.data()});
  backward<B>(c, {.dk = one.dk.data()});
  backward<B>(c, {.dv = one.dv.data()});
  backward<B>(c, {.dprobs = one.dprobs.data()});
  backward<B>(c, {.dprobs_mean = one.dmean.data()});
  backward<B>(c, {.dprobs_row = one.drow.data(), .row_index = one.row_index});
  backward<B>(c, {.relevance = one.relevance.data()});
  backward<B>(c, {.chain_in = one.chain_in.data(), .chain_out = one.chain_out.data()});
  expect_same_outputs(one, all);
}

// Parts of the chain, and what of it can be left out, are the same with gradients and without.
template <class B>
void expect_same_bits_of_a_chain_with_gaps(const AttentionCase& c) {
  Outputs alone(c), all(c);
  std::fill(alone.chain_in.begin() + 60, alone.chain_in.begin() + 300, real(0));
  all.chain_in = alone.chain_in;
  backward<B>(c, all.gradients());
  backward<B>(c, {.chain_in = alone.chain_in.data(), .chain_out = alone.chain_out.data()});
  expect_same_bits(alone.chain_out, all.chain_out, "chain");
}

// Operands and two of the results begin one element further on.
template <class B>
void expect_same_bits_anywhere(const AttentionCase& c) {
  const Outputs want = everything<B>(c);
  const auto moved = [](const Reals& x) {
    Reals y(1, poison);
    y.insert(y.end(), x.begin(), x.end());
    return y;
  };
  const Reals q = moved(c.q), k = moved(c.k), v = moved(c.v), dcontext = moved(c.dcontext);
  Outputs got(c);
  got.context.push_back(poison);
  got.dq.push_back(poison);
  auto gradients = got.gradients();
  gradients.dq = &got.dq[1];
  B::run([&](auto& s) {
    k::attention(s, &q[1], &k[1], &v[1], c.size, real(c.scale), &got.context[1], got.capture());
    k::attention_bwd(s, &q[1], &k[1], &v[1], &dcontext[1], c.size, real(c.scale), gradients);
  });
  got.context.erase(got.context.begin());
  got.dq.erase(got.dq.begin());
  expect_same_outputs(got, want);
}

}  // namespace whence::ref
