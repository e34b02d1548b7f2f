// What becomes of a batch norm behind a convolution, and of the activation and the sum that follow.
#include <gtest/gtest.h>

#include "tests/unit/random_tensors.h"
#include "whence/ops.h"
#include "whence/plan.h"

namespace whence {
namespace {

constexpr double rounding = sizeof(real) == 4 ? 2e-6 : 1e-14;

struct Net {
  Graph g;
  Value x = g.input("x", Type{{2, 6, 5, 4}});
  Weights weights;

  Value weight(const std::string& name, Shape s, double spread = 0.5, double shift = 0) {
    Tensor t = random_tensor(s, weights.tensors.size() + 1, spread);
    for (real& v : t.reals()) v += real(shift);
    weights.tensors[name] = t;
    return g.weight(name, s);
  }
  Value conv(const std::string& name, Value in, int64_t outputs, bool bias, int64_t groups = 1) {
    const Value w = weight(name + ".weight", {outputs, in.shape()[3] / groups, 3, 3});
    return conv2d(in, w, bias ? weight(name + ".bias", {outputs}) : Value{}, {1, 1, 1});
  }
  Value norm(const std::string& name, Value in) {
    const Shape s{in.shape()[-1]};
    const Value w = weight(name + ".weight", s), b = weight(name + ".bias", s);
    const Value mean = weight(name + ".mean", s), v = weight(name + ".var", s, 0.1, 1);
    return batch_norm(in, w, b, mean, v, real(1e-3));
  }
  // Runs on poisoned memory first, so that what a step forgot to write shows.
  Plan run(const Values& keep, int threads = 1) {
    Plan plan(keep, {.threads = threads});
    plan.bind(weights);
    for (real poison : {real(NAN), real(0)}) {
      for (int n = 0; n < g.size(); ++n) {
        const Value v{&g, n, 0};
        if (g.node(n).op || g.node(n).weight) continue;
        Tensor t = random_tensor(v.shape(), 50 + uint64_t(n));
        for (real& at : t.reals()) at += poison;
        plan.set(v, t);
      }
      plan.forward();
      plan.backward();
    }
    return plan;
  }
};

TEST(FoldNorm, values_and_gradients_are_those_of_the_norm) {
  for (bool bias : {false, true})
    for (int64_t groups : {1, 2, 4}) {
      Net net;
      const Value c = net.conv("conv", net.x, 8 / (groups == 4 ? 2 : 1), bias, groups);
      const Value y = net.norm("norm", c);
      const Value seed = net.g.input("seed", y.type(), Stage::seed);
      const Values d = gradient(y, seed, {net.x, c});
      const Plan folded = net.run({y, d[0]}), plain = net.run({y, d[0], c, d[1]});
      EXPECT_EQ(folded.steps("batch_norm"), 0);
      EXPECT_EQ(folded.steps("batch_norm_bwd"), 0);
      EXPECT_EQ(folded.steps("conv2d"), 1);
      EXPECT_EQ(folded.steps("conv2d_bwd"), 1);
      // Kept values have to be computed.
      EXPECT_EQ(plain.steps("batch_norm"), 1);
      EXPECT_EQ(plain.steps("batch_norm_bwd"), 1);
      expect_near(folded.get(y), plain.get(y), rounding);
      expect_near(folded.get(d[0]), plain.get(d[0]), rounding);
    }
}

TEST(FoldNorm, a_convolution_with_other_readers_keeps_its_weights) {
  Net net;
  const Value c = net.conv("conv", net.x, 4, true);
  const Value y = net.norm("norm", c), z = add(y, relu(c));
  const Plan plan = net.run({z}), parts = net.run({z, y, c});
  EXPECT_EQ(plan.steps("batch_norm"), 1);
  expect_near(plan.get(z), parts.get(z), rounding);
}

TEST(FoldNorm, two_norms_of_one_weight_have_a_weight_each) {
  Net net;
  const Value w = net.weight("w", {4, 4, 3, 3});
  const auto branch = [&](const std::string& name, Value in) {
    return net.norm(name, conv2d(in, w, {}, {1, 1, 1}));
  };
  const Value a = branch("a", net.x), b = branch("b", a);
  const Value seed = net.g.input("seed", b.type(), Stage::seed);
  const Value d = gradient(b, seed, {net.x})[0];
  Values keep{a, b, d};
  const Plan folded = net.run(keep);
  EXPECT_EQ(folded.steps("batch_norm") + folded.steps("batch_norm_bwd"), 0);
  for (int n = 0; n < net.g.size(); ++n)  // everything is read, so nothing is folded
    if (const Value v{&net.g, n, 0}; net.g.node(n).op) keep.push_back(v);
  const Plan plain = net.run(keep);
  for (Value v : {a, b, d}) expect_near(folded.get(v), plain.get(v), 2 * rounding);
}

// conv, norm, sum and activation of a residual network become one step, also where gradients are
// wanted: the activation's derivative is that of its result.
TEST(FoldNorm, a_residual_block_is_a_step_for_each_convolution) {
  Net net;
  const auto block = [&](Value x, const std::string& name) {
    const Value h = relu(net.norm(name + ".n1", net.conv(name + ".c1", x, 4, false)));
    return relu(add(net.norm(name + ".n2", net.conv(name + ".c2", h, 4, false)), x));
  };
  const Value y = block(block(net.x, "a"), "b");
  const Value seed = net.g.input("seed", y.type(), Stage::seed);
  const Value d = gradient(y, seed, {net.x})[0];
  const Plan plan = net.run({y, d}, 2);
  EXPECT_EQ(plan.steps(Stage::data), 4) << plan.describe();
  EXPECT_EQ(plan.steps("relu") + plan.steps("add"), 0) << plan.describe();
  EXPECT_EQ(plan.steps("conv2d_bwd"), 4);
  EXPECT_EQ(plan.steps("unary_bwd"), 4);
  Values all{y, d};
  for (int n = 0; n < net.g.size(); ++n)
    if (const Value v{&net.g, n, 0}; net.g.node(n).op) all.push_back(v);
  const Plan plain = net.run(all);
  expect_near(plan.get(y), plain.get(y), 4 * rounding);
  expect_near(plan.get(d), plain.get(d), 4 * rounding);
}

// One weight in two windows is packed for each.
TEST(FoldNorm, a_weight_is_packed_by_window) {
  Net net;
  const Value w = net.weight("w", {4, 4, 3, 3});
  const Value a = conv2d(net.x, w, {}, {1, 1, 1}), b = conv2d(net.x, w, {}, {2, 2, 2});
  const Value seed = net.g.input("seed", a.type(), Stage::seed);
  const Value other = net.g.input("other", b.type(), Stage::seed);
  const Values d{gradient(a, seed, {net.x})[0], gradient(b, other, {net.x})[0]};
  const Plan both = net.run({a, b, d[0], d[1]});
  const auto alone = [&](Value v) {
    Plan plan({v}, {.threads = 1});
    plan.bind(net.weights);
    for (Value in : {net.x, seed, other}) {
      try {
        plan.set(in, random_tensor(in.shape(), 50 + uint64_t(in.node)));
      } catch (const std::exception&) {  // not every value depends on every input
      }
    }
    plan.forward();
    plan.backward();
    return plan.get(v);
  };
  for (Value v : {a, b, d[0], d[1]}) expect_same_bits(both.get(v), alone(v));
}

}  // namespace
}  // namespace whence
