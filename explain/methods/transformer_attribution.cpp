// Transformer attribution: Chefer, Gur and Wolf, "Transformer interpretability beyond attention
// visualization", CVPR 2021.
//   M_l = mean over heads of max(R_l * G_l, 0)   relevance of a block's attention, times its
//   gradient E = the readout's row of (I + M_last) ... (I + M_start)
// and the baseline that it is compared with, partial LRP (Voita et al., ACL 2019): the readout's
// row of mean over heads of max(R_last, 0). full-lrp follows
// relevance to the pixels, summed over channels. Relevance starts as 1 at the explained class.
#include "explain/method.h"
#include "explain/rules/file.h"
#include "explain/rules/spread.h"

namespace whence::catalogue {
namespace {

OptionInfo rules(std::string fallback) {
  return text("rules", std::move(fallback),
              "relevance rules: chefer-stable (sums shared by mass, joint denominators), "
              "chefer-classic, attn-lrp, or a .json file");
}

// To the probabilities of blocks `start` to the last.
Relevance from_block(Scene& s, const Options& o, int64_t start) {
  Relevance of{rule_table(o.text("rules"), s.model), s.selector};
  for (int64_t l = start; l < s.blocks(); ++l) of.probs.push_back(s.attention(l).probs);
  return of;
}
Relevance to_input(Scene& s, const Options& o) { return from_block(s, o, s.blocks()); }
Relevance to_last(Scene& s, const Options& o) { return from_block(s, o, s.blocks() - 1); }
Relevance to_start(Scene& s, const Options& o) { return from_block(s, o, o.block("start_layer")); }

// The relevance of those probabilities, and its total at the sum that the first of these attentions
// adds to: [B], what of the logits' relevance came that far.
struct Spread {
  Values probs;
  Value arrived;
};
Spread spread(Scene& s, const Relevance& from) {
  Values wrt = from.probs;
  wrt.push_back(s.place(s.blocks() - int64_t(from.probs.size()), "mid"));
  Values r = relevance(s.logits, from.seed, wrt, from.rules);
  const Value arrived = sum(r.back(), {1, 2});
  r.pop_back();
  return {r, arrived};
}

// The gap is what of the relevance 1 (of a contrast 0) arrived.
Map with_account(Map map, Value arrived) {
  map.values.push_back(arrived);
  map.gap = [](const Rows& rows, const Tensor&, std::span<const real>, Chosen chosen) {
    return double(rows[1][0]) - (chosen.against < 0 ? 1 : 0);
  };
  return map;
}

}  // namespace

Method transformer_attribution() {
  return {
      .info = {.id = "transformer-attribution",
               .summary = "relevance of every attention times its gradient, multiplied through the "
                          "blocks",
               .paper = "Chefer et al. 2021, arXiv 2012.09838",
               .models = "transformers",
               .options = {start_layer("0", "first block that is used"), rules("chefer-stable")},
               .relevance = MethodInfo::Relevance::to_attention},
      .map =
          [](Scene& s, const Options& o) {
            const Relevance from = to_start(s, o);
            const auto [relevances, arrived] = spread(s, from);
            const Values gradients = s.gradient(o.score(), from.probs);
            Value r = s.readout();
            for (size_t i = relevances.size(); i-- > 0;) {
              const Value m = mean(relu(mul(relevances[i], gradients[i])), {1});
              r = add(r, einsum(r, m, "bi,bij->bj"));
            }
            return with_account(token_map(s, r), arrived);
          },
      .relevance = to_start};
}

Method full_lrp() {
  return {
      .info = {.id = "full-lrp",
               .summary = "relevance of every pixel, through all blocks and the patch embedding",
               .paper = "Bach et al. 2015 with the rules of Chefer et al. 2021, arXiv 2012.09838",
               .models = "transformers",
               .options = {rules("chefer-classic")},
               .relevance = MethodInfo::Relevance::to_input},
      .map =
          [](Scene& s, const Options& o) {
            const Relevance from = to_input(s, o);
            const Value r = relevance(s.logits, from.seed, {s.entry}, from.rules)[0];
            const Value map = sum(r, {s.channel_axis()});
            return with_account(map_of(map), sum(map, {1, 2}));
          },
      .relevance = to_input};
}

Method partial_lrp() {
  return {
      .info = {.id = "partial-lrp",
               .summary = "relevance of the last block's attention",
               .paper = "Voita et al. 2019, arXiv 1905.09418, as a baseline of arXiv 2012.09838",
               .models = "transformers",
               .options = {rules("chefer-classic")},
               .relevance = MethodInfo::Relevance::to_attention},
      .map =
          [](Scene& s, const Options& o) {
            const auto [relevances, arrived] = spread(s, to_last(s, o));
            const Value m = mean(relu(relevances[0]), {1});
            return with_account(token_map(s, einsum(s.readout(), m, "bi,bij->bj")), arrived);
          },
      .relevance = to_last};
}

}  // namespace whence::catalogue
