// Plans: pruning, stages, rows, memory.
#include "whence/plan.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "models/vit/vit.h"
#include "runtime/arena.h"
#include "tests/unit/random_tensors.h"
#include "whence/error.h"
#include "whence/ops.h"

namespace whence {
namespace {

ViTConfig tiny() {
  ViTConfig c;
  c.image_height = 24;
  c.image_width = 16;
  c.patch = 8;
  c.width = 12;
  c.depth = 3;
  c.heads = 3;
  c.mlp = 20;
  c.classes = 5;
  return c;
}

struct Net {
  explicit Net(const ViTConfig& c, int64_t batch = 2) {
    logits = build_vit(graph, c, batch);
    seed = graph.input("seed", logits.type(), Stage::seed);
    weights = random_weights(graph, 7);
    image = random_tensor(graph.at("image").shape(), 3);
  }
  Plan plan(const Values& keep, Plan::Options options = {}) {
    Plan p(keep, options);
    p.bind(weights);
    p.set(graph.at("image"), image);
    return p;
  }
  Graph graph;
  Value logits, seed;
  Weights weights;
  Tensor image;
};

TEST(Plan, computes_only_what_leads_to_the_wanted_values) {
  Net net(tiny());
  const auto backward_nodes = [&](const Values& wrt) {
    const int before = net.graph.size();
    gradient(net.logits, net.seed, wrt);
    return net.graph.size() - before;
  };
  Values weights;
  for (int n = 0; n < net.graph.size(); ++n)
    if (net.graph.node(n).weight) weights.push_back({&net.graph, n, 0});
  const int last = backward_nodes({net.graph.at("blocks.2.attn.probs")});
  const int every = backward_nodes(net.graph.match("blocks.*.attn.probs"));
  const int input = backward_nodes({net.graph.at("image")});
  const int all = backward_nodes(weights);
  // head, reshape, row, norm; fc2, gelu, fc1, norm2, their sum; proj; probabilities
  EXPECT_EQ(last, 11);
  // each block below: attention, q, k, v, two sums, norm1, its sum; fc2, gelu, fc1, norm2, sum;
  // proj; probabilities
  EXPECT_EQ(every, 41);
  EXPECT_EQ(input, 49);
  EXPECT_GT(all, input);
}

TEST(Plan, a_gradient_never_contains_a_weight_gradient_unless_asked) {
  Net net(tiny());
  const Values g = gradient(net.logits, net.seed, {net.graph.at("image")});
  const Plan p = net.plan(g);
  EXPECT_EQ(p.steps("einsum"), 0);
  EXPECT_EQ(p.steps("layer_norm_bwd_weight"), 0);
}

TEST(Plan, a_one_token_readout_needs_one_row_of_the_last_block) {
  Net net(tiny());
  const Values g = gradient(net.logits, net.seed, net.graph.match("blocks.*.attn.context"));
  Values keep = g;
  keep.push_back(net.logits);
  Plan whole = net.plan(keep, {.threads = 1, .without = {"restrict_rows"}}),
       rows = net.plan(keep, {.threads = 1});
  EXPECT_LT(rows.flops(Stage::data), whole.flops(Stage::data));
  EXPECT_LT(rows.flops(Stage::seed), 0.8 * whole.flops(Stage::seed));
  for (Plan* p : {&whole, &rows}) {
    p->set(net.seed, Tensor::of({2, 5}, {1, 0, 0, 0, 0, 0, 0, 1, 0, 0}));
    p->forward();
    p->backward();
  }
  for (Value v : keep) expect_near(rows.get(v), whole.get(v), 1e-6);
}

TEST(Plan, mean_pooling_keeps_every_row) {
  ViTConfig c = tiny();
  c.pooling = ViTConfig::Pooling::mean;
  Net net(c);
  Plan whole = net.plan({net.logits}, {.threads = 1, .without = {"restrict_rows"}}),
       rows = net.plan({net.logits});
  // The class token's row of the last block is not read, all others are.
  EXPECT_LE(rows.flops(Stage::data), whole.flops(Stage::data));
  EXPECT_GT(rows.flops(Stage::data), 0.9 * whole.flops(Stage::data));
  whole.forward();
  rows.forward();
  expect_near(rows.get(net.logits), whole.get(net.logits), 1e-6);
}

TEST(Plan, a_second_seed_equals_a_fresh_run_bit_for_bit) {
  Net net(tiny());
  const Values g =
      gradient(net.logits, net.seed, {net.graph.at("image"), net.graph.at("blocks.0.attn.probs")});
  Plan p = net.plan(g), fresh = net.plan(g);
  const Tensor a = random_tensor({2, 5}, 11), b = random_tensor({2, 5}, 12);
  p.set(net.seed, a);
  p.forward();
  p.backward();
  p.set(net.seed, b);
  p.backward();
  fresh.set(net.seed, b);
  fresh.forward();
  fresh.backward();
  for (Value v : g) expect_same_bits(p.get(v), fresh.get(v));
}

TEST(Plan, given_values_cut_the_graph) {
  Net net(tiny());
  const Value embedded = net.graph.at("embed.out");
  Plan p = net.plan({embedded, net.logits});
  p.forward();
  Plan cut({net.logits}, {.given = {embedded}});
  cut.bind(net.weights);
  cut.set(embedded, p.get(embedded));
  cut.forward();
  expect_same_bits(cut.get(net.logits), p.get(net.logits));
  EXPECT_EQ(cut.steps("patchify"), 0);
  EXPECT_THROW(cut.set(net.graph.at("image"), net.image), Error);
}

TEST(Plan, bits_do_not_depend_on_threads_or_batch) {
  Net two(tiny(), 2), one(tiny(), 1);
  const Values g2 = gradient(two.logits, two.seed, {two.graph.at("image")});
  const Values g1 = gradient(one.logits, one.seed, {one.graph.at("image")});
  Plan a = two.plan(g2, {.threads = 1}), b = two.plan(g2, {.threads = 2});
  const Tensor seed = random_tensor({2, 5}, 4);
  for (Plan* p : {&a, &b}) {
    p->set(two.seed, seed);
    p->forward();
    p->backward();
  }
  expect_same_bits(a.get(g2[0]), b.get(g2[0]));
  Plan single(g1);
  single.bind(two.weights);
  for (int64_t i = 0; i < 2; ++i) {
    single.set(one.graph.at("image"), two.image.slice(i, i + 1));
    single.set(one.seed, seed.slice(i, i + 1));
    single.forward();
    single.backward();
    expect_same_bits(single.get(g1[0]), a.get(g2[0]).slice(i, i + 1));
  }
}

TEST(Plan, says_what_is_wrong) {
  Net net(tiny());
  Weights w = net.weights;
  w.tensors.erase("head.bias");
  w.tensors["norm.weight"] = Tensor(Type{{3}});
  Plan p({net.logits});
  EXPECT_THROW(p.forward(), Error);
  try {
    p.bind(w);
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find(
                  "1 missing 'head.bias'; 1 of another shape 'norm.weight is [3], [12] is needed'"),
              std::string::npos)
        << e.what();
  }
  try {
    net.graph.at("blocks.2.attn.prob");
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("'blocks.2.attn.probs'"), std::string::npos) << e.what();
  }
  EXPECT_THROW(gradient(net.graph.at("blocks.0.out"), net.graph.at("blocks.0.out"),
                        {net.graph.at("blocks.1.out")}),
               Error);
}

