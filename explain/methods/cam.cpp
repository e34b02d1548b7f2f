// grad-cam, grad-cam-pp, layer-cam: a layer's channels, weighted by what the score gains with them.
// The formulas are in cam.h. With reduce=mean, relu=true and gradient_of=probability the numbers
// of grad-cam are those of InterpretDL's GradCAMCV, with relu=false those of Captum's LayerGradCam.
#include "explain/methods/cam.h"

#include "explain/engine/layer.h"
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

namespace catalogue {

// What `of` makes of a layer's values and their gradients, [B, P, C].
template <class F>
static Map cam(Scene& s, const Options& o, F&& of) {
  const Layer layer = layer_of(s, o);
  const Value v = layer.value(s);
  const Value f = layer.positions(v), g = layer.positions(s.gradient(o.score(), {v})[0]);
  const Value e = of(f, g);
  const Value map = o.flag("relu") ? relu(e) : e;
  return map.shape().rank() == 3 ? layer_channels(layer, map) : layer_map(layer, map);
}

static OptionInfo keep_positive() {
  return flag("relu", true, "true: negative values of the map become 0");
}

Method grad_cam() {
  return {.info = {.id = "grad-cam",
                   .summary = "channels of a layer weighted by their mean gradient",
                   .paper = "Selvaraju et al. 2017, arXiv 1610.02391",
                   .models = "any",
                   .options = {one_of("reduce", "sum", {"sum", "mean", "none"},
                                      "over channels: sum (Captum), mean (InterpretDL), none"),
                               flag("relu", true,
                                    "true (InterpretDL): negative values of the map become 0; "
                                    "false (Captum)"),
                               gradient_of("logit")},
                   .takes_layer = true},
          .map = [](Scene& s, const Options& o) {
            return cam(s, o, [&](Value f, Value g) {
              if (o.is("reduce", "none")) return grad_cam_channels(f, g);
              const Value sum = whence::grad_cam(f, g);
              return o.is("reduce", "mean") ? scale(sum, real(1) / real(f.shape()[2])) : sum;
            });
          }};
}

Method grad_cam_pp() {
  return {
      .info = {.id = "grad-cam-pp",
               .summary =
                   "channels of a layer weighted by sums of positive gradients, each by its share",
               .paper = "Chattopadhay et al. 2018, arXiv 1710.11063",
               .models = "any",
               .options = {keep_positive(), gradient_of("logit")},
               .takes_layer = true},
      .map = [](Scene& s, const Options& o) {
        return cam(s, o, [](Value f, Value g) { return whence::grad_cam_pp(f, g); });
      }};
}

Method layer_cam() {
  return {.info = {.id = "layer-cam",
                   .summary = "values of a layer weighted by their positive gradients",
                   .paper = "Jiang et al. 2021, doi 10.1109/TIP.2021.3089943",
                   .models = "any",
                   .options = {keep_positive(), gradient_of("logit")},
                   .takes_layer = true},
          .map = [](Scene& s, const Options& o) {
            return cam(s, o, [](Value f, Value g) { return whence::layer_cam(f, g); });
          }};
}

}  // namespace catalogue
}  // namespace whence
