// The trainer of the demonstration model: its data, its determinism, and that it learns.
#include "demo/train_vit.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "whence/error.h"

namespace whence::demo {
namespace {

TrainOptions tiny() {
  TrainOptions options;
  options.config.image_height = options.config.image_width = 32;
  options.config.patch = 8;
  options.config.width = 16;
  options.config.depth = 2;
  options.config.heads = 2;
  options.config.mlp = 24;
  options.scenes.size = 32;
  options.batch = 8;
  options.optimiser.rate = 3e-3;
  options.optimiser.warmup = 5;
  options.optimiser.steps = 60;
  options.threads = 1;
  return options;
}

std::vector<double> losses(const TrainOptions& options, int steps, Weights* weights = nullptr) {
  ViTTrainer trainer(options);
  std::vector<double> out;
  for (int i = 0; i < steps; ++i) out.push_back(trainer.step().loss);
  if (weights) *weights = trainer.weights();
  return out;
}

TEST(TrainViT, pixels_are_centred_and_planar) {
  const Image image{2, 1, {0, 51, 255, 255, 102, 0}};
  std::vector<real> out(6);
  write_pixels(image, 0.5, out);
  const double expected[] = {-0.5, 0.5, -0.3, -0.1, 0.5, -0.5};
  for (size_t i = 0; i < 6; ++i) EXPECT_NEAR(out[i], expected[i], 1e-6) << i;
}

TEST(TrainViT, targets_say_what_is_there_and_where) {
  SceneOptions options;
  options.size = 48;
  options.classes = {2, 6};
  const Scene scene = make_scene(1, 5, options);
  std::vector<real> target(8);
  write_target(scene, target);
  std::vector<real> patches(36 * 8);
  write_patch_targets(scene, 8, patches);
  double found[2] = {}, masked[2] = {};  // in patches
  for (size_t g = 0; g < 36; ++g) {
    double sum = 0;
    for (size_t k = 0; k < 8; ++k) sum += double(patches[g * 8 + k]);
    EXPECT_NEAR(sum, 1, 1e-6) << g;
    const double ground = double(patches[g * 8]);  // class 0 is not there
    found[0] += double(patches[g * 8 + 2]) - ground;
    found[1] += double(patches[g * 8 + 6]) - ground;
  }
  for (size_t k = 0; k < 2; ++k) {
    masked[k] = double(std::ranges::count(scene.objects[k].mask, uint8_t(1))) / 64;
    EXPECT_NEAR(found[k], masked[k], 1e-4) << k;
  }
  for (size_t k = 0; k < 8; ++k) {
    const double share = k == 2 ? masked[0] : k == 6 ? masked[1] : 0;
    EXPECT_NEAR(target[k], share / (masked[0] + masked[1]), 1e-6) << k;
  }
  // The patch under a pixel of the kite speaks for the kite.
  const auto at =
      std::ranges::find(scene.objects[0].mask, uint8_t(1)) - scene.objects[0].mask.begin();
  const size_t patch = size_t(at / 48 / 8 * 6 + at % 48 / 8);
  EXPECT_GT(patches[patch * 8 + 2], patches[patch * 8]);
}

TEST(TrainViT, learns_from_its_first_steps) {
  TrainOptions options = tiny();
  options.config.width = 32;
  options.batch = 16;
  options.scenes.max_objects = 1;
  options.lowest_contrast = 1;
  options.optimiser.steps = 150;
  const std::vector<double> all = losses(options, 150);
  const auto mean = [&](size_t from) {
    double sum = 0;
    for (size_t i = from; i < from + 15; ++i) sum += all[i];
    return sum / 15;
  };
  // At first log 8 = 2.08, for nothing is known, plus what the random head adds.
  EXPECT_NEAR(all[0], 2.15, 0.35);
  EXPECT_LT(mean(135), mean(0) - 0.3);
}

TEST(TrainViT, same_options_give_the_same_bits_on_any_number_of_threads) {
  Weights first, second, other;
  TrainOptions options = tiny();
  losses(options, 4, &first);
  options.threads = 2;
  losses(options, 4, &second);
  options.seed = 2;
  losses(options, 4, &other);
  ASSERT_EQ(first.tensors.size(), second.tensors.size());
  bool differs = false;
  for (const auto& [name, tensor] : first.tensors) {
    EXPECT_TRUE(std::ranges::equal(tensor.reals(), second.tensors.at(name).reals())) << name;
    differs = differs || !std::ranges::equal(tensor.reals(), other.tensors.at(name).reals());
  }
  EXPECT_TRUE(differs);
}

TEST(TrainViT, every_weight_is_trained) {
  const TrainOptions options = tiny();
  const Weights before = initial_weights(options.config, options.seed);
  Weights after;
  losses(options, 2, &after);
  ASSERT_EQ(before.tensors.size(), after.tensors.size());
  for (const auto& [name, tensor] : before.tensors) {
    // The same number added to all scores of a softmax changes nothing: this gradient is zero.
    if (name.ends_with("attn.k.bias")) continue;
    EXPECT_FALSE(std::ranges::equal(tensor.reals(), after.tensors.at(name).reals())) << name;
  }
}

TEST(TrainViT, refuses_scenes_that_do_not_fit_the_model) {
  TrainOptions options = tiny();
  options.scenes.size = 40;
  EXPECT_THROW(ViTTrainer{options}, Error);
  options = tiny();
  options.config.classes = 9;
  EXPECT_THROW(ViTTrainer{options}, Error);
  options = tiny();
  options.batch = 0;
  EXPECT_THROW(ViTTrainer{options}, Error);
}

}  // namespace
}  // namespace whence::demo
