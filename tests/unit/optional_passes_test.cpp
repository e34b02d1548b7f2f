// Every pass that may be left out changes what runs, and no value.
#include <gtest/gtest.h>

#include <set>

#include "models/vit/vit.h"
#include "tests/unit/message_of.h"
#include "tests/unit/random_tensors.h"
#include "whence/ops.h"
#include "whence/plan.h"
#include "whence/rules.h"

namespace whence {
namespace {

struct Net {
  Graph graph;
  Values keep;
};

// A transformer over points between two images, with everything that differentiates an attention,
// and relevance that tells the signs of weights apart.
void build_transformer(Net& net) {
  Graph& g = net.graph;
  const Type images{{2, 3, 8, 12}}, numbers{{2}};
  g.name(interpolate(g.input("to", numbers), g.input("item", images), g.input("from", numbers),
                     g.input("other", images)),
         "image");
  ViTConfig c;
  c.image_height = 8, c.image_width = 12, c.patch = 4;
  c.width = 12, c.depth = 2, c.heads = 3, c.mlp = 16, c.classes = 4;
  const Value logits = build_vit(g, c, 2);
  const Value seed = g.input("seed", logits.type(), Stage::seed);
  net.keep = {logits};
  for (const char* block : {"blocks.0.attn.", "blocks.1.attn."}) {
    const auto at = [&](const char* part) { return g.at(std::string(block) + part); };
    const Attention a{at("context"), at("probs"), at("probs_mean")};
    const Values g_of = gradient(logits, seed, {a.context, a.probs});
    net.keep.push_back(g_of[1]);
    net.keep.push_back(attention_relevance(a, g_of[0]));
    net.keep.push_back(attention_gradient_mean(a, g_of[0]));
  }
  net.keep.push_back(relevance(logits, seed, {g.at("blocks.0.mid")}, chefer_stable())[0]);
}

// Convolution, norm, rectifier, twice, with a residual sum.
void build_convolutions(Net& net) {
  Graph& g = net.graph;
  const Value x = channels_last(g.input("image", Type{{2, 3, 7, 9}}));
  const auto layer = [&](const std::string& name, Value in) {
    const auto scope = g.scope(name);
    const int64_t channels = in.shape()[-1];
    const auto of_channel = [&](const char* part) { return g.weight(part, {4}); };
    const Value spread = of_channel("spread"), variance = affine(mul(spread, spread), 1, 1);
    return batch_norm(conv2d(in, g.weight("weight", {4, channels, 3, 3}), {}, {.pad = 1}),
                      of_channel("scale"), of_channel("bias"), of_channel("mean"), variance,
                      real(1e-3));
  };
  const Value first = relu(layer("first", x));
  const Value last = relu(add(layer("second", first), first));
  const Value logits = linear(mean(last, {1, 2}), g.weight("head", {5, 4}));
  const Value seed = g.input("seed", logits.type(), Stage::seed);
  net.keep = {logits, gradient(logits, seed, {g.at("image")})[0]};
}

struct Ran {
  std::vector<Tensor> values;
  std::vector<int> steps;
  double flops;
};

Ran run(const Net& net, const std::vector<std::string>& without) {
  Plan plan(net.keep, {.threads = 2, .without = without});
  plan.bind(random_weights(net.graph, 7));
  for (const auto& [name, value] : net.graph.names())
    if (const Node& node = net.graph.node(value); !node.op && !node.weight)
      plan.set(value, random_tensor(value.shape(), 5 + uint64_t(value.node)));
  plan.forward();
  plan.backward();
  Ran ran{{}, {}, plan.flops(Stage::data) + plan.flops(Stage::seed)};
  for (Value v : net.keep) ran.values.push_back(plan.get(v));
  for (const Stage stage : {Stage::weights, Stage::data, Stage::seed})
    ran.steps.push_back(plan.steps(stage));
  return ran;
}

TEST(OptionalPasses, change_what_runs_and_no_value) {
  // These leave out zeros, or steps, and compute the rest as before.
  const std::set<std::string> exact{"restrict_rows", "cut_patches", "merge_attention"};
  Net nets[2];
  build_transformer(nets[0]);
  build_convolutions(nets[1]);
  const Ran whole[] = {run(nets[0], {}), run(nets[1], {})};
  for (const std::string& pass : Plan::optional_passes()) {
    SCOPED_TRACE(pass);
    bool changed = false;
    for (size_t i = 0; i < 2; ++i) {
      const Ran left_out = run(nets[i], {pass});
      changed |= left_out.steps != whole[i].steps || left_out.flops != whole[i].flops;
      for (size_t v = 0; v < nets[i].keep.size(); ++v)
        if (exact.contains(pass))
          expect_same_bits(left_out.values[v], whole[i].values[v]);
        else
          expect_near(left_out.values[v], whole[i].values[v], sizeof(real) == 4 ? 1e-5 : 1e-13);
    }
    EXPECT_TRUE(changed) << "of these networks nothing shows the pass";
  }
  for (size_t i = 0; i < 2; ++i) {  // all of them
    const Ran left_out = run(nets[i], Plan::optional_passes());
    for (size_t v = 0; v < nets[i].keep.size(); ++v)
      expect_near(left_out.values[v], whole[i].values[v], sizeof(real) == 4 ? 1e-5 : 1e-13);
  }
}

TEST(OptionalPasses, are_those_that_a_plan_may_leave_out) {
  Graph g;
  const Value x = g.input("x", Type{{2, 3}}), y = linear(x, g.weight("w", {4, 3}));
  EXPECT_EQ(message([&] {
              Plan({y}, {.without = {"cut_patches", "fuse"}});
            }),
            "a plan cannot leave out 'fuse'; it can leave out 'restrict_rows', 'cut_patches', "
            "'merge_attention', 'fold_norms'");
  EXPECT_NE(message([&] { Plan({y}, {.without = {"pack_products"}}); }), "accepted");
  const auto passes_of = [](const Plan& plan) {
    const std::string text = plan.describe();
    const size_t at = text.find("passes ");
    return text.substr(at, text.find('\n') - at);
  };
  EXPECT_EQ(passes_of(Plan({y})),
            "passes restrict_rows cut_patches merge_attention fold_norms pack_products");
  EXPECT_EQ(passes_of(Plan({y}, {.without = {"merge_attention", "cut_patches"}})),
            "passes restrict_rows fold_norms pack_products");
}

}  // namespace
}  // namespace whence
