// Relevance: layer-wise relevance propagation (Bach et al. 2015, doi 10.1371/journal.pone.0130140)
// as nodes of the graph, beside the gradients. A rule says how an op hands the relevance of its
// output to its inputs; a table says which op has which rule. Other rules change gradients.
#pragma once

#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "whence/graph.h"
#include "whence/ops.h"

namespace whence {

// R is the relevance of an op's output y, x an input, R_x what it gets; W+ = max(W, 0), W- = min(W,
// 0); a / b is ops.h's divide(a, b, by). J is the derivative of the output by x.
namespace rule {

// R_x = R, rearranged as the op rearranges its input; the winner of a max-pool takes all.
// Activations, normalisations, softmax, reshapes.
struct Pass {
  static constexpr const char* name = "Pass";
};
// R_x = x * J(R / y): in proportion to what an input contributes. Sums, averages, selections. Of a
// batch norm: what its scale makes of x, without the shift.
struct Norm {
  static constexpr const char* name = "Norm";
  Stabiliser by = {Stabiliser::guarded, 1e-9};
};
// Attention: half to the probabilities and half to the values, in proportion; of the probabilities'
// part half to the queries and half to the keys through the unscaled scores (Chefer et al. 2021).
struct Halves {
  static constexpr const char* name = "Halves";
};
// Attention and softmax (AttnLRP, Achtibat et al. 2024, arXiv 2402.05602): products give half to
// each factor, R_x = x * (s b) with s = R / (2 a b); softmax y of x is expanded at x: R_x = x * (R
// - y * sum R).
struct Taylor {
  static constexpr const char* name = "Taylor";
  Stabiliser by = {Stabiliser::shifted, 1e-8};
};
// Attention with its probabilities as constants: the values get all (CP-LRP, Ali et al. 2022, arXiv
// 2202.07304).
struct ConstantProbabilities {
  static constexpr const char* name = "ConstantProbabilities";
  Stabiliser by = {Stabiliser::shifted, 1e-6};
};
// Sums of two: proportional parts, then each scaled so that they share the relevance by the
// magnitude of their totals, sample by sample (Chefer et al. 2021, eq. 10).
struct ByMass {
  static constexpr const char* name = "ByMass";
};

// The rules below are for products with a weight, z = x W + b. bias: b is part of the denominator,
// and its share of the relevance is absorbed; otherwise b is left out.
//
// R_x = x * (R / z) W. With epsilon 0: LRP-0. Of other ops: as Norm with y whole; a layer norm's
// deviation is a constant.
struct Epsilon {
  static constexpr const char* name = "Epsilon";
  Stabiliser by = {Stabiliser::away, 1e-9};
  bool bias = true;
};
// Epsilon with W + gamma W+ for W, where z is the network's own for the sign alone. generalised:
// for x of any sign: contributions of the output's sign are the ones that grow (Andeol et al.
// 2021); otherwise x >= 0 is presumed and the bias stays as it is (Captum).
struct Gamma {
  static constexpr const char* name = "Gamma";
  double gamma = 0.25;
  Stabiliser by = {Stabiliser::away, 1e-6};
  bool generalised = true;
};
// alpha times the share of positive contributions minus beta times that of negative ones. joint:
// contributions of positive and of negative inputs have one denominator; otherwise one each, and
// relevance doubles where both exist. bias: its positive and negative part contribute (joint only).
struct AlphaBeta {
  static constexpr const char* name = "AlphaBeta";
  double alpha = 1, beta = 0;
  bool joint = false;
  Stabiliser by = {Stabiliser::guarded, 1e-9};
  bool bias = false;
};
// Epsilon with W+ for W and the bias as it is: presumes x >= 0 (Captum's Alpha1-Beta0).
struct PositiveWeights {
  static constexpr const char* name = "PositiveWeights";
  Stabiliser by = {Stabiliser::away, 1e-9};
};
// Pixels, which are bounded: R_x = x * s W - low * s W+ - high * s W- with s = R / (x W - low W+ -
// high W-) (Montavon et al. 2017, doi 10.1016/j.patcog.2016.11.008, z^B). The bounds: one a
// channel, or one for all; without any the smallest and the largest input of the sample.
struct ZBox {
  static constexpr const char* name = "ZBox";
  std::vector<double> low = {}, high = {};
  Stabiliser by = {Stabiliser::shifted, 1e-9};
};
// R_x = (R / (1 W^2 + b^2)) W^2, whatever x is (Montavon et al. 2017).
struct WSquare {
  static constexpr const char* name = "WSquare";
  Stabiliser by = {Stabiliser::away, 1e-6};
};
// Evenly over the inputs that an output reads (Lapuschkin et al. 2019).
struct Flat {
  static constexpr const char* name = "Flat";
  Stabiliser by = {Stabiliser::away, 1e-6};
};

// Where contributions of several readers meet in x, which is no op: their sum, or
// x * sum_k (R_k / x), which drops relevance where x is 0.
struct Sum {
  static constexpr const char* name = "Sum";
};
struct Clone {
  static constexpr const char* name = "Clone";
  Stabiliser by = {Stabiliser::guarded, 1e-9};
};

// Rules for gradients, dy by y to dx by x. Rectifiers: dx = max(dy, 0) where x > 0 (guided
// backpropagation, Springenberg et al. 2015, arXiv 1412.6806), and dx = max(dy, 0) everywhere
// (Zeiler and Fergus 2014, arXiv 1311.2901).
struct Guided {
  static constexpr const char* name = "Guided";
};
struct Deconvolution {
  static constexpr const char* name = "Deconvolution";
};
// Activations and max-pools of a batch that ends with the references of its samples, one for each
// or one for all: dx = dy times the ratio of the differences of y and of x, and the ordinary
// gradient where x differs by less than epsilon (DeepLIFT's Rescale rule, Shrikumar et al. 2017,
// arXiv 1704.02685). References have no gradient.
struct Rescale {
  static constexpr const char* name = "Rescale";
  double epsilon = 1e-10;
};

}  // namespace rule

// Structs of their own, so that headers can name them without this one.
struct RelevanceRule
    : std::variant<rule::Pass, rule::Norm, rule::Halves, rule::Taylor, rule::ConstantProbabilities,
                   rule::ByMass, rule::Epsilon, rule::Gamma, rule::AlphaBeta, rule::PositiveWeights,
                   rule::ZBox, rule::WSquare, rule::Flat> {
  using variant::variant;
};
struct FanoutRule : std::variant<rule::Sum, rule::Clone> {
  using variant::variant;
};
struct GradientRule : std::variant<rule::Guided, rule::Deconvolution, rule::Rescale> {
  using variant::variant;
};
std::string to_string(const RelevanceRule& rule);  // "AlphaBeta(1, 0)"
std::string to_string(const FanoutRule& rule);
std::string to_string(const GradientRule& rule);

// `kinds`: what a row is for, separated by '|': kinds of op ("conv2d"); what several kinds are
// (Traits in op.h): "product", "activation", "rectifier", "move"; "first", a product of something
// that no other product has made; "*", everything. `name`: a glob over the names of the value that
// the op computes ("*" fits values without one). Of several rows that fit the first decides.
template <class Rule>
struct RuleRow {
  std::string kinds, name;
  Rule rule;
};
using RelevanceRow = RuleRow<RelevanceRule>;
using GradientRow = RuleRow<GradientRule>;
// A glob over the names of the value in which contributions meet.
struct FanoutRow {
  std::string name;
  FanoutRule rule;
};
// Everything that `kinds` may name.
const std::vector<std::string>& rule_kinds();

struct RuleTable {
  std::string name;
  std::vector<RelevanceRow> rows;
  std::vector<FanoutRow> fanouts = {};
  // A batch norm behind a product that nothing else reads is part of it: the product's rule sees
  // the scaled weight and the shifted bias, the norm passes.
  bool merge_norms = false;
};

// Transformers as Chefer, Gur and Wolf 2021 (arXiv 2012.09838) explain them, and the plain rules
// of their baselines: joint denominators and sums by mass, or neither.
const RuleTable& chefer_stable();
const RuleTable& chefer_classic();
// Transformers: AttnLRP (Achtibat et al. 2024) and CP-LRP (Ali et al. 2022).
const RuleTable& attn_lrp();
const RuleTable& cp_lrp();
// Convolutional networks. InterpretDL's LRPCV: alpha-beta with a denominator for each sign, z^B for
// the pixels. Captum's defaults: epsilon everywhere.
RuleTable interpretdl_cnn(double alpha = 1);
const RuleTable& captum_default();
// The composites of Montavon et al. 2019 (doi 10.1007/978-3-030-28954-6_10) and Kohlbrenner et al.
// 2020 (arXiv 1910.09840): norms merged, epsilon 1e-6; linear layers have Epsilon, convolutions
// ZPlus (AlphaBeta 1 0), AlphaBeta 2 1 or Gamma 0.25; the first layer Flat, or ZBox of the bounds.
const RuleTable& epsilon_plus();
const RuleTable& epsilon_plus_flat();
const RuleTable& epsilon_alpha2_beta1();
const RuleTable& epsilon_alpha2_beta1_flat();
RuleTable epsilon_gamma_box(std::vector<double> low, std::vector<double> high);

// One step of a relevance pass: what came to an op and what it handed on.
struct RelevanceStep {
  Value out;               // the op's output
  std::string kind, rule;  // of the op; "fanout" where contributions meet
  Value relevance;         // that came to it, in the shape of `out`
  Values parts;            // handed on
  // What a bias in a denominator of the rule took, in the shape of `out`; empty where none is.
  Value absorbed = {};
};

// The relevance of each value of `wrt`, in its shape, when `of` has the relevance `seed`. `wrt` may
// name an attention's probabilities. Sums are per sample. Only nodes on a path from `of` to a
// wanted value are added. Throws unsupported, naming op and value, where the table has no rule for
// an op or the op does not know the rule, and name where `of` does not depend on a wanted value.
// `record` is called with every step, from the output on, as soon as its nodes exist: what it adds
// to the graph runs before what follows.
Values relevance(Value of, Value seed, const Values& wrt, const RuleTable& rules,
                 const std::function<void(const RelevanceStep&)>& record = nullptr);

// gradient(of, seed, wrt) with the ops that a row fits differentiated by its rule. With Rescale
// `seed` has n samples where `of` has n + 1 or 2 n, and so have the results.
Values gradient(Value of, Value seed, const Values& wrt, const std::vector<GradientRow>& rules);

}  // namespace whence
