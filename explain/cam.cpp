// grad-cam, grad-cam-pp, layer-cam: a layer's channels, weighted by what the score gains with them.
// The formulas are in cam.h. With reduce=mean, relu=true and gradient_of=probability the numbers
// of grad-cam are those of InterpretDL's GradCAMCV, with relu=false those of Captum's LayerGradCam.
#include "explain/cam.h"

#include "explain/layer.h"
#include "explain/method.h"

namespace whence {

Value grad_cam_channels(Value f, Value g) {
  const Shape& s = f.shape();
  return mul(f, reshape(mean(g, {1}), {s[0], 1, s[2]}));
}

Value grad_cam(Value f, Value g) { return einsum(f, mean(g, {1}), "bpc,bc->bp"); }

Value grad_cam_pp(Value f, Value g) {
  const Shape& s = f.shape();
  const Value total = reshape(sum(f, {1}), {s[0], 1, s[2]});
  const Value share = divide(relu(g), affine(mul(g, total), 1, 2), {Stabiliser::guarded, 0});
  return einsum(f, sum(share, {1}), "bpc,bc->bp");
}

Value layer_cam(Value f, Value g) { return sum(mul(relu(g), f), {2}); }

namespace {

class Cam final : public Method {
 public:
  explicit Cam(const Job& job)
      : id_(job.info.id),
        relu_(job.options.flag("relu")),
        reduce_(id_ == "grad-cam" ? job.options.choice("reduce", {"sum", "mean", "none"}) : "sum"),
        loops_(job, score_kind(job.options)),
        pass_(chunked_pass(job.model, job.settings, score_kind(job.options), job.items,
                           [&](Scored& s) {
                             layer_ = layer_of(s, id_, job.request.layer);
                             const Value m = map(s);
                             return Values{relu_ ? relu(m) : m};
                           })) {}

  std::vector<const Pass*> passes() const override { return {&pass_}; }

  std::vector<std::vector<Result>> run(const Tensor& inputs, const Request& request) override {
    std::vector<std::vector<Tensor>> maps(size_t(inputs.shape()[0]));
    const auto clean = loops_.items(
        pass_, inputs, request.targets, nullptr, [&](int64_t item, size_t, int64_t row) {
          const auto values = pass_.wanted_row(0, row);
          maps[size_t(item)].push_back(reduce_ == "none" ? layer_channels(layer_, values)
                                                         : layer_map(layer_, values));
        });
    return loops_.results(clean, std::move(maps), id_);
  }

 private:
  Value map(Scored& s) const {
    const Value f = layer_.positions(layer_.value);
    const Value g = layer_.positions(s.gradient_by({layer_.value})[0]);
    if (id_ == "grad-cam-pp") return grad_cam_pp(f, g);
    if (id_ == "layer-cam") return layer_cam(f, g);
    if (reduce_ == "none") return grad_cam_channels(f, g);
    const Value sum = grad_cam(f, g);
    return reduce_ == "mean" ? scale(sum, real(1) / real(layer_.channels)) : sum;
  }

  std::string id_;
  bool relu_;
  std::string reduce_;
  Layer layer_;  // its values belong to the last graph that was built
  Loops loops_;
  Pass pass_;
};

}  // namespace

std::unique_ptr<Method> make_cam(const Job& job) { return std::make_unique<Cam>(job); }

}  // namespace whence
