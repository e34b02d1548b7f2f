// Relevance of small networks that can be followed by hand: Captum's own test vectors, published
// convolutions, and what holds for every network.
#include "tests/unit/golden_file.h"
#include "tests/unit/random_tensors.h"
#include "tests/unit/relevance_of_op.h"

namespace whence {
namespace {

// --- Captum's numbers ---

struct Small {
  Graph graph;
  std::vector<std::pair<Value, Tensor>> given;
  Value input(const std::string& name, const Tensor& t) {
    given.emplace_back(graph.input(name, t.type()), t);
    return given.back().first;
  }
  // The relevance at `wrt` when output `target` of y has its own value as relevance.
  std::vector<Tensor> run(Value y, int64_t target, const Values& wrt, const RuleTable& table) {
    const Value selector = graph.input("selector", y.type(), Stage::seed);
    const Values r = relevance(y, mul(selector, y), wrt, table);
    Plan plan(r);
    for (const auto& [value, tensor] : given) plan.set(value, tensor);
    Tensor select(y.type());
    const int64_t outputs = y.shape()[-1];
    for (int64_t i = target; i < y.shape().count(); i += outputs) select.reals()[size_t(i)] = 1;
    plan.set(selector, select);
    plan.forward();
    plan.backward();
    std::vector<Tensor> results;
    for (Value v : r) results.push_back(plan.get(v));
    return results;
  }
};
Tensor filled(Shape shape, double value) {
  return reals(shape, std::vector<double>(size_t(shape.count()), value));
}

// One channel of 4 x 4, a convolution to two channels of 2 x 2, a dense layer that reads them
// channel by channel; the second sample is twice the first.
TEST(Lrp, epsilon_has_the_numbers_of_captum_for_a_convolution) {
  Small m;
  std::vector<double> ramp, rows;
  for (int b = 1; b <= 2; ++b)
    for (int i = 0; i < 16; ++i) ramp.push_back(b * i);
  for (int o = 0; o < 4; ++o)
    for (int p = 0; p < 4; ++p)
      for (int c = 0; c < 2; ++c) rows.push_back(4 * c + p < 5 ? 1 : -1);
  const Value x = m.input("x", reals({2, 4, 4, 1}, ramp));
  const Value conv =
      conv2d(x, m.input("w", filled({2, 1, 3, 3}, 1)), m.input("b", reals({2}, {-50, -75})));
  const Value y = relu(linear(reshape(relu(conv), {2, 8}), m.input("fc", reals({4, 8}, rows))));
  const auto r = m.run(y, 0, {x, conv}, captum_default());
  expect_values(r[0].slice(0, 1).reals(), {0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11, 0, 0, 0, 0},
                "pixels");
  expect_values(r[1].slice(0, 1).reals(), {0, 0, 4, 0, 31, -6, 40, -15}, "feature map");
  double total = 0;
  for (real v : r[0].slice(0, 1).reals()) total += v;
  EXPECT_NEAR(total, 54, 1e-4);
}

TEST(Lrp, dense_networks_have_the_numbers_of_captum) {
  const Tensor x = reals({2, 3}, {1, 2, 3, 2, 4, 6});
  const auto dense = [&](Value (*activation)(Value), double first, double second,
                         const RuleTable& table, double corner = 2) {
    Small m;
    Tensor w = filled({3, 3}, first);
    if (corner != 2) w.reals()[0] = real(corner);
    const Value in = m.input("x", x);
    const Value hidden = activation(linear(in, m.input("w", w)));
    return m.run(linear(hidden, m.input("v", filled({1, 3}, second))), 0, {in}, table)[0];
  };
  const Tensor rectified = dense(relu, 2, 3, captum_default());
  expect_values(rectified.reals(), {18, 36, 54, 36, 72, 108}, "relu");
  const Tensor bent = dense(tanh, .1, .1, captum_default());
  const double want[] = {.0269, .0537, .0806};  // as printed
  for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(bent.reals()[i], want[i], 5e-5);
  RuleTable positive = captum_default();
  positive.rows.insert(positive.rows.begin(), {"linear", "*", rule::PositiveWeights{}});
  expect_values(dense(relu, 2, 3, positive, -2).slice(0, 1).reals(), {12, 33.6, 50.4}, "positive");
}

TEST(Lrp, sums_are_split_where_captum_copies) {
  Small residual;
  const Value x = residual.input("x", reals({2, 2}, {2, 3, 4, 6}));
  const Value y = add(linear(x, residual.input("w", filled({2, 2}, 5))), x);
  expect_values(residual.run(y, 1, {x}, captum_default())[0].slice(0, 1).reals(), {10, 18},
                "residual");
  Small both;
  const Value a = both.input("a", reals({2, 3}, {1, 2, 3, 2, 4, 6}));
  const Value b = both.input("b", reals({2, 3}, {3, 6, 9, 6, 12, 18}));
  const Value h = relu(linear(add(a, b), both.input("w", filled({4, 3}, 1)),
                              both.input("c", reals({4}, {-10, 1, 1, 1}))));
  const Value z =
      linear(h, both.input("v", filled({2, 4}, 1)), both.input("d", reals({2}, {-1, 1})));
  const auto r = both.run(z, 0, {a, b}, captum_default());
  expect_values(r[0].slice(0, 1).reals(), {4, 8, 12}, "first");
  expect_values(r[1].slice(0, 1).reals(), {12, 24, 36}, "second");
}

// --- ops without weights, and published convolutions ---

TEST(Lrp, pools_give_to_the_winner_or_in_proportion) {
  const Tensor x = reals({2, 2, 2, 1}, {1, 3, 2, -1, 2, 6, 4, -2}), r = filled({2, 1, 1, 1}, .5);
  const auto run = [&](const char* kind, const RelevanceRule& rule, const BuildOp& build) {
    return explain_op({x}, 1, r, one_rule(kind, rule), build)[0];
  };
  const BuildOp largest = [](const Values& in) {
    return max_pool(in[0], {.size = 2, .stride = 2});
  };
  const BuildOp average = [](const Values& in) {
    return average_pool(in[0], {.size = 2, .stride = 2});
  };
  for (const RelevanceRule& rule : {RelevanceRule(rule::Pass{}), RelevanceRule(rule::Norm{})})
    expect_values(run("max_pool", rule, largest).reals(), {0, .5, 0, 0, 0, .5, 0, 0}, "max");
  expect_values(run("average_pool", rule::Norm{}, average).reals(),
                {.1, .3, .2, -.1, .1, .3, .2, -.1}, "average");
}

TEST(Lrp, convolutions_have_their_published_numbers) {
  // Channels 1, 2; in and out as printed, channel by channel.
  const Tensor x =
      channels_last_of(reals({1, 2, 2, 3}, {1, -1, 2, .5, 3, -2, -.5, 1, 0, 2, -1, 1}));
  const Tensor w = reals({1, 2, 2, 2}, {1, -.5, .5, 2, -1, 1, .25, -2});
  const Tensor r = reals({1, 1, 2, 1}, {1, .5});
  const auto run = [&](double alpha) {
    return explain_op({x, w}, 1, r, one_rule("conv2d", rule::AlphaBeta{alpha, alpha - 1}),
                      [](const Values& in) { return conv2d(in[0], in[1], {}); })[0];
  };
  const auto expect = [](const Tensor& got, const std::vector<double>& want) {
    expect_values(
        got.reals(),
        [&] {
          const Tensor t = channels_last_of(reals({1, 2, 2, 3}, want));
          return std::vector<double>(t.reals().begin(), t.reals().end());
        }(),
        "convolution");
  };
  expect(run(1), {.114285714, .166666667, 0, .028571429, 1.185714285, 0, .166666667, .114285714, 0,
                  .057142857, .666666666, 0});
  expect(run(2), {.228571429, .238095238, -.125, .057142857, 2.371428571, -.380952381, .333333333,
                  .103571429, 0, .114285714, 1.309523809, -.25});
  // Flat: a corner is read by one padded window of four, and so on.
  const Tensor even =
      explain_op({filled({2, 2, 2, 1}, 3), filled({1, 1, 2, 2}, 7)}, 1, filled({2, 3, 3, 1}, 1),
                 one_rule("conv2d", rule::Flat{}),
                 [](const Values& in) { return conv2d(in[0], in[1], {}, {.pad = 1}); })[0];
  expect_values(even.reals(), std::vector<double>(8, 2.249998438), "flat");
}

TEST(Lrp, a_merged_norm_scales_weights_and_moves_the_bias) {
  // conv [[1, -.5], [.5, 2]] as a 1 x 1 convolution, weight 2, bias .3, mean .5, variance 4.
  const Tensor x = reals({2, 1, 1, 2}, {1, 2, -1, 3}), r = reals({2, 1, 1, 2}, {1, .5, .25, -2});
  const BuildOp normed = [](const Values& in) {
    return batch_norm(conv2d(in[0], in[1], {}), in[2], in[3], in[4], in[5], real(1e-5));
  };
  const Tensor w = reals({2, 2, 1, 1}, {1, -.5, .5, 2});
  const Tensor merged =
      explain_op({x, w, filled({2}, 2), filled({2}, .3), filled({2}, .5), filled({2}, 4)}, 1, r,
                 epsilon_alpha2_beta1(), normed)[0];
  std::vector<double> scaled;
  for (double v : {1.0, -.5, .5, 2.0}) scaled.push_back(v * .99999875);
  const Tensor plain = explain_op({x, reals({2, 2, 1, 1}, scaled), filled({2}, -.199999375)}, 1, r,
                                  epsilon_alpha2_beta1(),
                                  [](const Values& in) { return conv2d(in[0], in[1], in[2]); })[0];
  expect_close(merged.reals(), plain.reals(), 1e-6, "merged");
}

// Epsilon without biases in a network of rectifiers is the input times the gradient.
TEST(Lrp, epsilon_without_biases_is_input_times_gradient) {
  Small m;
  const Value x = m.input("x", random_tensor({2, 5, 5, 2}, 3));
  Value h = relu(conv2d(x, m.input("w", random_tensor({4, 2, 3, 3}, 4)), {}, {.pad = 1}));
  h = add(max_pool(h, {.size = 2, .stride = 1}), average_pool(h, {.size = 2, .stride = 1}));
  const Value y = linear(mean(h, {1, 2}), m.input("v", random_tensor({3, 4}, 5)));
  const Value ones = m.graph.input("ones", y.type(), Stage::seed);
  RuleTable exact = captum_default();
  exact.rows.insert(exact.rows.begin(),
                    {"conv2d|linear", "*", rule::Epsilon{{Stabiliser::guarded, 0}}});
  exact.rows.insert(exact.rows.begin(),
                    {"add|mean|average_pool", "*", rule::Norm{{Stabiliser::guarded, 0}}});
  const Value r = relevance(y, mul(ones, y), {x}, exact)[0];
  const Value g = mul(x, gradient(y, ones, {x})[0]);
  Plan plan({r, g});
  for (const auto& [value, tensor] : m.given) plan.set(value, tensor);
  plan.set(ones, reals({2, 3}, {0, 1, 0, 0, 0, 1}));
  plan.forward();
  plan.backward();
  expect_near(plan.get(r), plan.get(g), sizeof(real) == 8 ? 1e-12 : 1e-5);
}

TEST(Lrp, a_unit_without_positive_contribution_gives_exactly_nothing) {
  for (const bool joint : {false, true}) {
    const Tensor x = reals({2, 2}, {1, 2, 0, 0}), w = reals({1, 2}, {-1, -3});
    const Tensor r =
        explain_op({x, w}, 1, filled({2, 1}, 1e6), one_rule("linear", rule::AlphaBeta{1, 0, joint}),
                   [](const Values& in) { return linear(in[0], in[1]); })[0];
    for (real v : r.reals()) EXPECT_EQ(v, 0);
  }
}

}  // namespace
}  // namespace whence
