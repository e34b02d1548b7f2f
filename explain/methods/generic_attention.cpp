// Generic attention explainability: Chefer, Gur and Wolf, ICCV 2021 (arXiv 2103.15679), equations 5
// and 6.
//   rule paper        R <- R + mean_h max(P_l * G_l, 0) R
//   rule interpretdl  R <- R + max(mean_h P_l * mean_h G_l, 0) R        (InterpretDL's
//   GACVInterpreter)
// for l = start_layer .. L-1 from R = I, with G_l the gradient of the score by the probabilities
// P_l. The map is the readout's row of R: a row vector r pushed through the blocks from the last
// down, r <- r + r M_l, inside the same backward sweep. No [B,H,S,S] or [B,S,S] map of the paper's
// rule is ever stored.
#include <algorithm>

#include "explain/method.h"

namespace whence::catalogue {

// r times max(mean_h P * mean_h G, 0). In the last block the rows of few readouts are enough.
static Value product_of_means(const Scene& s, int64_t block, Value dcontext, Value r) {
  const Attention a = s.attention(block);
  if (block + 1 < s.blocks() || s.tower().readout.empty())
    return einsum(r, relu(mul(a.probs_mean, attention_gradient_mean(a, dcontext))), "bi,bij->bj");
  return mean_over(s.tower().readout, [&](int64_t token) {
    const Value p = mean(attention_row(a, token), {1});
    return relu(mul(p, mean(attention_gradient_row(a, dcontext, token), {1})));
  });
}

Method generic_attention() {
  return {.info = {"generic-attention",
                   "gradient-weighted attention accumulated through the blocks",
                   "Chefer et al. 2021, arXiv 2103.15679",
                   "transformers",
                   {start_layer("auto",
                                "first block that is used; auto: 3, in models under 12 blocks a "
                                "quarter of them"),
                    one_of("rule", "interpretdl", {"interpretdl", "paper"},
                           "interpretdl: heads are averaged before product and clamp; paper: after "
                           "them"),
                    gradient_of("probability")}},
          .map = [](Scene& s, const Options& o) {
            const int64_t start = o.block("start_layer", std::min<int64_t>(3, s.blocks() / 4));
            Values contexts;
            for (int64_t l = start; l < s.blocks(); ++l) contexts.push_back(s.attention(l).context);
            const Values dcontexts = s.gradient(o.score(), contexts);
            Value r = s.readout();
            for (int64_t l = s.blocks() - 1; l >= start; --l) {
              const Value d = dcontexts[size_t(l - start)];
              r = add(r, o.is("rule", "paper") ? attention_relevance_chain(s.attention(l), d, r)
                                               : product_of_means(s, l, d, r));
            }
            return token_map(s, r);
          }};
}

}  // namespace whence::catalogue
