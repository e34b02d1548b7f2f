// Relevance rules: numbers of the libraries that define them, and every rule for products against
// a dense re-derivation in double.
#include "tests/ref/relevance.h"
#include "tests/unit/random_tensors.h"
#include "tests/unit/relevance_of_op.h"
#include "whence/error.h"

namespace whence {
namespace {

const Tensor x = reals({2, 3}, {1, -2, .5, 0, 3, -1});
const Tensor w = reals({2, 3}, {.5, -1, 2, 1, 1, -.5});
const Tensor b = reals({2}, {.1, -.2});
const Tensor r = reals({2, 2}, {1, .5, -.25, 2});

Value linear_of(const Values& in) { return linear(in[0], in[1], in[2]); }

Tensor run_linear(const RelevanceRule& rule) {
  return explain_op({x, w, b}, 1, r, one_rule("linear", rule), linear_of)[0];
}

constexpr Stabiliser away(double epsilon) { return {Stabiliser::away, epsilon}; }

TEST(Rules, of_a_linear_layer_have_the_numbers_of_zennit) {
  expect_values(run_linear(rule::Epsilon{away(1e-6)}).reals(),
                {-.205938498, 1.245210098, .363984538, 0, 1.665120074, .200989416}, "epsilon");
  expect_values(run_linear(rule::Epsilon{away(.25)}).reals(),
                {-.164247517, 1.107715814, .333269672, 0, 1.544509777, .184602762}, "epsilon .25");
  expect_values(run_linear(rule::Gamma{}).reals(),
                {-.103535267, 1.161615744, .353535255, 0, 1.643967756, .197775126}, "gamma");
  expect_values(run_linear(rule::AlphaBeta{2, 1, true, away(1e-6), true}).reals(),
                {1.277776701, .702947704, .504535014, 0, 3.578570419, .671428388}, "alpha beta");
  expect_values(run_linear(rule::AlphaBeta{1, 0, true, away(1e-6), true}).reals(),
                {.63888835, .555555401, .277777701, 0, 1.714285224, .285714204}, "z plus");
  expect_values(run_linear(rule::ZBox{{-2}, {3}, away(1e-6)}).reals(),
                {.483375865, .434782571, .58184136, .36111109, 1.111110988, .277777784}, "z box");
  expect_values(run_linear(rule::WSquare{}).reals(),
                {.265869024, .408454548, .815041258, .861479937, .825833556, .028226484},
                "w square");
  expect_values(run_linear(rule::Flat{}).reals(),
                {.499999833, .499999833, .499999833, .583333139, .583333139, .583333139}, "flat");
}

TEST(Rules, of_attn_lrp_have_their_published_numbers) {
  // The printed example has a relevance of its own for each of these ops.
  const Tensor row = reals({2, 3}, {1, 2, -1, 1, 2, -1});
  const Tensor relevance_of_row = reals({2, 3}, {.2, .5, .3, .4, 1, .6});
  const auto linear_row =
      explain_op({x, w, b}, 1, r, one_rule("linear", rule::Epsilon{{Stabiliser::shifted, 1e-6}}),
                 linear_of)[0];
  expect_values(linear_row.slice(0, 1).reals(), {-.205938974, 1.245211049, .363984657}, "linear");
  const auto soft = explain_op({row}, 1, relevance_of_row, one_rule("softmax", rule::Taylor{}),
                               [](const Values& in) { return softmax(in[0]); })[0];
  expect_values(soft.slice(0, 1).reals(), {-.05949646, -.410769025, -.264880973}, "softmax");
  expect_values(soft.slice(1, 2).reals(), {-.11899292, -.82153805, -.529761946}, "softmax, twice");
  const Tensor gain = reals({3}, {1, 1.5, .5}), shift = reals({3}, {.1, 0, -.1});
  const auto normed =
      explain_op({row, gain, shift}, 1, relevance_of_row,
                 one_rule("layer_norm", rule::Epsilon{{Stabiliser::shifted, 1e-6}}),
                 [](const Values& in) { return layer_norm(in[0], in[1], in[2], real(1e-5)); })[0];
  expect_values(normed.slice(0, 1).reals(), {.218273837, .313293239, .374920456}, "layer norm");
}

// y = x + c and y = x c with c repeated: what comes to c is summed over its repetitions.
TEST(Rules, of_what_is_repeated_have_the_shape_of_what_was) {
  const Tensor of = random_tensor({2, 3, 4}, 1), seed = random_tensor({2, 3, 4}, 2);
  for (const Shape& shape : {Shape{4}, Shape{1, 3, 1}, Shape{2, 1, 4}, Shape{2, 3, 4}}) {
    SCOPED_TRACE(to_string(shape));
    const Tensor c = random_tensor(shape, 3);
    const auto got = explain_op({of, c}, 2, seed, one_rule("add", rule::Norm{away(1e-6)}),
                                [](const Values& in) { return add(in[0], in[1]); });
    ASSERT_EQ(got[1].shape(), shape);
    std::vector<double> want(size_t(shape.count()), 0);
    for (size_t i = 0; i < 24; ++i) {
      const size_t sample = i / 12, row = i / 4 % 3, col = i % 4;
      size_t at = col;  // of {4}
      if (shape.rank() == 3) at = shape[0] == 1 ? row : shape[1] == 1 ? sample * 4 + col : i;
      const double term = double(c.reals()[at]), y = double(of.reals()[i]) + term;
      want[at] += term * double(seed.reals()[i]) / (y + (y >= 0 ? 1e-6 : -1e-6));
    }
    for (size_t i = 0; i < want.size(); ++i)
      EXPECT_NEAR(double(got[1].reals()[i]), want[i], 1e-5 * (1 + std::abs(want[i]))) << i;
  }
}

// A table needs rules for what leads to a wanted value, and for nothing else.
TEST(Rules, are_not_asked_for_where_nothing_below_is_wanted) {
  Graph g;
  const Value in = g.input("in", Type{{2, 3}}), hidden = tanh(in), out = affine(hidden, 2, 0);
  const Value seed = g.input("seed", out.type(), Stage::seed);
  EXPECT_EQ(relevance(out, seed, {hidden}, one_rule("affine", rule::Pass{}))[0].shape(),
            (Shape{2, 3}));
  EXPECT_THROW(relevance(out, seed, {in}, one_rule("affine", rule::Pass{})), Error);
}

// P = [[.7, .3], [.4, .6]] of one head of width 2.
TEST(Rules, of_attention_share_between_factors_or_leave_the_probabilities_out) {
  const Tensor q = reals({1, 2, 2}, {std::log(.7), std::log(.3), std::log(.4), std::log(.6)});
  const Tensor k = reals({1, 2, 2}, {1, 0, 0, 1}), v = reals({1, 2, 2}, {1, -1, 2, .5});
  const Tensor seed = reals({1, 2, 2}, {1, .5, -.5, 2});
  const auto build = [](const Values& in) { return attention(in[1], in[2], in[0], 1, 1).context; };
  const auto taylor = explain_op({v, q, k}, 3, seed, one_rule("attention", rule::Taylor{}), build);
  // R_V = V * P^T (R / (2 O + 1e-8)) for these numbers, O = P V.
  const double context[] = {1.3, -.55, 1.6, -.1}, share_of[] = {1, .5, -.5, 2};
  double s_of[4];
  for (size_t i = 0; i < 4; ++i) s_of[i] = share_of[i] / (2 * context[i] + 1e-8);
  const std::vector<double> of_values{
      1 * (.7 * s_of[0] + .4 * s_of[2]), -1 * (.7 * s_of[1] + .4 * s_of[3]),
      2 * (.3 * s_of[0] + .6 * s_of[2]), .5 * (.3 * s_of[1] + .6 * s_of[3])};
  expect_values(taylor[0].reals(), of_values, "values");
  // By hand: R_P as printed, R_S = S (R_P - P sum R_P), half of it to the queries in proportion.
  const double s[] = {std::log(.7), std::log(.3), std::log(.4), std::log(.6)};
  const double probs[] = {.7, .3, .4, .6};
  const double of_probs[] = {.587412589, .162587411, 3.9375002, -3.187500149};
  std::vector<double> half(4);
  for (size_t i = 0; i < 4; ++i) {
    const double sum = of_probs[i / 2 * 2] + of_probs[i / 2 * 2 + 1];
    half[i] = s[i] * (of_probs[i] - probs[i] * sum) / 2;
  }
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(taylor[1].reals()[i], half[i], 2e-6) << i;
    EXPECT_NEAR(taylor[2].reals()[0], half[0] + half[2], 2e-6);
  }
  // All instead of half; the stabiliser is 1e-5 of the smallest context, .1.
  const auto constant =
      explain_op({v, q, k}, 1, seed, one_rule("attention", rule::ConstantProbabilities{}), build);
  for (size_t i = 0; i < 4; ++i)
    EXPECT_NEAR(constant[0].reals()[i], 2 * taylor[0].reals()[i], 1e-4) << i;
}

// --- every rule against dense matrices ---

struct Map {
  std::string name, kind;
  Shape x;
  Tensor weight, bias;
  BuildOp build;
};

std::vector<Map> maps() {
  const auto conv = [](Window window) {
    return [window](const Values& in) { return conv2d(in[0], in[1], in[2], window); };
  };
  return {
      {"linear", "linear", {2, 3, 5}, random_tensor({4, 5}, 1), random_tensor({4}, 2), linear_of},
      {"strided",
       "conv2d",
       {2, 5, 4, 2},
       random_tensor({3, 2, 3, 3}, 3),
       random_tensor({3}, 4),
       conv({.stride = 2, .pad = 1})},
      {"dilated",
       "conv2d",
       {2, 5, 5, 2},
       random_tensor({2, 2, 2, 2}, 5),
       random_tensor({2}, 6),
       conv({.dilation = 2})},
      {"grouped",
       "conv2d",
       {2, 3, 3, 4},
       random_tensor({6, 2, 1, 3}, 7),
       random_tensor({6}, 8),
       conv({.pad = 1})},
  };
}

Shape shape_of(const Map& map) {
  Graph g;
  return map
      .build({g.input("x", Type{map.x}), g.input("w", map.weight.type()),
              g.input("b", map.bias.type())})
      .shape();
}

// Read off with unit inputs, for which each output is one weight, exactly.
ref::Dense dense_of(const Map& map, const Tensor& bias) {
  const int64_t inputs = map.x.count(1, map.x.rank());
  const auto evaluate = [&](const Tensor& at, const Tensor& weight) {
    Graph g;
    const Value input = g.input("x", at.type()), wt = g.input("w", weight.type());
    const Value shift = g.input("b", bias.type());
    const Value y = map.build({input, wt, shift});
    Plan plan({y});
    plan.set(input, at);
    plan.set(wt, weight);
    plan.set(shift, Tensor(bias.type()));
    plan.forward();
    return plan.get(y);
  };
  Tensor units(Type{map.x.with(0, inputs)});
  for (int64_t i = 0; i < inputs; ++i) units.reals()[size_t(i * inputs + i)] = 1;
  Tensor ones(map.weight.type());
  for (real& v : ones.reals()) v = 1;
  const Tensor columns = evaluate(units, map.weight), links = evaluate(units, ones);
  const size_t outputs = columns.reals().size() / size_t(inputs);
  ref::Dense d;
  d.w.assign(outputs, ref::Row(size_t(inputs)));
  d.linked = d.w;
  for (size_t i = 0; i < size_t(inputs); ++i) {
    d.channel.push_back(i % size_t(map.x[-1]));
    for (size_t o = 0; o < outputs; ++o) {
      d.w[o][i] = double(columns.reals()[i * outputs + o]);
      d.linked[o][i] = double(links.reals()[i * outputs + o]);
    }
  }
  for (size_t o = 0; o < outputs; ++o) d.b.push_back(double(bias.reals()[o % bias.reals().size()]));
  return d;
}

std::vector<RelevanceRule> product_rules(size_t channels) {
  std::vector<double> low, high;
  for (size_t c = 0; c < channels; ++c)
    low.push_back(-3 - double(c)), high.push_back(4 + double(c));
  return {rule::Epsilon{},
          rule::Epsilon{away(.1), false},
          rule::Epsilon{{Stabiliser::shifted, 1e-3}},
          rule::Gamma{},
          rule::Gamma{2, away(1e-2), true},
          rule::Gamma{.5, away(1e-9), false},
          rule::AlphaBeta{1, 0, true},
          rule::AlphaBeta{2, 1, false},
          rule::AlphaBeta{2, 1, true, away(1e-6), true},
          rule::AlphaBeta{0, -1, false, {Stabiliser::guarded, 0}},
          rule::PositiveWeights{},
          rule::ZBox{},
          rule::ZBox{low, high, away(1e-6)},
          rule::WSquare{},
          rule::Flat{}};
}

// A share is one quotient of two sums of `terms` products. Where contributions cancel in the
// denominator, its rounding is that of the largest of them.
TEST(Rules, of_products_equal_their_dense_re_derivation) {
  for (const Map& map : maps()) {
    for (const bool positive : {false, true}) {
      Tensor input = random_tensor(map.x, 11);
      if (positive)
        for (real& v : input.reals()) v = std::max(v, real(0));
      const ref::Dense d = dense_of(map, map.bias);
      const Tensor seed = random_tensor(shape_of(map), 12);
      for (const RelevanceRule& rule : product_rules(size_t(map.x[-1]))) {
        const Tensor got = explain_op({input, map.weight, map.bias}, 1, seed,
                                      one_rule(map.kind, rule), map.build)[0];
        const size_t in = input.reals().size() / 2, out = seed.reals().size() / 2;
        for (size_t s = 0; s < 2; ++s) {
          const auto part = [&](const Tensor& t, size_t n) {
            const auto all = t.reals().subspan(s * n, n);
            return ref::Row(all.begin(), all.end());
          };
          const ref::Row want = ref::dense_relevance(d, part(input, in), part(seed, out), rule);
          double largest = 0;
          for (double v : want) largest = std::max(largest, std::abs(v));
          const double bound = sizeof(real) == 8 ? 1e-11 : 2e-4;
          for (size_t i = 0; i < in; ++i)
            ASSERT_NEAR(got.reals()[s * in + i], want[i], bound * largest)
                << map.name << (positive ? ", x >= 0" : "") << ", " << to_string(rule)
                << ", sample " << s << ", element " << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace whence
