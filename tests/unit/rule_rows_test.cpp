// Which rows of a table fit which ops, and what ops say of themselves.
#include "tests/unit/message_of.h"
#include "tests/unit/random_tensors.h"
#include "tests/unit/relevance_of_op.h"
#include "whence/op.h"

namespace whence {
namespace {

// The rule that each op on the way back has, by the op's kind.
std::map<std::string, std::string> rules_used(const RuleTable& table,
                                              const std::function<Value(Value)>& build,
                                              Shape shape) {
  Graph g;
  const Value x = g.input("x", Type{shape}), y = build(x);
  std::map<std::string, std::string> used;
  relevance(y, g.input("seed", y.type(), Stage::seed), {x}, table,
            [&](const RelevanceStep& step) { used[step.kind] = step.rule; });
  return used;
}

Value weight(Value like, Shape shape) { return constant(*like.graph, shape, {0.5}); }

// conv2d, relu6, reshape, linear, tanh, mean
Value small_net(Value image) {
  const Value conv = conv2d(image, weight(image, {2, 3, 1, 1}), {});
  const Value flat = reshape(relu6(conv), {image.shape()[0], 2 * 4 * 4});
  return mean(tanh(linear(flat, weight(image, {5, 32}))), {1});
}

TEST(RuleRows, name_kinds_and_what_several_kinds_are) {
  using Used = std::map<std::string, std::string>;
  const auto used = [](std::vector<RelevanceRow> rows) {
    return rules_used({"t", std::move(rows)}, small_net, {2, 4, 4, 3});
  };
  EXPECT_EQ(used({{"product", "*", rule::Flat{}},
                  {"rectifier", "*", rule::Norm{}},
                  {"activation|move", "*", rule::Pass{}},
                  {"mean", "*", rule::Norm{}}}),
            (Used{{"conv2d", "Flat"},
                  {"relu6", "Norm"},
                  {"reshape", "Pass"},
                  {"linear", "Flat"},
                  {"tanh", "Pass"},
                  {"mean", "Norm"}}));
  EXPECT_EQ(used({{"first", "*", rule::WSquare{}},
                  {"product", "*", rule::Flat{}},
                  {"*", "*", rule::Norm{}}})["conv2d"],
            "WSquare");
}

// A star among other kinds is a star.
TEST(RuleRows, a_star_fits_everything_wherever_it_stands) {
  for (const char* kinds : {"linear|conv2d|*", "*|linear", "*"}) {
    const auto used = rules_used({"t", {{kinds, "*", rule::Norm{}}}},
                                 [](Value x) { return mean(relu(x), {1}); }, {2, 3});
    EXPECT_EQ(used.size(), 2u) << kinds;
  }
}

// The mean of one element has the factor of a sum, and is a mean all the same.
TEST(RuleRows, a_mean_over_one_element_is_a_mean) {
  const auto mean_of_one = [](Value x) { return mean(x, {1}); };
  EXPECT_EQ(rules_used({"t", {{"sum", "*", rule::Pass{}}, {"mean", "*", rule::Norm{}}}},
                       mean_of_one, {2, 1, 3}),
            (std::map<std::string, std::string>{{"mean", "Norm"}}));
}

TEST(RuleRows, every_kind_is_listed_once) {
  std::set<std::string> seen;
  for (const std::string& kind : rule_kinds()) EXPECT_TRUE(seen.insert(kind).second) << kind;
  // All of a rule file of the day before this list followed from the ops.
  for (const char* kind :
       {"*",        "first",          "linear",        "conv2d",      "attention",  "einsum",
        "relu",     "relu6",          "gelu",          "gelu_tanh",   "gelu_quick", "tanh",
        "softmax",  "layer_norm",     "log_softmax",   "add",         "sub",        "mul",
        "div",      "affine",         "sum",           "mean",        "reshape",    "slice",
        "pad",      "concat",         "expand",        "patchify",    "unpatchify", "batch_norm",
        "max_pool", "channels_first", "channels_last", "average_pool"})
    EXPECT_TRUE(seen.contains(kind)) << kind;
}

// The rule of a norm's product where something else reads the product too: the norm cannot be part
// of it, and its relevance passes.
TEST(RuleRows, a_norm_is_part_of_a_product_that_nothing_else_reads) {
  const Shape image{1, 3, 3, 2};
  const auto pixels = [&](bool merge, bool shared) {
    RuleTable table{"t",
                    {{"product", "*", rule::AlphaBeta{2, 1, true}},
                     {"batch_norm", "*", rule::Pass{}},
                     {"add", "*", rule::Norm{}}},
                    {{"*", rule::Sum{}}},
                    merge};
    const Tensor x = random_tensor(image, 1), w = random_tensor({4, 2, 1, 1}, 2);
    std::vector<Tensor> in{x,
                           w,
                           random_tensor({4}, 3),
                           random_tensor({4}, 4),
                           random_tensor({4}, 5),
                           random_tensor({4}, 6)};
    for (real& v : in[5].reals()) v = v * v + real(0.1);  // a variance
    return explain_op(in, 1, random_tensor({1, 3, 3, 4}, 7), table, [&](const Values& v) {
      const Value product = conv2d(v[0], v[1], {});
      const Value normed = batch_norm(product, v[2], v[3], v[4], v[5], real(1e-3));
      return shared ? add(normed, product) : normed;
    })[0];
  };
  const auto same = [](const Tensor& a, const Tensor& b) {
    return std::equal(a.reals().begin(), a.reals().end(), b.reals().begin());
  };
  EXPECT_FALSE(same(pixels(true, false), pixels(false, false)));
  EXPECT_TRUE(same(pixels(true, true), pixels(false, true)));
}

// y = g (x - mean) / s + b with the deviation s constant, s^2 = variance + epsilon, where epsilon
// is as large as the variance.
TEST(RuleRows, a_layer_norm_has_its_own_epsilon) {
  constexpr double epsilon = 0.75, stabiliser = 1e-3;
  constexpr size_t rows = 3, width = 5;
  const Tensor x = random_tensor({rows, width}, 11), g = random_tensor({width}, 12),
               b = random_tensor({width}, 13), r = random_tensor({rows, width}, 14);
  const Tensor got = explain_op(
      {x, g, b}, 1, r, one_rule("layer_norm", rule::Epsilon{{Stabiliser::away, stabiliser}}),
      [](const Values& in) { return layer_norm(in[0], in[1], in[2], real(epsilon)); })[0];
  std::vector<double> want;
  for (size_t row = 0; row < rows; ++row) {
    const auto at = [&](const Tensor& t, size_t i) { return double(t.reals()[row * width + i]); };
    const auto of = [](const Tensor& t, size_t i) { return double(t.reals()[i]); };
    double mean = 0, variance = 0;
    for (size_t i = 0; i < width; ++i) mean += at(x, i) / width;
    for (size_t i = 0; i < width; ++i) variance += std::pow(at(x, i) - mean, 2) / width;
    const double s = std::sqrt(variance + epsilon);
    std::vector<double> share;
    double mean_share = 0;
    for (size_t i = 0; i < width; ++i) {
      const double y = of(g, i) * (at(x, i) - mean) / s + of(b, i);
      share.push_back(of(g, i) * at(r, i) / (y + (y < 0 ? -stabiliser : stabiliser)) / s);
      mean_share += share.back() / width;
    }
    for (size_t i = 0; i < width; ++i) want.push_back(at(x, i) * (share[i] - mean_share));
  }
  expect_values(got.reals(), want, "layer norm");
}

}  // namespace
}  // namespace whence
