// Gradients whose rectifiers hand on positive gradients alone:
// guided-backprop  Springenberg et al. 2015, "Striving for simplicity" (arXiv 1412.6806): where
//                  the rectifier was open
// deconvolution    Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks"
//                  (arXiv 1311.2901): everywhere
// guided-grad-cam  Selvaraju et al. 2017 (arXiv 1610.02391): guided-backprop times the Grad-CAM of
//                  a layer, rectified and resized to the input
// None is multiplied by the input. Activations that are no rectifiers have their own gradients.
#include <algorithm>

#include "explain/cam.h"
#include "explain/layer.h"
#include "explain/method.h"
#include "runtime/check.h"
#include "whence/image.h"
#include "whence/op.h"
#include "whence/rules.h"

namespace whence {
namespace {

void expect_rectifiers(const Scored& s, std::string_view method) {
  for (int n = 0; n < s.graph.size(); ++n) {
    const Op* op = s.graph.node(n).op.get();
    if (op && op->traits().rectifier) return;
  }
  fail(ErrorCode::unsupported, "method {} changes the gradient of rectifiers, '{}' has none",
       method, s.model.name);
}

// Sizes as Captum resizes by default: the cell below, with its factor in float.
Tensor resize_nearest(const Tensor& map, int64_t height, int64_t width) {
  const int64_t rows = map.shape()[0], columns = map.shape()[1];
  const auto cell = [](int64_t at, int64_t from, int64_t to) {
    return std::min(int64_t(float(at) * (float(from) / float(to))), from - 1);
  };
  Tensor out(Type{{height, width}});
  for (int64_t y = 0; y < height; ++y)
    for (int64_t x = 0; x < width; ++x)
      out.reals()[size_t(y * width + x)] =
          map.reals()[size_t(cell(y, rows, height) * columns + cell(x, columns, width))];
  return out;
}

class RectifiedGradient final : public Method {
 public:
  explicit RectifiedGradient(const Job& job)
      : model_(job.model),
        id_(job.info.id),
        cam_(id_ == "guided-grad-cam"),
        bilinear_(cam_ &&
                  job.options.choice("interpolate_mode", {"nearest", "bilinear"}) == "bilinear"),
        loops_(job, score_kind(job.options)),
        pass_(chunked_pass(job.model, job.settings, score_kind(job.options), job.items,
                           [&](Scored& s) { return wanted(s, job.request.layer); })) {}

  std::vector<const Pass*> passes() const override { return {&pass_}; }

  std::vector<std::vector<Result>> run(const Tensor& inputs, const Request& request) override {
    std::vector<std::vector<Tensor>> maps(size_t(inputs.shape()[0]));
    const auto clean = loops_.items(
        pass_, inputs, request.targets, nullptr, [&](int64_t item, size_t, int64_t row) {
          maps[size_t(item)].push_back(Tensor::of(model_.input, pass_.wanted_row(0, row)));
          if (cam_) multiply(maps[size_t(item)].back(), pass_.wanted_row(1, row));
        });
    return loops_.results(clean, std::move(maps), id_);
  }

 private:
  Values wanted(Scored& s, const std::string& layer) {
    expect_rectifiers(s, id_);
    const GradientRule rule =
        id_ == "deconvolution" ? GradientRule(rule::Deconvolution{}) : rule::Guided{};
    Values values = gradient(s.outputs, s.selector, {s.image}, {{"rectifier", "*", rule}});
    if (!cam_) return values;
    layer_ = layer_of(s, id_, layer);
    const Value g = s.gradient_by({layer_.value})[0];
    values.push_back(relu(grad_cam(layer_.positions(layer_.value), layer_.positions(g))));
    return values;
  }

  // Every channel of the gradient times the map at the input's size.
  void multiply(Tensor& gradient, std::span<const real> positions) const {
    const int64_t height = model_.input[1], width = model_.input[2];
    const Tensor small = layer_map(layer_, positions);
    const Tensor map =
        bilinear_ ? resize_bilinear(small, height, width) : resize_nearest(small, height, width);
    const auto g = gradient.reals();
    for (size_t i = 0; i < g.size(); ++i) g[i] *= map.reals()[i % size_t(height * width)];
  }

  const Model& model_;
  std::string id_;
  bool cam_, bilinear_;
  Layer layer_;
  Loops loops_;
  Pass pass_;
};

}  // namespace

std::unique_ptr<Method> make_rectified_gradient(const Job& job) {
  return std::make_unique<RectifiedGradient>(job);
}

}  // namespace whence
