// lrp: layer-wise relevance propagation to the input, Bach et al. 2015 (doi
// 10.1371/journal.pone.0130140), with a table of rules from the literature or the user's own.
//   R = relevance of every input value when the explained class has the relevance `seed`
#include "explain/method.h"
#include "explain/rules/file.h"
#include "explain/rules/spread.h"
#include "runtime/check.h"

namespace whence::catalogue {
namespace {

ScoreKind seed_kind(const std::string& seed, const Model& model) {
  if (seed == "logit") return ScoreKind::logit;
  if (model.outputs == Outputs::values)
    fail(ErrorCode::unsupported,
         "option seed of method lrp is 'probability': '{}' answers with values, which have none",
         model.name);
  return score_kind(ScoreKind::probability, model.outputs);
}

Relevance spread(Scene& s, const Options& o) {
  const std::string& rules = o.text("rules");
  const char* usual = s.model.places.towers.empty() ? "interpretdl" : "attn-lrp";
  // The relevance of the logits: of the explained class alone, and with the other sign of the one
  // that it is contrasted with.
  const Value seed = o.is("seed", "one-hot")
                         ? s.selector
                         : mul(s.selector, s.outputs(seed_kind(o.text("seed"), s.model)));
  return {rule_table(rules == "auto" ? usual : rules, s.model), seed};
}

// What the logits have in all.
double seeded(const std::string& seed, const Model& model, std::span<const real> logits, Chosen c) {
  if (seed == "one-hot") return c.against < 0 ? 1 : 0;
  return score_of(seed_kind(seed, model), logits, c);
}

Map relevance_of_input(Scene& s, const Options& o) {
  const Relevance from = spread(s, o);
  const Value r = relevance(s.logits, from.seed, {s.entry}, from.rules)[0];
  Map map = map_of(o.is("reduce", "sum") ? sum(r, {s.channel_axis()}) : r);
  map.gap = [seed = o.text("seed"), &model = s.model](const Rows&, const Tensor& found,
                                                      std::span<const real> logits, Chosen chosen) {
    return total(found) - seeded(seed, model, logits, chosen);
  };
  return map;
}

}  // namespace

Method lrp() {
  return {
      .info = {.id = "lrp",
               .summary = "relevance of every input value, handed back from layer to layer",
               .paper = "Bach et al. 2015, doi 10.1371/journal.pone.0130140",
               .models = "any",
               .options = {text("rules", "auto",
                                "interpretdl, captum, epsilon-plus, epsilon-plus-flat, "
                                "epsilon-alpha2-beta1, epsilon-alpha2-beta1-flat, "
                                "epsilon-gamma-box, attn-lrp, cp-lrp, chefer-stable, "
                                "chefer-classic, or a .json file; auto: interpretdl, in "
                                "transformers attn-lrp"),
                           one_of("seed", "logit", {"logit", "one-hot", "probability"},
                                  "relevance of the explained class: logit, one-hot (1) or "
                                  "probability"),
                           one_of("reduce", "sum", {"sum", "none"}, "over channels: sum, or none")},
               .relevance = MethodInfo::Relevance::to_input},
      .map = relevance_of_input,
      .relevance = spread};
}

}  // namespace whence::catalogue