TEST(Arena, buffers_that_live_together_never_overlap) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    const Tensor r = random_tensor({60, 3}, seed);
    std::vector<Lifetime> buffers;
    for (int64_t i = 0; i < 60; ++i) {
      const auto at = [&](int64_t j) { return std::abs(r.reals()[size_t(i * 3 + j)]); };
      const int first = int(at(0) * 40) % 50;
      buffers.push_back({size_t(at(1) * 1000), first, first + int(at(2) * 20), 0});
    }
    const size_t total = place(buffers);
    size_t peak = 0;
    for (int step = 0; step < 120; ++step) {
      size_t live = 0;
      for (const auto& b : buffers)
        if (b.first <= step && step <= b.last) live += b.bytes;
      peak = std::max(peak, live);
    }
    EXPECT_GE(total, peak);
    for (size_t i = 0; i < buffers.size(); ++i)
      for (size_t j = 0; j < i; ++j) {
        const auto &a = buffers[i], &b = buffers[j];
        const bool together = a.first <= b.last && b.first <= a.last;
        const bool overlap = a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
        EXPECT_FALSE(together && overlap && a.bytes && b.bytes);
      }
  }
}

TEST(Plan, describes_every_step) {
  Net net(tiny());
  const Plan p = net.plan({net.logits});
  const std::string text = p.describe();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), p.steps(Stage::data) + 2);
  EXPECT_NE(text.find("attention"), std::string::npos);
  EXPECT_NE(text.find(std::to_string(p.bytes()) + " activation bytes"), std::string::npos);
}

}  // namespace
}  // namespace whence
