// The rule tables of the literature.
#include "whence/rules.h"

namespace whence {
namespace {

constexpr Stabiliser away(double epsilon) { return {Stabiliser::away, epsilon}; }

// Activations, norms and everything that moves elements pass relevance on as it is.
RuleTable chefer(std::string name, const rule::AlphaBeta& linear, const RelevanceRule& sum) {
  return {std::move(name),
          {{"linear", "embed.patches", rule::ZBox{}},
           {"linear", "*", linear},
           {"attention", "*", rule::Halves{}},
           {"add", "*", sum},
           {"mul|slice|mean|sum", "*", rule::Norm{}},
           {"activation|layer_norm|softmax|affine|move", "*", rule::Pass{}}},
          // One product makes queries, keys and values there: their inputs' parts add up.
          {{"*attn.in", rule::Sum{}}, {"*", rule::Clone{}}}};
}

// Values that pass unchanged, sums in proportion, and the rows given before these.
RuleTable composed(std::string name, std::vector<RelevanceRow> rows, Stabiliser by,
                   bool merge_norms) {
  rows.push_back({"activation|max_pool|batch_norm|move|affine|mul", "*", rule::Pass{}});
  rows.push_back({"add|mean|sum|average_pool", "*", rule::Norm{by}});
  return {std::move(name), std::move(rows), {{"*", rule::Sum{}}}, merge_norms};
}

RuleTable composite(std::string name, const RelevanceRule& convolution,
                    std::vector<RelevanceRow> first = {}) {
  first.push_back({"conv2d", "*", convolution});
  first.push_back({"linear", "*", rule::Epsilon{away(1e-6)}});
  return composed(std::move(name), std::move(first), away(1e-6), true);
}

// Positive contributions with one denominator, the bias among them.
rule::AlphaBeta joint(double alpha) { return {alpha, alpha - 1, true, away(1e-6), true}; }

RuleTable transformer(std::string name, const RelevanceRule& attention) {
  const Stabiliser by{Stabiliser::shifted, 1e-6};
  return composed(std::move(name),
                  {{"linear", "*", rule::Epsilon{by}},
                   {"attention", "*", attention},
                   {"layer_norm", "*", rule::Epsilon{by}},
                   {"add", "*", rule::Norm{{Stabiliser::shifted, 1e-8}}},
                   {"mean", "*", rule::Norm{by}}},
                  by, false);
}

}  // namespace

const RuleTable& chefer_stable() {
  static const RuleTable table = chefer("chefer-stable", {1, 0, true}, rule::ByMass{});
  return table;
}
const RuleTable& chefer_classic() {
  static const RuleTable table = chefer("chefer-classic", {1, 0, false}, rule::Norm{});
  return table;
}
const RuleTable& attn_lrp() {
  static const RuleTable table = transformer("attn-lrp", rule::Taylor{});
  return table;
}
const RuleTable& cp_lrp() {
  static const RuleTable table = transformer("cp-lrp", rule::ConstantProbabilities{});
  return table;
}

RuleTable interpretdl_cnn(double alpha) {
  const Stabiliser zero{Stabiliser::guarded, 0};
  return {"interpretdl",
          {{"first", "*", rule::ZBox{}},
           {"product", "*", rule::AlphaBeta{alpha, alpha - 1, false, zero}},
           {"batch_norm", "*", rule::Norm{{Stabiliser::shifted, 1e-9}}},
           {"add|mean|sum|max_pool|average_pool", "*", rule::Norm{zero}},
           {"activation|move|affine|mul", "*", rule::Pass{}}},
          {{"*", rule::Sum{}}}};
}

const RuleTable& captum_default() {
  static const RuleTable table = composed(
      "captum", {{"product|batch_norm", "*", rule::Epsilon{away(1e-9)}}}, away(1e-9), false);
  return table;
}

const RuleTable& epsilon_plus() {
  static const RuleTable table = composite("epsilon-plus", joint(1));
  return table;
}
const RuleTable& epsilon_plus_flat() {
  static const RuleTable table =
      composite("epsilon-plus-flat", joint(1), {{"first", "*", rule::Flat{}}});
  return table;
}
const RuleTable& epsilon_alpha2_beta1() {
  static const RuleTable table = composite("epsilon-alpha2-beta1", joint(2));
  return table;
}
const RuleTable& epsilon_alpha2_beta1_flat() {
  static const RuleTable table =
      composite("epsilon-alpha2-beta1-flat", joint(2), {{"first", "*", rule::Flat{}}});
  return table;
}
RuleTable epsilon_gamma_box(std::vector<double> low, std::vector<double> high) {
  return composite("epsilon-gamma-box", rule::Gamma{},
                   {{"first", "*", rule::ZBox{std::move(low), std::move(high), away(1e-6)}}});
}

}  // namespace whence
