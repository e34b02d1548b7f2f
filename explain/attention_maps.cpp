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
#include <algorithm>

#include "explain/method.h"
#include "runtime/check.h"
#include "whence/picture.h"

namespace whence {
namespace {

class AttentionMap final : public Method {
 public:
  explicit AttentionMap(const Job& job)
      : id_(job.info.id),
        model_(job.model),
        start_(id_ == "rollout" ? job.options.integer("start_layer", 0, job.model.blocks - 1)
                                : job.model.blocks - 1),
        loops_(job, ScoreKind::probability),
        pass_(chunked_pass(
            job.model, job.settings, ScoreKind::probability, job.items, [&](Scored& s) {
              Value r = s.readout_of_probs(model_.blocks - 1);
              if (id_ == "attention-last") return Values{r};
              r = scale(add(s.readout(), r), real(0.5));
              for (int64_t l = model_.blocks - 2; l >= start_; --l)
                r = scale(add(r, einsum(r, s.attention(l).probs_mean, "bi,bij->bj")), real(0.5));
              return Values{r};
            })) {}

  std::vector<const Pass*> passes() const override { return {&pass_}; }

  std::vector<std::vector<Result>> run(const Tensor& inputs, const Request& request) override {
    std::vector<Tensor> maps(size_t(inputs.shape()[0]));
    const auto clean = loops_.items(
        pass_, inputs, request.targets,
        [&](int64_t item, int64_t row) {
          maps[size_t(item)] = patch_map(model_, pass_.wanted_row(0, row));
        },
        nullptr);
    return loops_.results(clean, maps, id_);
  }

 private:
  std::string id_;
  const Model& model_;
  int64_t start_;
  Loops loops_;
  Pass pass_;
};

class AttentionGradCam final : public Method {
 public:
  explicit AttentionGradCam(const Job& job)
      : model_(job.model),
        normalise_(job.options.flag("normalise")),
        loops_(job, score_kind(job.options)),
        pass_(chunked_pass(job.model, job.settings, score_kind(job.options), job.items,
                           [&](Scored& s) {
                             const Attention last = s.attention(model_.blocks - 1);
                             const Value dcontext = s.gradient_by({last.context})[0];
                             const auto tokens = s.readout_tokens("attention-grad-cam");
                             Value sum;
                             for (int64_t token : tokens) {
                               const Value g = slice(attention_gradient_row(last, dcontext, token),
                                                     2, model_.prefix_tokens, s.tokens());
                               const Value w = reshape(mean(g, {2}), {s.rows(), g.shape()[1], 1});
                               const Value m = mean(mul(attention_row(last, token), w), {1});
                               sum = sum ? add(sum, m) : m;
                             }
                             return Values{relu(scale(sum, real(1) / real(tokens.size())))};
                           })) {}

  std::vector<const Pass*> passes() const override { return {&pass_}; }

  std::vector<std::vector<Result>> run(const Tensor& inputs, const Request& request) override {
    std::vector<std::vector<Tensor>> maps(size_t(inputs.shape()[0]));
    const auto clean = loops_.items(
        pass_, inputs, request.targets, nullptr, [&](int64_t item, size_t, int64_t row) {
          const Tensor map = patch_map(model_, pass_.wanted_row(0, row));
          maps[size_t(item)].push_back(normalise_ ? min_max(map) : map);
        });
    return loops_.results(clean, std::move(maps), "attention-grad-cam");
  }

 private:
  const Model& model_;
  bool normalise_;
  Loops loops_;
  Pass pass_;
};

}  // namespace

std::unique_ptr<Method> make_attention_map(const Job& job) {
  return std::make_unique<AttentionMap>(job);
}
std::unique_ptr<Method> make_attention_grad_cam(const Job& job) {
  return std::make_unique<AttentionGradCam>(job);
}

}  // namespace whence
