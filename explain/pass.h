// Pass: a model's graph for a fixed number of rows, with a score to explain and the values a method
// wants.
#pragma once

#include <functional>
#include <memory>

#include "explain/options.h"
#include "whence/ops.h"
#include "whence/plan.h"

namespace whence {

// score[b] = sum_k selector[b, k] * f(logits)[b, k], f = softmax, identity or -log softmax. The
// selector belongs to the seed stage: another target is another backward pass, not another forward
// pass.
struct Scored {
  const Model& model;
  Graph graph;
  Value image, logits, outputs, selector;
  std::vector<std::pair<Value, Value>> carried;  // Plan::Options::carried

  // Makes the image that the model sees; without one it is an input.
  using ImageOf = std::function<Value(Graph&, int64_t rows)>;
  Scored(const Model& m, ScoreKind kind, int64_t rows, const ImageOf& image_of = nullptr);
  int64_t rows() const { return image.shape()[0]; }
  int64_t tokens() const { return model.prefix_tokens + model.grid_height * model.grid_width; }
  Attention attention(int64_t block) const;
  Values gradient_by(const Values& wrt) { return gradient(outputs, selector, wrt); }
  // [rows, S]: the weight of each token's row in the readout: the class token, the mean of class
  // and distillation token, or the mean of the patches.
  Value readout();
  // [rows, S]: the readout's weights times the head mean of the block's probabilities, from single
  // rows where the readout has few.
  Value readout_of_probs(int64_t block);
  // The tokens that the readout averages; throws unsupported for a mean over patches.
  std::vector<int64_t> readout_tokens(std::string_view method) const;
};

class Pass {
 public:
  using Wanted = std::function<Values(Scored&)>;
  Pass(const Model& model, ScoreKind kind, int64_t rows, const Explainer::Settings& settings,
       const Wanted& wanted, const Scored::ImageOf& image_of = nullptr);
  int64_t rows() const { return scored_->rows(); }
  Plan& plan() { return plan_; }
  const Plan& plan() const { return plan_; }
  std::span<real> image_row(int64_t row);
  void select(int64_t row, int64_t of, int64_t against);
  std::span<const real> logits_row(int64_t row) const;
  std::span<const real> wanted(size_t i) const { return plan_.view(wanted_[i]); }
  // Row `row` of wanted value i.
  std::span<const real> wanted_row(size_t i, int64_t row) const;
  const Scored& scored() const { return *scored_; }
  // The explained function of each logit, on the host: softmax, identity or -log softmax.
  static std::vector<double> outputs_of(ScoreKind kind, std::span<const real> logits);

 private:
  std::unique_ptr<Scored> scored_;
  Values wanted_;
  Plan plan_;
};

// Bytes of activations that a plan may take.
size_t activation_budget(const Explainer::Settings& settings);

// A pass for `total` rows in chunks: as many rows at once as `settings` allow, and no more than
// needed. A pass has `beside` rows and a multiple of `together`; `total` counts the latter.
Pass chunked_pass(const Model& model, const Explainer::Settings& settings, ScoreKind kind,
                  int64_t total, const Pass::Wanted& wanted,
                  const Scored::ImageOf& image_of = nullptr, int64_t together = 1,
                  int64_t beside = 0);

}  // namespace whence
