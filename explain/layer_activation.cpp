// layer-activation: a layer's values as they are, [C, h, w]. They are the same for every target.
#include "explain/layer.h"
#include "explain/method.h"

namespace whence {
namespace {

class LayerActivation final : public Method {
 public:
  explicit LayerActivation(const Job& job)
      : loops_(job, ScoreKind::logit),
        pass_(chunked_pass(job.model, job.settings, ScoreKind::logit, job.items, [&](Scored& s) {
          layer_ = layer_of(s, job.info.id, job.request.layer);
          return Values{layer_.positions(layer_.value)};
        })) {}

  std::vector<const Pass*> passes() const override { return {&pass_}; }

  std::vector<std::vector<Result>> run(const Tensor& inputs, const Request& request) override {
    std::vector<Tensor> maps(size_t(inputs.shape()[0]));
    const auto clean = loops_.items(
        pass_, inputs, request.targets,
        [&](int64_t item, int64_t row) {
          maps[size_t(item)] = layer_channels(layer_, pass_.wanted_row(0, row));
        },
        nullptr);
    return loops_.results(clean, maps, "layer-activation");
  }

 private:
  Layer layer_;
  Loops loops_;
  Pass pass_;
};

}  // namespace

std::unique_ptr<Method> make_layer_activation(const Job& job) {
  return std::make_unique<LayerActivation>(job);
}

}  // namespace whence
