// lrp: layer-wise relevance propagation to the input, Bach et al. 2015 (doi
// 10.1371/journal.pone.0130140), with a table of rules from the literature or the user's own.
//   R = relevance of every input value when the explained class has the relevance `seed`
#include "explain/method.h"
#include "explain/rules/file.h"
#include "whence/rules.h"

namespace whence {
namespace {

enum class Seed : uint8_t { logit, one_hot, probability };

Seed seed_kind(const OptionSet& options) {
  const std::string c = options.choice("seed", {"logit", "one-hot", "probability"});
  return c == "logit" ? Seed::logit : c == "one-hot" ? Seed::one_hot : Seed::probability;
}

// The relevance of the logits: of the explained class alone, and with the other sign of the one
// that it is contrasted with.
Value seed_of(Scored& s, Seed kind) {
  if (kind == Seed::one_hot) return s.selector;
  return mul(s.selector, kind == Seed::logit ? s.logits : softmax(s.logits));
}

class Lrp final : public Method {
 public:
  explicit Lrp(const Job& job)
      : model_(in_f32(job).model),
        seed_(seed_kind(job.options)),
        by_pixel_(job.options.choice("reduce", {"sum", "none"}) == "sum"),
        loops_(job, ScoreKind::logit),
        pass_(chunked_pass(job.model, job.settings, ScoreKind::logit, job.items, [&](Scored& s) {
          const RuleTable table = relevance_rules(job);
          const Value r = relevance(s.logits, seed_of(s, seed_), {s.image}, table)[0];
          return Values{by_pixel_ ? sum(r, {1}) : r};
        })) {}

  std::vector<const Pass*> passes() const override { return {&pass_}; }

  std::vector<std::vector<Result>> run(const Tensor& inputs, const Request& request) override {
    std::vector<std::vector<Tensor>> maps(static_cast<size_t>(inputs.shape()[0]));
    const Shape one = by_pixel_ ? Shape{model_.input[1], model_.input[2]} : model_.input;
    const auto clean = loops_.items(
        pass_, inputs, request.targets, nullptr, [&](int64_t item, size_t, int64_t row) {
          maps[size_t(item)].push_back(Tensor::of(one, pass_.wanted_row(0, row)));
        });
    std::vector<std::vector<Result>> results(maps.size());
    for (size_t i = 0; i < maps.size(); ++i)
      for (size_t t = 0; t < maps[i].size(); ++t) {
        Result r = loops_.result(clean, int64_t(i), t);
        r.gap = total(maps[i][t]) - seeded(clean, i, t);
        finish(r, std::move(maps[i][t]), "lrp", int64_t(i));
        results[i].push_back(std::move(r));
      }
    return results;
  }

 private:
  double seeded(const Clean& clean, size_t item, size_t target) const {
    const Chosen c = clean.chosen[item][target];
    if (seed_ == Seed::one_hot) return c.against < 0 ? 1 : 0;
    const auto y = Pass::outputs_of(
        seed_ == Seed::logit ? ScoreKind::logit : ScoreKind::probability, clean.logits[item]);
    return y[size_t(c.of)] - (c.against < 0 ? 0 : y[size_t(c.against)]);
  }

  const Model& model_;
  Seed seed_;
  bool by_pixel_;
  Loops loops_;
  Pass pass_;
};

}  // namespace

Value relevance_seed(Scored& s, const Job& job) {
  return job.info.id == "lrp" ? seed_of(s, seed_kind(job.options)) : s.selector;
}

RuleTable relevance_rules(const Job& job) {
  const std::string& name = job.options.text("rules");
  if (name == "auto") return rule_table(job.model.blocks ? "attn-lrp" : "interpretdl", job.model);
  return rule_table(name, job.model);
}

std::unique_ptr<Method> make_lrp(const Job& job) { return std::make_unique<Lrp>(job); }

}  // namespace whence
