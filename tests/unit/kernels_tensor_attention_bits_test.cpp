// Attention on tensor cores: bits that depend on nothing but the operands.
#if defined(WHENCE_HAVE_SIMT) && !defined(WHENCE_F64)
#include "tests/unit/rounded_attention.h"

namespace whence {
namespace {

using namespace ref;

template <class T>
struct TensorAttentionBits : testing::Test {};
TYPED_TEST_SUITE(TensorAttentionBits, Schedules, Names);

TEST(TensorAttentionBitsOrder, do_not_depend_on_the_schedule) {
  const AttentionCase c({1, 2, 70, 67, 16}, 4);
  const Outputs one = everything<Rounding<Precision::bf16, Order::forward>>(c);
  expect_same_outputs(everything<Rounding<Precision::bf16, Order::forward>>(c), one);
  expect_same_outputs(everything<Rounding<Precision::bf16, Order::reverse>>(c), one);
  expect_same_outputs(everything<Rounding<Precision::bf16, Order::random, 5>>(c), one);
  expect_same_outputs(everything<Rounding<Precision::bf16, Order::priority, 6>>(c), one);
}

TYPED_TEST(TensorAttentionBits, do_not_depend_on_the_batch) {
  const AttentionCase c({3, 2, 40, 51, 24}, 4);
  const Outputs all = everything<TypeParam>(c);
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
  Outputs want(last);
  want.context = tail(all.context);
  want.probs = tail(all.probs);
  want.mean = tail(all.mean);
  want.row = tail(all.row);
  want.dq = tail(all.dq);
  want.dk = tail(all.dk);
  want.dv = tail(all.dv);
  want.dprobs = tail(all.dprobs);
  want.dmean = tail(all.dmean);
  want.drow = tail(all.drow);
  want.relevance = tail(all.relevance);
  want.chain_out = tail(all.chain_out);
  expect_same_outputs(alone, want);
}

// So many heads that a block owns several tiles of queries, or of keys.
TEST(TensorAttentionBitsOrder, do_not_depend_on_how_many_heads_fill_the_device) {
  const auto expect_same = [](const k::AttentionSize& z, auto&& outputs) {
    const AttentionCase c(z, 4);
    AttentionCase last = c;
    last.size.batch = 1;
    const auto tail = [&](const Reals& x) {
      return Reals(x.end() - int64_t(x.size()) / z.batch, x.end());
    };
    for (Reals* operand : {&last.q, &last.k, &last.v, &last.dcontext}) *operand = tail(*operand);
    Outputs all(c), alone(last);
    alone.chain_in = tail(all.chain_in);
    const std::vector<Reals*> of_all = outputs(c, all), of_one = outputs(last, alone);
    for (size_t i = 0; i < of_all.size(); ++i)
      expect_same_bits(*of_one[i], tail(*of_all[i]), "output " + std::to_string(i));
  };
  expect_same({96, 4, 66, 2, 8}, [](const AttentionCase& c, Outputs& out) {
    forward<InBf16>(c, out.context.data(), {});
    backward<InBf16>(c, {.dq = out.dq.data()});
    return std::vector{&out.context, &out.dq};
  });
  expect_same({96, 4, 2, 66, 8}, [](const AttentionCase& c, Outputs& out) {
    backward<InBf16>(c, {.dk = out.dk.data(),
                         .dv = out.dv.data(),
                         .chain_in = out.chain_in.data(),
                         .chain_out = out.chain_out.data()});
    return std::vector{&out.dk, &out.dv, &out.chain_out};
  });
}

TYPED_TEST(TensorAttentionBits, of_a_query_do_not_depend_on_where_it_stands) {
  const AttentionCase c({1, 1, 70, 30, 16}, 4);
  AttentionCase few = c;
  few.size.queries = 2;
  few.q.assign(c.q.end() - 32, c.q.end());
  few.dcontext.assign(c.dcontext.end() - 32, c.dcontext.end());
  const Outputs all = everything<TypeParam>(c), some = everything<TypeParam>(few);
  const auto tail = [](const Reals& x, const Reals& like) {
    return std::span(x).last(like.size());
  };
  expect_same_bits(some.context, tail(all.context, some.context), "context");
  expect_same_bits(some.probs, tail(all.probs, some.probs), "probs");
  expect_same_bits(some.dq, tail(all.dq, some.dq), "dq");
  expect_same_bits(some.relevance, tail(all.relevance, some.relevance), "relevance");
}

TYPED_TEST(TensorAttentionBits, are_the_same_for_an_output_asked_for_alone) {
  expect_same_bits_alone<TypeParam>(AttentionCase({1, 3, 67, 45, 16}, 8));
}

TYPED_TEST(TensorAttentionBits, of_a_long_chain_are_the_same_with_gradients) {
  expect_same_bits_of_a_chain_with_gaps<TypeParam>(AttentionCase({1, 2, 600, 3, 8}, 8));
}

TYPED_TEST(TensorAttentionBits, are_the_same_for_operands_that_lie_anywhere) {
  expect_same_bits_anywhere<TypeParam>(AttentionCase({1, 2, 9, 5, 24}, 3));
}

}  // namespace
}  // namespace whence
#endif
