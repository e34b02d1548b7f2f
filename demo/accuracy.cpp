#include "demo/accuracy.h"

#include <algorithm>

#include "demo/cores.h"
#include "demo/scenes.h"
#include "whence/plan.h"

namespace whence::demo {
namespace {

// Indices of the largest and second largest element.
std::pair<int, int> top_two(std::span<const real> x) {
  int first = 0, second = -1;
  for (int k = 1; k < int(x.size()); ++k) {
    if (x[size_t(k)] > x[size_t(first)]) {
      second = first;
      first = k;
    } else if (second < 0 || x[size_t(k)] > x[size_t(second)]) {
      second = k;
    }
  }
  return {first, second};
}

bool right(const Scene& scene, std::span<const real> logits) {
  const auto [first, second] = top_two(logits);
  const int label = scene.objects[0].label;
  if (scene.objects.size() == 1) return first == label;
  const int other = scene.objects[1].label;
  return std::minmax(first, second) == std::minmax(label, other);
}

}  // namespace

Accuracy measure_accuracy(const Model& model, int64_t count) {
  constexpr int64_t batch = 20;
  Graph graph;
  const Value logits = model.build(graph, batch);
  Plan plan(Values{logits});
  plan.bind(model.weights);
  const std::span<real> images = plan.input(graph.at("image"));
  const size_t pixels = images.size() / size_t(batch), classes = size_t(model.classes);
  const auto share_right = [&](uint64_t seed, int things) {
    SceneOptions options;
    options.size = usual_size;
    options.min_objects = options.max_objects = things;
    int64_t good = 0, seen = 0;
    while (seen < count) {
      std::vector<Scene> scenes(static_cast<size_t>(batch));
      cpu::parallel_items(every_core(), batch, [&](int64_t i) {
        scenes[size_t(i)] = make_scene(seed, uint64_t(seen + i), options);
        const Tensor input = model.preprocess(scenes[size_t(i)].image);
        std::ranges::copy(input.reals(), &images[size_t(i) * pixels]);
      });
      plan.forward();
      const std::span<const real> rows = plan.view(logits);
      for (size_t i = 0; i < scenes.size() && seen < count; ++i, ++seen) {
        good += right(scenes[i], rows.subspan(i * classes, classes));
      }
    }
    return double(good) / double(count);
  };
  return {share_right(unseen_singles, 1), share_right(unseen_pairs, 2)};
}

}  // namespace whence::demo
