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
  expect_same_bits_alone<TypeParam>(AttentionCase({1, 3, 67, 45, 16}, 8));
}

TYPED_TEST(KernelsAttentionBits, of_a_long_chain_are_the_same_with_gradients) {
  expect_same_bits_of_a_chain_with_gaps<TypeParam>(AttentionCase({1, 2, 600, 3, 2}, 8));
}

TYPED_TEST(KernelsAttentionBits, are_the_same_for_operands_that_lie_anywhere) {
  expect_same_bits_anywhere<TypeParam>(AttentionCase({1, 2, 9, 5, 8}, 3));
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
