// Training a small vision transformer to name the things in scenes, with whence's own gradients.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "demo/adamw.h"
#include "demo/scenes.h"
#include "whence/model.h"
#include "whence/plan.h"
#include "whence/vit.h"
#include "whence/weights.h"

namespace whence::demo {

// Seeds of scenes for measurements, which no training run uses.
inline constexpr uint64_t unseen_singles = 0x5eed0001, unseen_pairs = 0x5eed0002;

// The bundled model: 96 x 96 pixels in 64 patches, 3 blocks of width 96 with 3 heads, 8 classes.
// The options' defaults below are the ones that it was trained with.
ViTConfig demo_vit_config();

// Pixels p become contrast * (p / 127.5 - 1), as [3, H, W]; out has 3 * H * W elements.
void write_pixels(const Image& image, double contrast, std::span<real> out);
// The distribution that the model shall give: each class has the share of its thing in the pixels
// that things cover. Unlike equal shares, which a model learns to give however much of a thing it
// sees, these make more evidence for a class count for it everywhere, and gradients say so.
void write_target(const Scene& scene, std::span<real> out);
// The same for each patch, [G, classes]: every class has the share of the patch that its thing
// covers, and the ground is spread evenly over all classes, for it speaks for none.
void write_patch_targets(const Scene& scene, int patch, std::span<real> out);

// Random matrices and embeddings, zero biases, unit norms: all that `build_vit` reads.
Weights initial_weights(const ViTConfig& config, uint64_t seed);

struct TrainOptions {
  ViTConfig config = demo_vit_config();
  AdamWOptions optimiser;
  SceneOptions scenes;  // its size must be the model's
  int64_t batch = 32;
  // Weight of the patches' own cross-entropy, which keeps what a patch token says about its own
  // place (token labelling: Jiang et al., NeurIPS 2021). 0: the class token is all that is trained.
  double patch_loss = 1;
  // Half of the scenes are shown with a contrast drawn from [lowest_contrast, 1].
  double lowest_contrast = 0.3;
  uint64_t seed = 1;
  int threads = 0;  // 0: one a core
};

// Step n sees scenes n * batch ... n * batch + batch - 1 of the seed: no scene is seen twice. Runs
// with the same options give the same weights.
class ViTTrainer {
 public:
  explicit ViTTrainer(const TrainOptions& options);
  ~ViTTrainer();
  struct Progress {
    double loss;             // mean cross-entropy of the batch's class tokens, before the update
    double patch_loss;       // of its patches
    double gradient_length;  // before clipping
  };
  Progress step();
  int64_t steps_done() const { return optimiser_.steps_done(); }
  Weights weights() const;  // a copy of what has been learned so far

 private:
  void build();
  void load_scenes();
  TrainOptions options_;
  std::unique_ptr<Graph> graph_;
  std::unique_ptr<Plan> plan_;
  Value image_, target_, patch_target_, loss_, patch_loss_;
  Values parameters_, gradients_;
  AdamW optimiser_;
};

struct Accuracy {
  double single = 0;  // share of one-thing scenes whose thing has the largest logit
  double pairs = 0;   // share of two-thing scenes whose two things have the two largest logits
};
// On `count` scenes of each sort, none of which training sees.
Accuracy measure_accuracy(const Model& model, int64_t count);

}  // namespace whence::demo
