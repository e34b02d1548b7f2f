// Attention without gradients: the last block's, and rollout (Abnar and Zuidema, ACL 2020, arXiv
// 2005.00928).
//   attention-last  mean_h P_{L-1}[readout]
//   rollout         rows of prod_l (mean_h P_l + I) / 2 from the last block down to start_layer;
//   rows of P sum to 1,
//                   so halving is the published row normalisation. Only the readout's row is
//                   multiplied through.
// attention-grad-cam: Grad-CAM on the last block's attention (Chefer, Gur and Wolf, CVPR 2021,
// arXiv 2012.09838):
//   w_h = mean over patches of dP_h[readout]     E = max(0, mean_h w_h P_h[readout]), then min-max
#include "explain/method.h"
#include "whence/picture.h"

namespace whence::catalogue {

Method attention_last() {
  return {.info = {"attention-last",
                   "attention of the readout in the last block, mean over heads",
                   "baseline of Chefer et al. 2021, arXiv 2012.09838",
                   "transformers",
                   {}},
          .map = [](Scene& s,
                    const Options&) { return token_map(s, s.readout_of_probs(s.blocks() - 1)); },
          .score = ScoreKind::probability};
}

Method rollout() {
  return {.info = {"rollout",
                   "attention multiplied through the blocks, half of each step kept in place",
                   "Abnar and Zuidema 2020, arXiv 2005.00928",
                   "transformers",
                   {start_layer("0", "first block that is used")}},
          .map =
              [](Scene& s, const Options& o) {
                Value r = s.readout_of_probs(s.blocks() - 1);
                r = scale(add(s.readout(), r), real(0.5));
                for (int64_t l = s.blocks() - 2; l >= o.block("start_layer"); --l)
                  r = scale(add(r, einsum(r, s.attention(l).probs_mean, "bi,bij->bj")), real(0.5));
                return token_map(s, r);
              },
          .score = ScoreKind::probability};
}

Method attention_grad_cam() {
  return {.info = {"attention-grad-cam",
                   "last block's attention weighted by its mean gradient for each head",
                   "baseline of Chefer et al. 2021, arXiv 2012.09838",
                   "transformers",
                   {gradient_of("logit"), flag("normalise", true, "min-max of the map to [0, 1]")}},
          .map = [](Scene& s, const Options& o) {
            const Attention last = s.last_attention();
            const Value dcontext = s.gradient(o.score(), {last.context})[0];
            const auto of_token = [&](int64_t token) {
              const Value g = slice(attention_gradient_row(last, dcontext, token), 2,
                                    s.tower().prefix_tokens, s.tokens());
              const Value w = reshape(mean(g, {2}), {s.rows(), g.shape()[1], 1});
              return mean(mul(attention_row(last, token), w), {1});
            };
            const auto tokens = s.readout_tokens(o.method());
            Value sum;
            for (const int64_t token : tokens)
              sum = sum ? add(sum, of_token(token)) : of_token(token);
            const Map e = token_map(s, relu(scale(sum, real(1) / real(tokens.size()))));
            return o.flag("normalise") ? and_then(e, [](const Tensor& map) { return min_max(map); })
                                       : e;
          }};
}

}  // namespace whence::catalogue
