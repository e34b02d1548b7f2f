#include "demo/pointing.h"

#include <algorithm>
#include <cmath>

#include "demo/accuracy.h"
#include "demo/scenes.h"
#include "whence/explain.h"

namespace whence::demo {
namespace {

// One number a pixel: the map at the picture's size, or the magnitudes of all channels together, of
// all values in a pixel where the model saw the picture enlarged.
Tensor at_pixels(const Tensor& attribution, int size) {
  if (attribution.shape().rank() == 2) return resize_bilinear(attribution, size, size);
  Tensor heat(Type{{size, size}});
  const std::span<const real> from = attribution.reals();
  const std::span<real> to = heat.reals();
  const int64_t height = attribution.shape()[1], width = attribution.shape()[2];
  for (int64_t i = 0; i < int64_t(from.size()); ++i) {
    const int64_t y = i / width % height * size / height, x = i % width * size / width;
    to[size_t(y * size + x)] += std::fabs(from[size_t(i)]);
  }
  return heat;
}

bool peaks_on(const SceneObject& object, const Result& result, int size) {
  if (result.flat) return false;
  const Tensor heat = at_pixels(result.attribution, size);
  const std::span<const real> x = std::as_const(heat).reals();
  const auto peak = std::max_element(x.begin(), x.end());
  return object.mask[size_t(peak - x.begin())] != 0;
}

double share_hit(Explainer& explainer, Request request, uint64_t seed, int things, int64_t count) {
  const Model& model = explainer.model();
  SceneOptions options;
  options.size = usual_size;
  options.min_objects = options.max_objects = things;
  int64_t hits = 0;
  for (int64_t i = 0; i < count; ++i) {
    const Scene scene = make_scene(seed, uint64_t(i), options);
    request.targets.clear();
    for (const SceneObject& object : scene.objects) request.targets.push_back({object.label, -1});
    const Tensor input = model.preprocess(scene.image);
    const Shape& s = input.shape();
    request.model_inputs.clear();
    for (const auto& other : request.models) {
      const Tensor own = other->preprocess(scene.image);
      request.model_inputs.push_back(own.reshaped(
          {1, other->image_shape()[0], other->image_shape()[1], other->image_shape()[2]}));
    }
    const auto results = explainer.explain(input.reshaped({1, s[0], s[1], s[2]}), request);
    for (size_t k = 0; k < scene.objects.size(); ++k) {
      hits += peaks_on(scene.objects[k], results[0][k], options.size);
    }
  }
  return double(hits) / double(count * things);
}

}  // namespace

Pointing measure_pointing(std::shared_ptr<const Model> model, const std::string& method,
                          const std::map<std::string, std::string>& options, int64_t count,
                          const std::shared_ptr<const Model>& beside) {
  Explainer explainer(std::move(model));
  Request request;
  request.method = method;
  request.options = options;
  if (beside && whence::method(method).takes_models) request.models = {beside};
  return {share_hit(explainer, request, unseen_singles, 1, count),
          share_hit(explainer, request, unseen_pairs, 2, count)};
}

}  // namespace whence::demo
