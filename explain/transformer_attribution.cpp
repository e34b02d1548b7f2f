// Transformer attribution: Chefer, Gur and Wolf, "Transformer interpretability beyond attention
// visualization", CVPR 2021.
//   M_l = mean over heads of max(R_l * G_l, 0)   relevance of a block's attention, times its
//   gradient E = the readout's row of (I + M_last) ... (I + M_start)
// and the baseline that it is compared with, partial LRP (Voita et al., ACL 2019): the readout's
// row of mean over heads of max(R_last, 0). full-lrp follows
// relevance to the pixels, summed over channels. Relevance starts as 1 at the explained class.
#include <algorithm>

#include "explain/method.h"
#include "runtime/check.h"
#include "whence/rules.h"

namespace whence {
namespace {

// The relevance of the probabilities of blocks `start` to the last, and its total at the sum that
// the first of these attentions adds to: [B], what of the logits' relevance came that far.
struct Spread {
  Values probs;
  Value arrived;
};
Spread spread(Scored& s, int64_t start, const RuleTable& rules) {
  Values wrt;
  for (int64_t l = start; l < s.model.blocks; ++l) wrt.push_back(s.attention(l).probs);
  wrt.push_back(s.graph.at(fmt::format("blocks.{}.mid", start)));
  Values r = relevance(s.logits, s.selector, wrt, rules);
  const Value arrived = sum(r.back(), {1, 2});
  r.pop_back();
  return {r, arrived};
}

class TransformerAttribution final : public Method {
 public:
  explicit TransformerAttribution(const Job& job)
      : model_(in_f32(job).model),
        id_(job.info.id),
        loops_(job, ScoreKind::logit),
        pass_(chunked_pass(job.model, job.settings, ScoreKind::logit, job.items, [&](Scored& s) {
          const RuleTable rules = relevance_rules(job);
          if (id_ == "partial-lrp") return last_block(s, rules);
          if (id_ == "full-lrp") return pixels(s, rules);
          return chain(s, job.options.integer("start_layer", 0, model_.blocks - 1), rules);
        })) {}

  std::vector<const Pass*> passes() const override { return {&pass_}; }

  std::vector<std::vector<Result>> run(const Tensor& inputs, const Request& request) override {
    std::vector<std::vector<Tensor>> maps(static_cast<size_t>(inputs.shape()[0]));
    std::vector<std::vector<double>> arrived(maps.size());
    const auto clean = loops_.items(
        pass_, inputs, request.targets, nullptr, [&](int64_t item, size_t, int64_t row) {
          arrived[size_t(item)].push_back(pass_.wanted_row(1, row)[0]);
          const auto map = pass_.wanted_row(0, row);
          maps[size_t(item)].push_back(id_ == "full-lrp"
                                           ? Tensor::of({model_.input[1], model_.input[2]}, map)
                                           : patch_map(model_, map));
        });
    auto results = loops_.results(clean, std::move(maps), id_);
    for (size_t i = 0; i < results.size(); ++i)
      for (size_t t = 0; t < results[i].size(); ++t) {
        Result& r = results[i][t];
        r.gap = arrived[i][t] - (r.against < 0 ? 1 : 0);
      }
    return results;
  }

 private:
  // What the pass wants: the map, and how much relevance came to its end.
  static Values pixels(Scored& s, const RuleTable& rules) {
    const Value map = sum(relevance(s.logits, s.selector, {s.image}, rules)[0], {1});
    return {map, sum(map, {1, 2})};
  }

  Values chain(Scored& s, int64_t start, const RuleTable& rules) const {
    const auto [cam, arrived] = spread(s, start, rules);
    Values probs;
    for (int64_t l = start; l < model_.blocks; ++l) probs.push_back(s.attention(l).probs);
    const Values gradients = s.gradient_by(probs);
    Value r = s.readout();
    for (size_t i = cam.size(); i-- > 0;) {
      const Value map = mean(relu(mul(cam[i], gradients[i])), {1});
      r = add(r, einsum(r, map, "bi,bij->bj"));
    }
    return {r, arrived};
  }

  Values last_block(Scored& s, const RuleTable& rules) const {
    const auto [cam, arrived] = spread(s, model_.blocks - 1, rules);
    return {einsum(s.readout(), mean(relu(cam[0]), {1}), "bi,bij->bj"), arrived};
  }

  const Model& model_;
  std::string id_;
  Loops loops_;
  Pass pass_;
};

}  // namespace

std::unique_ptr<Method> make_transformer_attribution(const Job& job) {
  return std::make_unique<TransformerAttribution>(job);
}

}  // namespace whence
