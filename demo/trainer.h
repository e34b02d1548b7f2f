// Training a small classifier to name the things in scenes, with whence's own gradients.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "demo/adamw.h"
#include "demo/scenes.h"
#include "whence/plan.h"
#include "whence/weights.h"

namespace whence::demo {

// Pixels p become contrast * (p / 127.5 - 1), as [3, H, W]; out has 3 * H * W elements.
void write_pixels(const Image& image, double contrast, std::span<real> out);
// The distribution that the model shall give: each class has the share of its thing in the pixels
// that things cover. Unlike equal shares, which a model learns to give however much of a thing it
// sees, these make more evidence for a class count for it everywhere, and gradients say so.
void write_target(const Scene& scene, std::span<real> out);
// The same for each patch, [G, classes]: every class has the share of the patch that its thing
// covers, and the ground is spread evenly over all classes, for it speaks for none.
void write_patch_targets(const Scene& scene, int patch, std::span<real> out);

// A model of larger images sees scenes enlarged as Pillow does it; its checkpoint says the same.
inline constexpr Resample enlargement_filter = Resample::bicubic;

// The defaults of these and of the optimiser are the ones that demo-vit was trained with.
struct TrainOptions {
  TrainOptions() { scenes.size = usual_size; }
  AdamWOptions optimiser;
  SceneOptions scenes;  // the model's image is of their size, or a multiple of it
  int64_t batch = 32;
  // Weight of the patches' own cross-entropy, which keeps what the model says of a place about that
  // place (token labelling: Jiang et al., NeurIPS 2021). 0: the whole image is all that is trained.
  double patch_loss = 1;
  // Half of the scenes are shown with a contrast drawn from [lowest_contrast, 1].
  double lowest_contrast = 0.3;
  uint64_t seed = 1;
  int threads = 0;  // 0: one a core
};

// What is trained. Every weight of the graph is in `first`; those that are not `learned` stay so.
struct Subject {
  struct Scores {
    Value logits;   // [B, K]
    Value patches;  // [B * grid * grid, K]: what each place says by itself
  };
  int64_t side = 0, classes = 0, grid = 0;  // pixels, and patches, along a side of its image
  std::function<Scores(Graph&, int64_t batch)> build;  // with the input "image"
  Weights first;
  std::function<bool(std::string_view name)> learned, decayed;
};

// Standard normal numbers, nearly, and the same on every platform: one for each element, times
// `deviation`. `node` keeps the weights of a model apart.
void fill_random(Tensor& tensor, double deviation, uint64_t seed, int node);

// A tensor for every weight of the graph, as `fill` makes them of zeros.
Weights weights_of(const Graph& graph,
                   const std::function<void(const Node&, int node, Tensor&)>& fill);

// Scenes first ... first + B - 1 of the seed, as a model of images of `side` pixels meets them.
struct SceneBatch {
  std::span<real> images, targets, patch_targets;  // the last two may be empty
};
void write_scenes(const TrainOptions& options, int64_t side, int64_t grid, uint64_t first,
                  int64_t count, const SceneBatch& out);

// Step n sees scenes n * batch ... n * batch + batch - 1 of the seed: no scene is seen twice. Runs
// with the same options give the same weights.
class Trainer {
 public:
  Trainer(Subject subject, const TrainOptions& options);
  ~Trainer();
  struct Progress {
    double loss;             // mean cross-entropy of the batch's images, before the update
    double patch_loss;       // of its patches
    double gradient_length;  // before clipping
  };
  Progress step();
  int64_t steps_done() const { return optimiser_.steps_done(); }
  Weights weights() const;  // a copy of what has been learned so far

 private:
  void build();
  Subject subject_;
  TrainOptions options_;
  std::unique_ptr<Graph> graph_;
  std::unique_ptr<Plan> plan_;
  Value image_, target_, patch_target_, loss_, patch_loss_;
  Values parameters_, gradients_;
  AdamW optimiser_;
};

}  // namespace whence::demo
