// attention and attention_bwd: bits depend on nothing but the operands.
#include "tests/unit/attention_outputs.h"

namespace whence {
namespace {

using namespace ref;

template <class T>
struct KernelsAttentionBits : testing::Test {};
TYPED_TEST_SUITE(KernelsAttentionBits, Backends, BackendNames);

TEST(KernelsAttentionOrder, do_not_depend_on_threads) {
  const AttentionCase c({3, 5, 40, 51, 24}, 4);
  const Outputs one = everything<Threads<1>>(c);
  expect_same_outputs(everything<Threads<2>>(c), one);
  expect_same_outputs(everything<Threads<3>>(c), one);
  expect_same_outputs(everything<Threads<4>>(c), one);
  expect_same_outputs(everything<Threads<16>>(c), one);
}

#ifdef WHENCE_HAVE_SIMT
TEST(KernelsAttentionOrder, do_not_depend_on_the_schedule) {
  const AttentionCase c({1, 2, 70, 67, 4}, 4);
  using simt::Order;
  const Outputs one = everything<Emulated<Order::forward>>(c);
  expect_same_outputs(everything<Emulated<Order::reverse>>(c), one);
  expect_same_outputs(everything<Emulated<Order::random, 5>>(c), one);
  expect_same_outputs(everything<Emulated<Order::priority, 6>>(c), one);
  expect_same_outputs(everything<Emulated<Order::priority, 7>>(c), one);
}
#endif

TYPED_TEST(KernelsAttentionBits, do_not_depend_on_the_batch) {
  const AttentionCase c({3, 2, 40, 51, 24}, 4);
  const Outputs all = everything<TypeParam>(c);
  // The last sample alone.
  AttentionCase last = c;
  last.size.batch = 1;
  const auto tail = [](const Reals& x) { return Reals(x.end() - int64_t(x.size() / 3), x.end()); };
  last.q = tail(c.q);
  last.k = tail(c.k);
  last.v = tail(c.v);
  last.dcontext = tail(c.dcontext);
  Outputs alone(last);
  alone.chain_in = tail(all.chain_in);
  forward<TypeParam>(last, alone.context.data(), alone.capture());
  backward<TypeParam>(last, alone.gradients());
  expect_same_bits(alone.context, tail(all.context), "context");
  expect_same_bits(alone.mean, tail(all.mean), "head mean");
  expect_same_bits(alone.dk, tail(all.dk), "dk");
  expect_same_bits(alone.relevance, tail(all.relevance), "relevance");
  expect_same_bits(alone.chain_out, tail(all.chain_out), "chain");
}

TYPED_TEST(KernelsAttentionBits, are_the_same_for_an_output_asked_for_alone) {
  const AttentionCase c({1, 3, 67, 45, 16}, 8);
  const Outputs all = everything<TypeParam>(c);
  {
    Outputs one(c);
    forward<TypeParam>(c, one.context.data(), {});
    expect_same_bits(one.context, all.context, "context");
    forward<TypeParam>(c, nullptr, {.row = one.row.data(), .row_index = one.row_index});
    expect_same_bits(one.row, all.row, "row");
    forward<TypeParam>(c, nullptr, {.head_mean = one.mean.data()});
    expect_same_bits(one.mean, all.mean, "head mean");
    forward<TypeParam>(c, nullptr, {.probs = one.probs.data()});
    expect_same_bits(one.probs, all.probs, "probs");
  }
  Outputs one(c);
  backward<TypeParam>(c, {.dq = one.dq.data()});
  expect_same_bits(one.dq, all.dq, "dq");
  backward<TypeParam>(c, {.dk = one.dk.data()});
  expect_same_bits(one.dk, all.dk, "dk");
  backward<TypeParam>(c, {.dv = one.dv.data()});
  expect_same_bits(one.dv, all.dv, "dv");
  backward<TypeParam>(c, {.dprobs = one.dprobs.data()});
  expect_same_bits(one.dprobs, all.dprobs, "dprobs");
  backward<TypeParam>(c, {.dprobs_mean = one.dmean.data()});
  expect_same_bits(one.dmean, all.dmean, "dprobs mean");
  backward<TypeParam>(c, {.dprobs_row = one.drow.data(), .row_index = one.row_index});
  expect_same_bits(one.drow, all.drow, "dprobs row");
  backward<TypeParam>(c, {.relevance = one.relevance.data()});
  expect_same_bits(one.relevance, all.relevance, "relevance");
  backward<TypeParam>(c, {.chain_in = one.chain_in.data(), .chain_out = one.chain_out.data()});
  expect_same_bits(one.chain_out, all.chain_out, "chain");
}

// Parts of the chain, and what of it can be left out, are the same in both calls.
TYPED_TEST(KernelsAttentionBits, of_a_long_chain_are_the_same_with_gradients) {
  const AttentionCase c({1, 2, 600, 3, 2}, 8);
  Outputs alone(c), all(c);
  std::fill(alone.chain_in.begin() + 60, alone.chain_in.begin() + 300, real(0));
  all.chain_in = alone.chain_in;
  backward<TypeParam>(c, all.gradients());
  backward<TypeParam>(c, {.chain_in = alone.chain_in.data(), .chain_out = alone.chain_out.data()});
  expect_same_bits(alone.chain_out, all.chain_out, "chain");
}

TYPED_TEST(KernelsAttentionBits, are_the_same_for_operands_that_lie_anywhere) {
  const AttentionCase c({1, 2, 9, 5, 8}, 3);
  const Outputs want = everything<TypeParam>(c);
  const auto moved = [](const Reals& x) {
    Reals y(1, poison);
    y.insert(y.end(), x.begin(), x.end());
    return y;
  };
  const Reals q = moved(c.q), k = moved(c.k), v = moved(c.v), dcontext = moved(c.dcontext);
  Outputs got(c);
  TypeParam::run([&](auto& s) {
    k::attention(s, &q[1], &k[1], &v[1], c.size, real(c.scale), got.context.data(), got.capture());
    k::attention_bwd(s, &q[1], &k[1], &v[1], &dcontext[1], c.size, real(c.scale), got.gradients());
  });
  expect_same_outputs(got, want);
}

TYPED_TEST(KernelsAttentionBits, a_row_of_the_gradient_needs_only_v_and_dcontext) {
  const AttentionCase c({2, 2, 5, 7, 4}, 3);
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

}  // namespace
}  // namespace whence
