// What each pass of a plan changes, and that it changes no value: programs with and without it.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include "models/vit/vit.h"
#include "tests/unit/random_tensors.h"
#include "whence/error.h"
#include "whence/ops.h"
#include "whence/plan.h"

namespace whence {
namespace {

const Plan::Options all_rows{.threads = 1, .without = {"restrict_rows"}};
constexpr double rounding = sizeof(real) == 4 ? 1e-6 : 1e-14;

// Sets every input the plan has, runs it, and returns what it kept. Poisoned first, so that memory
// which a step forgot to write shows.
std::vector<Tensor> run(const Graph& graph, const Values& keep, const Plan::Options& options,
                        uint64_t seed = 5) {
  Plan plan(keep, options);
  plan.bind(random_weights(graph, 7));
  for (bool poisoned : {true, false}) {
    for (int n = 0; n < graph.size(); ++n) {
      const Value v{const_cast<Graph*>(&graph), n, 0};
      if (graph.node(n).op || graph.node(n).weight) continue;
      Tensor t = random_tensor(v.shape(), seed + uint64_t(n));
      if (poisoned) std::fill(t.reals().begin(), t.reals().end(), real(NAN));
      try {
        plan.set(v, t);
      } catch (const Error& e) {
        if (e.kind() != ErrorKind::name) throw;
      }
    }
    plan.forward();
    plan.backward();
  }
  std::vector<Tensor> results;
  for (Value v : keep) results.push_back(plan.get(v));
  return results;
}

void expect_rows_change_nothing(const Graph& graph, const Values& keep) {
  const auto whole = run(graph, keep, all_rows), rows = run(graph, keep, {.threads = 2});
  for (size_t i = 0; i < keep.size(); ++i) expect_near(rows[i], whole[i], rounding);
}

double seed_flops(const Values& keep, bool whole) {
  return Plan(keep, whole ? all_rows : Plan::Options{.threads = 1}).flops(Stage::seed);
}

ViTConfig small() {
  ViTConfig c;
  c.image_height = 16;
  c.image_width = 24;
  c.patch = 8;
  c.width = 12;
  c.depth = 3;
  c.heads = 3;
  c.mlp = 20;
  c.classes = 5;
  return c;
}

struct Vit {
  explicit Vit(const ViTConfig& c, int64_t batch = 2) {
    logits = build_vit(graph, c, batch);
    seed = graph.input("seed", logits.type(), Stage::seed);
  }
  Attention attention_of(int block) const {
    const auto at = [&](const char* part) {
      return graph.at(fmt::format("blocks.{}.attn.{}", block, part));
    };
    return {at("context"), at("probs"), at("probs_mean")};
  }
  Graph graph;
  Value logits, seed;
};

// --- rows ----------------------------------------------------------------------------------------

class RowZoo
    : public testing::TestWithParam<std::pair<const char*, std::function<void(ViTConfig&)>>> {};

TEST_P(RowZoo, values_are_those_of_the_whole_computation) {
  ViTConfig c = small();
  GetParam().second(c);
  Vit net(c);
  Values wrt = net.graph.match("blocks.*.attn.probs");
  for (const char* name : {"image", "blocks.1.mid", "blocks.2.norm1", "blocks.2.mlp.hidden"})
    wrt.push_back(net.graph.at(name));
  Values keep = gradient(net.logits, net.seed, wrt);
  keep.push_back(net.logits);
  expect_rows_change_nothing(net.graph, keep);
  // Kept intermediate values are whole, whatever else would do with a row of them.
  for (const char* name :
       {"blocks.2.attn.q", "blocks.2.mlp.hidden", "blocks.2.out", "blocks.2.attn.probs", "norm"})
    if (net.graph.has(name)) keep.push_back(net.graph.at(name));
  expect_rows_change_nothing(net.graph, keep);
}

TEST_P(RowZoo, weight_gradients_are_those_of_the_whole_computation) {
  ViTConfig c = small();
  c.depth = 2;
  GetParam().second(c);
  Vit net(c);
  Values weights;
  for (int n = 0; n < net.graph.size(); ++n)
    if (net.graph.node(n).weight) weights.push_back({&net.graph, n, 0});
  const Values g = gradient(net.logits, net.seed, weights);
  const auto whole = run(net.graph, g, all_rows), rows = run(net.graph, g, {.threads = 2});
  for (size_t i = 0; i < g.size(); ++i) expect_near(rows[i], whole[i], 4 * rounding);
}

using Zoo = std::pair<const char*, std::function<void(ViTConfig&)>>;
INSTANTIATE_TEST_SUITE_P(Passes, RowZoo,
                         testing::ValuesIn(std::vector<Zoo>{
                             {"one_token", [](ViTConfig&) {}},
                             {"two_tokens", [](ViTConfig& c) { c.distilled = true; }},
                             {"mean", [](ViTConfig& c) { c.pooling = ViTConfig::Pooling::mean; }},
                             {"mean_without_token",
                              [](ViTConfig& c) {
                                c.pooling = ViTConfig::Pooling::mean;
                                c.class_token = false;
                              }},
                             {"registers_and_layer_scale",
                              [](ViTConfig& c) {
                                c.registers = 2;
                                c.layer_scale = c.pre_norm = true;
                              }},
                             {"one_block",
                              [](ViTConfig& c) { c.depth = 3, c.heads = 1, c.qkv_bias = false; }},
                         }),
                         [](const auto& c) { return c.param.first; });

TEST(RowPass, the_full_gradient_of_the_last_attention_is_zero_in_rows_not_read) {
  Vit net(small());
  const Value probs = net.graph.at("blocks.2.attn.probs");
  const Values g = gradient(net.logits, net.seed, {probs});
  const Tensor map = run(net.graph, g, {.threads = 2})[0];
  const Shape s = map.shape();
  for (int64_t i = 0; i < s.count(); ++i) {
    const int64_t row = i / s[3] % s[2];
    if (row == 0)
      EXPECT_NE(map.reals()[size_t(i)], 0);
    else
      ASSERT_EQ(map.reals()[size_t(i)], 0) << "element " << i;
  }
}

TEST(RowPass, a_row_readout_costs_a_row) {
  Vit net(small());
  const Values g = gradient(net.logits, net.seed, {net.graph.at("blocks.2.norm1")});
  // one of seven rows through both products of the perceptron and the output projection
  EXPECT_LT(seed_flops(g, false), 0.5 * seed_flops(g, true));
  Values keep = g;
  keep.push_back(net.graph.at("blocks.2.out"));
  EXPECT_EQ(Plan(keep, {.threads = 1}).flops(Stage::data), Plan(keep, all_rows).flops(Stage::data))
      << "a kept value is computed whole";
}

// A position table [N, C] lines up with rows through broadcasting, not by its own axis 1.
TEST(RowPass, operands_of_a_lower_rank_are_not_cut_along) {
  Graph g;
  const Value x = g.input("x", Type{{2, 5, 3}}), table = g.input("table", Type{{5, 3}});
  const Value column = g.input("column", Type{{5, 1}}), one = g.input("one", Type{{1, 3}});
  for (auto op : {add, sub, mul})
    for (Value other : {table, column, one})
      for (bool swapped : {false, true}) {
        const Value y = relu(swapped ? op(other, x) : op(x, other));
        const Value z = slice(y, 1, 3, 4);
        const Value seed = slice(y, 1, 0, 1);
        Values keep = gradient(z, seed, {x, other});
        keep.push_back(z);
        expect_rows_change_nothing(g, keep);
      }
}

TEST(RowPass, rows_known_to_be_zero_are_put_back_where_they_are_read) {
  Graph g;
  const Value x = g.input("x", Type{{2, 5, 3}}), w = g.input("w", Type{{4, 3}}),
              b = g.input("b", Type{{4}});
  const Value padded = pad(slice(x, 1, 1, 3), 1, 2, 6);
  const Value without = linear(padded, w), with = linear(padded, w, b),
              shifted = affine(padded, 1, real(0.5));
  expect_rows_change_nothing(
      g, {without, with, shifted, slice(without, 1, 0, 3), slice(without, 1, 5, 6),
          mul(without, with), add(without, scale(without, 2)), tanh(padded)});
  const Value apart = pad(slice(x, 1, 0, 1), 1, 0, 6);  // meets `padded` in no row
  expect_rows_change_nothing(g, {mul(padded, apart), add(padded, apart), sub(apart, padded),
                                 sum(mul(padded, apart), {1}), linear(mul(padded, apart), w)});
}

TEST(RowPass, residual_chains_of_several_readouts) {
  Graph g;
  Value x = g.input("x", Type{{2, 7, 6}});
  const Value start = x;
  Values taps;
  for (int i = 0; i < 3; ++i) {
    auto s = g.scope("layer", i);
    x = add(x, gelu(linear(x, g.weight("weight", {6, 6}), g.weight("bias", {6}))));
    x = layer_norm(x, g.weight("norm.weight", {6}), g.weight("norm.bias", {6}), real(1e-5));
    taps.push_back(slice(x, 1, i, i + 2));
  }
  const Value y = add(add(taps[0], taps[1]), taps[2]);
  const Value seed = g.input("seed", y.type(), Stage::seed);
  Values keep = gradient(y, seed, {start, taps[0]});
  keep.push_back(y);
  expect_rows_change_nothing(g, keep);
  EXPECT_LT(Plan(keep, {.threads = 1}).flops(Stage::seed), Plan(keep, all_rows).flops(Stage::seed));
}

}  // namespace
}  // namespace whence
