// Gradients whose rectifiers hand on positive gradients alone:
// guided-backprop  Springenberg et al. 2015, "Striving for simplicity" (arXiv 1412.6806): where
//                  the rectifier was open
// deconvolution    Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks"
//                  (arXiv 1311.2901): everywhere
// guided-grad-cam  Selvaraju et al. 2017 (arXiv 1610.02391): guided-backprop times the Grad-CAM of
//                  a layer, rectified and resized to the input
// None is multiplied by the input. Activations that are no rectifiers have their own gradients.
#include <algorithm>

#include "explain/engine/layer.h"
#include "explain/method.h"
#include "explain/methods/cam.h"
#include "runtime/check.h"
#include "whence/image.h"
#include "whence/op.h"
#include "whence/rules.h"

namespace whence::catalogue {
namespace {

Value rectified_gradient(Scene& s, const Options& o, const GradientRule& rule) {
  const auto rectifies = [&](int node) {
    const Op* op = s.graph.node(node).op.get();
    return op && op->traits().rectifier;
  };
  int node = 0;
  while (node < s.graph.size() && !rectifies(node)) ++node;
  if (node == s.graph.size())
    fail(ErrorCode::unsupported, "method {} changes the gradient of rectifiers, '{}' has none",
         o.method(), s.model.name);
  return whence::gradient(s.outputs(o.score()), s.selector, {s.entry},
                          {{"rectifier", "*", rule}})[0];
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

// Every channel of gradients [C, H, W] times the map [h, w] at their size.
Tensor times_resized(Tensor gradient, const Tensor& small, bool bilinear) {
  const int64_t height = gradient.shape()[1], width = gradient.shape()[2];
  const Tensor map =
      bilinear ? resize_bilinear(small, height, width) : resize_nearest(small, height, width);
  const auto g = gradient.reals();
  for (size_t i = 0; i < g.size(); ++i) g[i] *= map.reals()[i % size_t(height * width)];
  return gradient;
}

}  // namespace

Method guided_backprop() {
  return {.info = {"guided-backprop",
                   "gradient by the input with rectifiers that hand on positive gradients where "
                   "they were open",
                   "Springenberg et al. 2015, arXiv 1412.6806",
                   "convolutional",
                   {gradient_of("logit")}},
          .map = [](Scene& s, const Options& o) {
            return map_of(rectified_gradient(s, o, rule::Guided{}));
          }};
}

Method deconvolution() {
  return {.info = {"deconvolution",
                   "gradient by the input with rectifiers that hand on positive gradients "
                   "everywhere",
                   "Zeiler and Fergus 2014, arXiv 1311.2901",
                   "convolutional",
                   {gradient_of("logit")}},
          .map = [](Scene& s, const Options& o) {
            return map_of(rectified_gradient(s, o, rule::Deconvolution{}));
          }};
}

Method guided_grad_cam() {
  return {.info = {.id = "guided-grad-cam",
                   .summary = "guided-backprop times the positive part of grad-cam",
                   .paper = "Selvaraju et al. 2017, arXiv 1610.02391",
                   .models = "convolutional",
                   .options = {one_of("interpolate_mode", "nearest", {"nearest", "bilinear"},
                                      "how the map is resized: nearest or bilinear"),
                               gradient_of("logit")},
                   .takes_layer = true},
          .map = [](Scene& s, const Options& o) {
            const Map guided = map_of(rectified_gradient(s, o, rule::Guided{}));
            const Layer layer = layer_of(s, o);
            const Value v = layer.value(s), g = s.gradient(o.score(), {v})[0];
            const Map cam =
                layer_map(layer, relu(whence::grad_cam(layer.positions(v), layer.positions(g))));
            return Map{{guided.values[0], cam.values[0]},
                       [guided = guided.tensor, cam = cam.tensor,
                        bilinear = o.is("interpolate_mode", "bilinear")](const Rows& rows) {
                         return times_resized(guided({rows[0]}), cam({rows[1]}), bilinear);
                       }};
          }};
}

}  // namespace whence::catalogue
