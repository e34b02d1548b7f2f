// The Rescale rule on graphs small enough to check by hand: numbers that Captum's own tests assert.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include "models/vit/vit.h"
#include "tests/unit/message_of.h"
#include "tests/unit/random_tensors.h"
#include "whence/ops.h"
#include "whence/plan.h"
#include "whence/rules.h"

namespace whence {
namespace {

std::vector<GradientRow> rescale() { return {{"relu|gelu|max_pool", "*", rule::Rescale{}}}; }

// One batch of inputs and, after them, their references.
Tensor pairs(Shape shape, std::vector<real> x, const std::vector<real>& references = {}) {
  const size_t n = x.size();
  x.insert(x.end(), references.begin(), references.end());
  x.resize(2 * n);
  return Tensor::of(shape.with(0, 2 * shape[0]), x);
}

// A score, and the values whose multipliers are wanted.
struct Scores {
  Value score;
  Values of;
};
struct Found {
  std::vector<std::vector<double>> multipliers, values, references;
  // Multipliers times what they multiply.
  std::vector<double> contributions(size_t i) const {
    std::vector<double> all;
    for (size_t j = 0; j < multipliers[i].size(); ++j)
      all.push_back(multipliers[i][j] * (values[i][j] - references[i][j]));
    return all;
  }
};

std::vector<double> half(std::span<const real> x, size_t which) {
  const auto part = x.subspan(which * x.size() / 2, x.size() / 2);
  return {part.begin(), part.end()};
}

Found multipliers(const std::vector<Tensor>& in,
                  const std::function<Scores(const Values&)>& build) {
  Graph g;
  Values inputs;
  for (size_t i = 0; i < in.size(); ++i)
    inputs.push_back(g.input("x" + std::to_string(i), in[i].type()));
  const Scores scores = build(inputs);
  const Shape& score = scores.score.shape();
  const Value seed = g.input("seed", Type{score.with(0, score[0] / 2)}, Stage::seed);
  const Values m = gradient(scores.score, seed, scores.of, rescale());
  Values kept = m;
  kept.insert(kept.end(), scores.of.begin(), scores.of.end());
  Plan plan(kept);
  for (size_t i = 0; i < in.size(); ++i) plan.set(inputs[i], in[i]);
  std::ranges::fill(plan.input(seed), real(1));
  plan.forward();
  plan.backward();
  Found found;
  for (size_t i = 0; i < m.size(); ++i) {
    const auto of_inputs = plan.view(m[i]);
    found.multipliers.emplace_back(of_inputs.begin(), of_inputs.end());
    found.values.push_back(half(plan.view(scores.of[i]), 0));
    found.references.push_back(half(plan.view(scores.of[i]), 1));
  }
  return found;
}

using List = std::vector<double>;

// 2 relu(a) + 2 relu(b - 1.5)
Scores two_rectifiers(const Values& in) {
  return {add(scale(relu(in[0]), 2), scale(relu(affine(in[1], 1, real(-1.5))), 2)), in};
}

TEST(Rescale, shares_what_a_sum_of_rectifiers_rises) {
  const Found f = multipliers({pairs({1, 1}, {1}), pairs({1, 1}, {2})}, two_rectifiers);
  EXPECT_EQ(f.contributions(0), List{2});
  EXPECT_EQ(f.contributions(1), List{1});
  EXPECT_EQ(f.multipliers[0], List{2});
  EXPECT_EQ(f.multipliers[1], List{0.5});
}

TEST(Rescale, averages_of_equal_references_are_those_of_one) {
  const Found f = multipliers(
      {pairs({16, 1}, std::vector<real>(16, 1)), pairs({16, 1}, std::vector<real>(16, 2))},
      two_rectifiers);
  EXPECT_EQ(f.multipliers[0], List(16, 2));
  EXPECT_EQ(f.multipliers[1], List(16, 0.5));
}

TEST(Rescale, a_pool_hands_its_fall_to_the_maximum_of_the_reference) {
  const Found f =
      multipliers({pairs({2, 2, 2, 1}, std::vector<real>(8, 1), {1, 2, 3, 9, 4, 8, 6, 7})},
                  [](const Values& in) {
                    return Scores{max_pool(in[0], {2, 2}), in};
                  });
  EXPECT_EQ(f.contributions(0), (List{0, 0, 0, -8, 0, -7, 0, 0}));
  // Where value and reference agree the gradient remains, which multiplies 0.
  EXPECT_EQ(f.multipliers[0], (List{1, 0, 0, 1, 0, 1, 0, 0}));
}

// relu(3 a1 + a2), relu(2 b1 + 3 b2); the third components weigh nothing.
struct Twin {
  Value first, second, before, after;
  explicit Twin(const Values& in) {
    Graph& g = *in[0].graph;
    first = sum(mul(in[0], constant(g, {1, 3}, {3, 1, 0})), {1});
    second = sum(mul(in[1], constant(g, {1, 3}, {2, 3, 0})), {1});
    before = concat({reshape(first, {2, 1}), reshape(second, {2, 1})}, 1);
    after = relu(before);
  }
};
const std::vector<Tensor>& twin_inputs() {
  static const std::vector<Tensor> in{pairs({1, 3}, {-10, 1, -5}), pairs({1, 3}, {3, 3, 1})};
  return in;
}

TEST(Rescale, reaches_layers_inside) {
  const Found f = multipliers(twin_inputs(), [](const Values& in) {
    const Twin t(in);
    return Scores{sum(t.after, {1}), {t.before}};
  });
  EXPECT_EQ(f.contributions(0), (List{0, 15}));
  EXPECT_EQ(f.multipliers[0], (List{0, 1}));
}

TEST(Rescale, starts_at_neurons_inside) {
  const Found out = multipliers(twin_inputs(), [](const Values& in) {
    return Scores{sum(Twin(in).after, {1}), in};
  });
  EXPECT_EQ(out.contributions(0), (List{0, 0, 0}));
  EXPECT_EQ(out.contributions(1), (List{6, 9, 0}));
  const Found in_side = multipliers(twin_inputs(), [](const Values& in) {
    return Scores{slice(Twin(in).after, 1, 0, 1), in};
  });
  EXPECT_EQ(in_side.contributions(0), (List{0, 0, 0}));
  EXPECT_EQ(in_side.contributions(1), (List{0, 0, 0}));
}

TEST(Rescale, counts_what_two_rectified_layers_fall) {
  const Found f = multipliers({pairs({1, 3}, {-10, 1, -5})}, [](const Values& in) {
    const Value bias = constant(*in[0].graph, {1, 4}, {-10, 1, 1, 1});
    const Value total = reshape(sum(in[0], {1}), {2, 1});
    const Value a = relu(add(total, bias)), b = relu(add(total, bias));
    return Scores{sum(add(a, b), {1}), {a, b}};
  });
  for (size_t i = 0; i < 2; ++i) EXPECT_EQ(f.contributions(i), (List{0, -1, -1, -1}));
}

TEST(Rescale, multiplies_through_a_pool_and_a_rectifier) {
  // Two channels of three pixels, one window each.
  const Found f = multipliers({pairs({1, 1, 3, 2}, {1, -3, 2, -2, -4, -1})}, [](const Values& in) {
    const Value pool = max_pool(in[0], {.size = 3, .stride = 3, .pad = 0, .ceil = true});
    return Scores{sum(relu(pool), {1, 2, 3}), {pool, in[0]}};
  });
  EXPECT_EQ(f.multipliers[0], (List{1, 0}));
  EXPECT_EQ(f.values[0], (List{2, -1}));
  EXPECT_EQ(f.references[0], (List{0, 0}));
  EXPECT_EQ(f.multipliers[1], (List{0, 0, 1, 0, 0, 0}));
}

TEST(Rescale, is_a_rule_of_activations_and_pools_with_references) {
  Graph g;
  const Value x = g.input("x", Type{{5, 4, 4, 2}}), y = relu(x);
  const auto said = [&](Value of, int64_t samples) {
    const Value seed = slice(of, 0, 0, samples);
    return message([&] { gradient(of, seed, {x}, rescale()); });
  };
  for (const int64_t samples : {2, 3, 5})
    EXPECT_EQ(said(y, samples),
              fmt::format("the seed has shape [{}, 4, 4, 2], and the value it seeds [5, 4, 4, 2]: "
                          "Rescale needs a reference for each sample or one for all",
                          samples));
  EXPECT_EQ(said(y, 4), "accepted");
  EXPECT_EQ(said(max_pool(x, {2, 2}), 4), "accepted");
  EXPECT_EQ(said(relu(slice(x, 0, 0, 3)), 2),
            "Rescale: 'x' has shape [5, 4, 4, 2], and the batch 3 samples");
  const Value w = affine(x, 2, 1);
  EXPECT_NE(message([&] {
              gradient(w, slice(w, 0, 0, 4), {x}, {{"*", "*", rule::Rescale{}}});
            }),
            "accepted");
}

TEST(Rescale, one_reference_serves_all_samples_and_has_no_gradient) {
  const auto multipliers_of = [](int64_t references) {
    Graph g;
    const Value x = g.input("x", Type{{3 + references, 8, 8, 2}});
    const Value w = g.weight("w", {4, 2, 3, 3}), v = g.weight("v", {5, 4});
    const Value pooled = max_pool(relu(conv2d(x, w, {}, {})), {2, 2});
    const Value y = linear(gelu(mean(pooled, {1, 2})), v);
    const Value seed = g.input("seed", Type{{3, 5}}, Stage::seed);
    const Value m = gradient(y, seed, {x}, rescale())[0];
    EXPECT_EQ(m.shape(), (Shape{3, 8, 8, 2}));
    Plan plan({m});
    plan.bind(random_weights(g, 3));
    const Tensor inputs = random_tensor({3, 8, 8, 2}, 1), reference = random_tensor({8, 8, 2}, 2);
    auto at = std::ranges::copy(inputs.reals(), plan.input(x).begin()).out;
    for (int64_t i = 0; i < references; ++i) at = std::ranges::copy(reference.reals(), at).out;
    plan.set(seed, random_tensor({3, 5}, 4));
    plan.forward();
    plan.backward();
    return plan.get(m);
  };
  expect_same_bits(multipliers_of(1), multipliers_of(3));
}

// Where the readout needs single rows, the multipliers of those are all that is computed.
TEST(Rescale, does_not_depend_on_rows_that_nobody_reads) {
  Graph g;
  const Value x = g.input("x", Type{{4, 5, 6}}), seed = g.input("seed", Type{{2, 6}}, Stage::seed);
  const Value w = g.weight("w", {6, 6}), v = g.weight("v", {6, 6});
  const Value y = row(linear(gelu(linear(x, w)), v), 2);
  const Value m = gradient(y, seed, {x}, rescale())[0];
  const auto run = [&](const std::vector<std::string>& without) {
    Plan plan({m}, {.threads = 1, .without = without});
    plan.bind(random_weights(g, 3));
    plan.set(x, random_tensor({4, 5, 6}, 1));
    plan.set(seed, random_tensor({2, 6}, 2));
    plan.forward();
    plan.backward();
    EXPECT_EQ(plan.steps("unary_rescale"), 1);
    return std::pair(plan.get(m), plan.flops(Stage::data));
  };
  const auto few = run({}), all = run({"restrict_rows"});
  expect_same_bits(few.first, all.first);
  EXPECT_LT(few.second, all.second);
}

}  // namespace
}  // namespace whence
