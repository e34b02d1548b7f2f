// Every operator against its definition in double, and what operators refuse.
#include <gtest/gtest.h>

#include "tests/unit/op_graph.h"
#include "whence/error.h"
#include "whence/op.h"

namespace whence {
namespace {

class OpForward : public testing::TestWithParam<OpCase> {};

TEST_P(OpForward, equals_its_definition) {
  const OpCase& c = GetParam();
  const OpGraph g(c);
  expect_close(run_case(c, g, {g.y}, {.threads = 1})[0], c.reference(case_arrays(c)),
               c.forward_bound, c.name);
}

TEST_P(OpForward, bits_do_not_depend_on_threads_or_memory) {
  const OpCase& c = GetParam();
  const OpGraph direct(c), copied(c, true);
  const auto want = run_case(c, direct, direct.results(), {.threads = 1});
  Values everything = copied.results();
  for (int n = 0; n < copied.graph.size(); ++n) {
    const Value v{const_cast<Graph*>(&copied.graph), n, 0};
    if (std::find(everything.begin(), everything.end(), v) == everything.end())
      everything.push_back(v);
  }
  for (const auto& got :
       {run_case(c, direct, direct.results(), {.threads = 2}),
        run_case(c, direct, direct.results(), {.threads = 2, .without = {"restrict_rows"}})})
    for (size_t i = 0; i < want.size(); ++i) expect_same_bits(got[i], want[i]);
  // A copy is 1 x + 0, which turns -0 into 0: equal as numbers. First memory is taken over, then it
  // cannot be.
  for (const auto& got : {run_case(c, copied, copied.results(), {.threads = 1}),
                          run_case(c, copied, everything, {.threads = 2})})
    for (size_t i = 0; i < want.size(); ++i) expect_near(got[i], want[i], 0);
}

INSTANTIATE_TEST_SUITE_P(Table, OpForward, testing::ValuesIn(op_cases()),
                         [](const auto& c) { return c.param.name; });

TEST(OpForwardOf, unit_row_marks_one_column) {
  Graph g;
  const Value one = unit_row(g, 2, 3, 1);
  const Value x = g.input("x", Type{{2, 3}});
  const Value y = mul(x, one);
  Plan plan({one, y});
  plan.set(x, Tensor::of({2, 3}, {1, 2, 3, 4, 5, 6}));
  plan.forward();
  expect_same_bits(plan.get(one), Tensor::of({2, 3}, {0, 1, 0, 0, 1, 0}));
  expect_same_bits(plan.get(y), Tensor::of({2, 3}, {0, 2, 0, 0, 5, 0}));
}

TEST(OpForwardOf, functions_of_one_element_are_found_by_name) {
  Graph g;
  const Value x = g.input("x", Type{{2, 3}});
  const std::pair<Value, const char*> named[] = {{relu(x), "relu"},
                                                 {relu6(x), "relu6"},
                                                 {gelu(x), "gelu"},
                                                 {gelu_tanh(x), "gelu_tanh"},
                                                 {gelu_quick(x), "gelu_quick"},
                                                 {tanh(x), "tanh"},
                                                 {abs(x), "abs"}};
  for (const auto& [y, name] : named) {
    EXPECT_EQ(g.node(y.node).op->kind(), name);
    EXPECT_EQ(g.node(unary(name, x).node).op->kind(), name);
  }
}

// The message must name the operator and the numbers that disagree.
template <class F>
void expect_refusal(F&& build, const std::string& part) {
  try {
    build();
    ADD_FAILURE() << "nothing was refused; expected: " << part;
  } catch (const Error& e) {
    EXPECT_NE(e.kind(), ErrorKind::internal) << e.what();
    EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
  }
}

struct Operands {
  Graph g;
  int made = 0;
  Value operator()(Shape s) { return g.input(fmt::format("x{}", made++), Type{s}); }
};

TEST(OpForwardOf, a_function_that_is_not_there_is_named) {
  Operands x;
  expect_refusal(
      [&] {
        unary("swish\n", x({2, 3}));
      },
      "no function of one element called 'swish\\x0A'");
}

TEST(OpForwardOf, einsum_refuses_labels_that_mean_nothing) {
  Operands x;
  const Value a = x({2, 3}), b = x({3, 4});
  expect_refusal([&] { einsum(a, b, "ij jk->ik"); }, "labels are written");
  expect_refusal([&] { einsum(a, b, "ij,jk"); }, "labels are written");
  expect_refusal([&] { einsum(a, b, "ii,ij->j"); }, "occurs twice in \"ii\"");
  expect_refusal([&] { einsum(a, b, "ij,jk->iz"); },
                 "label 'z' of the result is in neither operand");
  expect_refusal([&] { einsum(a, b, "ij,jk->i"); }, "label 'k' is in one operand only");
  expect_refusal([&] { einsum(a, b, "ijk,jk->i"); }, "operand 1 has shape [2, 3]");
  expect_refusal([&] { einsum(a, b, "ij,ik->jk"); },
                 "size of i is 2 in the first operand and 3 in the second");
}

TEST(OpForwardOf, sizes_that_do_not_fit_are_named) {
  Operands x;
  expect_refusal(
      [&] {
        add(x({2, 3}), x({2, 4}));
      },
      "add: shapes [2, 3] and [2, 4] do not broadcast");
  expect_refusal(
      [&] {
        linear(x({2, 3}), x({5, 4}));
      },
      "linear: the input [2, 3] and the weight [5, 4]");
  expect_refusal(
      [&] {
        linear(x({2, 3}), x({5, 3}), x({4}));
      },
      "the bias has shape [4], [5] is needed");
  expect_refusal([&] { layer_norm(x({2, 3}), x({3}), x({2}), 1); }, "bias [2] for rows of 3");
  expect_refusal([&] { cross_entropy(x({2, 3}), x({2, 4})); }, "logits [2, 3] and targets [2, 4]");
  expect_refusal(
      [&] {
        attention(x({2, 3, 4}), x({2, 3, 4}), x({2, 3, 4}), 3, 1);
      },
      "a width of 4 is not divisible by 3");
  expect_refusal([&] { attention(x({2, 3, 4}), x({2, 3, 4}), x({2, 5, 4}), 2, 1); }, "v [2, 5, 4]");
  expect_refusal([&] { reshape(x({2, 3}), {7}); }, "[2, 3] has 6 elements, [7] has 7");
  expect_refusal([&] { slice(x({2, 3}), 1, 2, 4); }, "slice: 2..4 of axis 1 of [2, 3]");
  expect_refusal([&] { slice(x({2, 3}), 2, 0, 1); }, "slice: axis 2 of shape [2, 3]");
  expect_refusal([&] { pad(x({2, 3}), 1, 2, 4); }, "pad: [2, 3] from 2 does not fit into 4");
  expect_refusal(
      [&] {
        concat({x({2, 3}), x({3, 3})}, 1);
      },
      "concat: [2, 3] and [3, 3] differ besides axis 1");
  expect_refusal([&] { expand(x({2, 3}), {2, 6}); }, "[2, 3] does not repeat to [2, 6]");
  expect_refusal([&] { row(x({2, 3}), 0); }, "row: [2, 3] is not [B, N, C]");
  expect_refusal([&] { patchify(x({1, 3, 6, 5}), 2); }, "multiples of 2");
  expect_refusal([&] { unit_row(x.g, 2, 3, 3); }, "column 3 of 3");
  expect_refusal([&] { sum(x({2, 3}), {5}); }, "axis 5 of shape [2, 3]");
}

TEST(OpForwardOf, integers_are_refused_where_reals_are_needed) {
  Graph g;
  const Value i = g.input("i", Type{{2, 3}, Dtype::i32}), x = g.input("x", Type{{2, 3}});
  for (const auto& build : std::vector<std::function<Value()>>{
           [&] { return add(x, i); }, [&] { return relu(i); }, [&] { return softmax(i); },
           [&] { return slice(i, 1, 0, 2); }, [&] { return einsum(x, i, "ab,ab->a"); },
           [&] { return scale(i, 2); }})
    expect_refusal([&] { build(); }, "holds integers");
}

TEST(OpForwardOf, values_of_another_graph_are_refused) {
  Graph g, other;
  const Value x = g.input("x", Type{{2}}), y = other.input("y", Type{{2}});
  expect_refusal([&] { add(x, y); }, "belongs to another graph");
  expect_refusal([&] { add(x, Value{}); }, "an operand is empty");
  expect_refusal([&] { relu(Value{}); }, "an operand is empty");
}

}  // namespace
}  // namespace whence
