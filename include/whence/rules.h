// Relevance: layer-wise relevance propagation (Bach et al. 2015, doi 10.1371/journal.pone.0130140)
// as nodes of the graph, beside the gradients. A rule says how an op hands the relevance of its
// output to its inputs; a table says which op has which rule.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "whence/graph.h"

namespace whence {

// R is the relevance of an op's output y, x_i its inputs, R_i what they get; a // b is
// ops.h's safe_div.
namespace rule {

// R_i = R, rearranged as the op rearranges its input. Activations, normalisations, softmax,
// reshapes.
struct Pass {};
// R_i = x_i * d<y, R // y> / dx_i: in proportion to what an input contributes. Selections,
// averages, and sums without renormalisation.
struct Proportional {};
// Attention: half to the probabilities and half to the values, in proportion; of the probabilities'
// part half to the queries and half to the keys through the unscaled scores (Chefer et al. 2021).
struct Halves {};
// Sums of two: proportional parts, then each scaled so that they share the relevance by the
// magnitude of their totals, sample by sample (Chefer et al. 2021, eq. 10).
struct ByMass {};
// Products with a weight, without the bias: alpha times the share of positive contributions, minus
// beta times that of negative ones. joint: contributions of positive and of negative inputs have
// one denominator; otherwise one each, and relevance doubles where both exist.
struct AlphaBeta {
  double alpha = 1, beta = 0;
  bool joint = false;
};
// Products with pixels, which are bounded: the share in x W - low W+ - high W- + 1e-9 with the
// smallest and the largest input of the sample as bounds (Montavon et al. 2017, doi
// 10.1016/j.patcog.2016.11.008, z^B).
struct ZBox {};
// Where contributions of several readers meet in x (kind "fanout"): their sum, or
// x * sum_k (R_k // x), which drops relevance where x is 0.
struct Sum {};
struct Clone {};

}  // namespace rule

using Rule = std::variant<rule::Pass, rule::Proportional, rule::Halves, rule::ByMass,
                          rule::AlphaBeta, rule::ZBox, rule::Sum, rule::Clone>;
std::string to_string(const Rule& rule);  // "AlphaBeta(1, 0)"

// The first row that fits decides. `kinds`: kinds of op, separated by '|', or "fanout"; `name`: a
// glob over the names of the value that the op computes ("*" fits values without one).
struct RuleRow {
  std::string kinds, name;
  Rule rule;
};
struct RuleTable {
  std::string name;
  std::vector<RuleRow> rows;
};

// Transformers as Chefer, Gur and Wolf 2021 (arXiv 2012.09838) explain them, and the plain rules
// of their baselines: joint denominators and sums by mass, or neither.
const RuleTable& chefer_stable();
const RuleTable& chefer_classic();

// The relevance of each value of `wrt`, in its shape, when `of` has the relevance `seed`. `wrt` may
// name an attention's probabilities. Sums are per sample. Only nodes on a path from `of` to a
// wanted value are added. Throws unsupported, naming op and value, where the table has no rule for
// an op or the op does not know the rule, and name where `of` does not depend on a wanted value.
Values relevance(Value of, Value seed, const Values& wrt, const RuleTable& rules);

}  // namespace whence
