// Generic attention explainability: Chefer, Gur and Wolf, ICCV 2021 (arXiv 2103.15679), equations 5
// and 6.
//   rule paper        R <- R + mean_h max(P_l * G_l, 0) R
//   rule interpretdl  R <- R + max(mean_h P_l * mean_h G_l, 0) R        (InterpretDL's
//   GACVInterpreter)
// for l = start_layer .. L-1 from R = I, with G_l the gradient of the score by the probabilities
// P_l. The map is the readout's row of R: a row vector r pushed through the blocks from the last
// down, r <- r + r M_l, inside the same backward sweep. No [B,H,S,S] or [B,S,S] map of the paper's
// rule is ever stored.
#include "explain/method.h"

namespace whence {
namespace {

class GenericAttention final : public Method {
 public:
  explicit GenericAttention(const Job& job)
      : model_(job.model),
        paper_(job.options.choice("rule", {"interpretdl", "paper"}) == "paper"),
        start_(start_layer(job, 3, 4)),
        loops_(job, score_kind(job.options)),
        pass_(chunked_pass(job.model, job.settings, score_kind(job.options), job.items,
                           [&](Scored& s) { return Values{chain(s)}; })) {}

  std::vector<const Pass*> passes() const override { return {&pass_}; }

  std::vector<std::vector<Result>> run(const Tensor& inputs, const Request& request) override {
    std::vector<std::vector<Tensor>> maps(size_t(inputs.shape()[0]));
    const auto clean = loops_.items(
        pass_, inputs, request.targets, nullptr, [&](int64_t item, size_t, int64_t row) {
          maps[size_t(item)].push_back(patch_map(model_, pass_.wanted_row(0, row)));
        });
    return loops_.results(clean, std::move(maps), "generic-attention");
  }

 private:
  Value chain(Scored& s) const {
    Values contexts;
    for (int64_t l = start_; l < model_.blocks; ++l) contexts.push_back(s.attention(l).context);
    const Values dcontexts = s.gradient_by(contexts);
    Value r = s.readout();
    for (int64_t l = model_.blocks - 1; l >= start_; --l) {
      const Attention a = s.attention(l);
      const Value d = dcontexts[size_t(l - start_)];
      r = add(r, paper_ ? attention_relevance_chain(a, d, r) : product_of_means(s, a, d, r, l));
    }
    return r;
  }

  // r times max(mean_h P * mean_h G, 0). In the last block the readout's rows are enough.
  Value product_of_means(Scored& s, const Attention& a, Value d, Value r, int64_t block) const {
    if (block + 1 < model_.blocks || !model_.token_readout)
      return einsum(r, relu(mul(a.probs_mean, attention_gradient_mean(a, d))), "bi,bij->bj");
    const auto tokens = s.readout_tokens("");
    Value sum;
    for (int64_t token : tokens) {
      const Value m = relu(
          mul(mean(attention_row(a, token), {1}), mean(attention_gradient_row(a, d, token), {1})));
      sum = sum ? add(sum, m) : m;
    }
    return tokens.size() == 1 ? sum : scale(sum, real(1) / real(tokens.size()));
  }

  const Model& model_;
  bool paper_;
  int64_t start_;
  Loops loops_;
  Pass pass_;
};

}  // namespace

std::unique_ptr<Method> make_generic_attention(const Job& job) {
  return std::make_unique<GenericAttention>(job);
}

}  // namespace whence
