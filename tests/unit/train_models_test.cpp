// The trainer of the bundled models: its determinism, and that they learn.
#include <gtest/gtest.h>

#include <cmath>

#include "demo/train_resnet.h"
#include "demo/train_vit.h"
#include "whence/error.h"
#include "whence/op.h"

namespace whence::demo {
namespace {

TrainOptions tiny() {
  TrainOptions options;
  options.scenes.size = 32;
  options.batch = 8;
  options.optimiser.rate = 3e-3;
  options.optimiser.warmup = 5;
  options.optimiser.steps = 60;
  options.threads = 1;
  return options;
}

ViTConfig tiny_vit(int64_t width = 16) {
  ViTConfig c;
  c.image_height = c.image_width = 32;
  c.patch = 8;
  c.width = width;
  c.depth = 2;
  c.heads = 2;
  c.mlp = 24;
  c.classes = 8;
  return c;
}

// Of images twice as large as the scenes.
ResNetConfig tiny_resnet() {
  ResNetConfig c;
  c.image_height = c.image_width = 64;
  c.classes = 8;
  c.stem = 4;
  c.bottleneck = false;
  c.layers = {{{1, 4, 4, 1}, {1, 6, 6, 2}, {1, 8, 8, 2}, {1, 16, 16, 2}}};
  return c;
}

using MakeSubject = Subject (*)(const TrainOptions&);
Subject make_vit(const TrainOptions& o) { return vit_subject(tiny_vit(), o.seed); }
Subject make_wider_vit(const TrainOptions& o) { return vit_subject(tiny_vit(32), o.seed); }
Subject make_resnet(const TrainOptions& o) { return resnet_subject(tiny_resnet(), o); }

std::vector<double> losses(MakeSubject make, const TrainOptions& options, int steps,
                           Weights* weights = nullptr) {
  Trainer trainer(make(options), options);
  std::vector<double> out;
  for (int i = 0; i < steps; ++i) out.push_back(trainer.step().loss);
  if (weights) *weights = trainer.weights();
  return out;
}

struct Trained {
  const char* name;
  MakeSubject make, learner;
};
class TrainModels : public testing::TestWithParam<Trained> {};

TEST_P(TrainModels, learn_from_their_first_steps) {
  TrainOptions options = tiny();
  options.batch = 16;
  options.scenes.max_objects = 1;
  options.lowest_contrast = 1;
  options.optimiser.steps = 150;
  const std::vector<double> all = losses(GetParam().learner, options, 150);
  const auto mean = [&](size_t from) {
    double sum = 0;
    for (size_t i = from; i < from + 15; ++i) sum += all[i];
    return sum / 15;
  };
  // At first log 8 = 2.08, for nothing is known, plus what the random head adds.
  EXPECT_NEAR(all[0], 2.15, 0.35);
  EXPECT_LT(mean(135), mean(0) - 0.3);
}

TEST_P(TrainModels, same_options_give_the_same_bits_on_any_number_of_threads) {
  Weights first, second, other;
  TrainOptions options = tiny();
  losses(GetParam().make, options, 4, &first);
  options.threads = 2;
  losses(GetParam().make, options, 4, &second);
  options.seed = 2;
  losses(GetParam().make, options, 4, &other);
  ASSERT_EQ(first.tensors.size(), second.tensors.size());
  bool differs = false;
  for (const auto& [name, tensor] : first.tensors) {
    EXPECT_TRUE(std::ranges::equal(tensor.reals(), second.tensors.at(name).reals())) << name;
    differs = differs || !std::ranges::equal(tensor.reals(), other.tensors.at(name).reals());
  }
  EXPECT_TRUE(differs);
}

TEST_P(TrainModels, what_is_learned_changes_and_nothing_else) {
  const TrainOptions options = tiny();
  const Subject subject = GetParam().make(options);
  Weights after;
  losses(GetParam().make, options, 2, &after);
  ASSERT_EQ(subject.first.tensors.size(), after.tensors.size());
  for (const auto& [name, tensor] : subject.first.tensors) {
    // The same number added to all scores of a softmax changes nothing: this gradient is zero.
    if (name.ends_with("attn.k.bias")) continue;
    EXPECT_NE(std::ranges::equal(tensor.reals(), after.tensors.at(name).reals()),
              subject.learned(name))
        << name;
  }
}

TEST_P(TrainModels, refuse_scenes_that_do_not_fit) {
  const auto train = [](const TrainOptions& options) {
    Trainer(GetParam().make(tiny()), options).step();
  };
  TrainOptions options = tiny();
  options.scenes.size = 40;
  EXPECT_THROW(train(options), Error);
  options = tiny();
  options.batch = 0;
  EXPECT_THROW(train(options), Error);
  Subject subject = GetParam().make(tiny());
  subject.classes = 9;
  EXPECT_THROW(Trainer(subject, tiny()), Error);
}

INSTANTIATE_TEST_SUITE_P(Bundled, TrainModels,
                         testing::Values(Trained{"vit", make_vit, make_wider_vit},
                                         Trained{"resnet", make_resnet, make_resnet}),
                         [](const auto& c) { return std::string(c.param.name); });

TEST(TrainResNet, norms_begin_with_the_statistics_of_scenes) {
  const TrainOptions options = tiny();
  const ResNetConfig config = tiny_resnet();
  const Weights weights = initial_weights(config, options);
  constexpr int64_t count = 64;
  Graph graph;
  Values norms{build_resnet(graph, config, count)};
  for (int n = 0; n < graph.size(); ++n)
    if (graph.node(n).op && graph.node(n).op->kind() == "batch_norm")
      norms.push_back({&graph, n, 0});
  ASSERT_EQ(norms.size(), 1u + 1 + 2 + 3 + 3 + 3);
  Plan plan(norms);
  plan.bind(weights);
  write_scenes(options, 64, 2, 0, count, {plan.input(graph.at("image")), {}, {}});
  plan.forward();
  for (size_t k = 1; k < norms.size(); ++k) {
    const std::span<const real> y = plan.view(norms[k]);
    const size_t channels = size_t(norms[k].shape()[3]);
    for (size_t c = 0; c < channels; ++c) {
      double sum = 0, square = 0;
      for (size_t i = c; i < y.size(); i += channels) {
        sum += double(y[i]);
        square += double(y[i]) * double(y[i]);
      }
      const double rows = double(y.size() / channels);
      EXPECT_NEAR(sum / rows, 0, 1e-3) << k << " " << c;
      EXPECT_NEAR(square / rows, 1, 1e-2) << k << " " << c;
    }
  }
}

// The image's scores are the mean of its places' scores.
TEST(TrainResNet, places_share_the_head) {
  const ResNetConfig config = tiny_resnet();
  const TrainOptions options = tiny();
  const Subject subject = resnet_subject(config, options);
  Graph graph;
  const Subject::Scores scores = subject.build(graph, 3);
  ASSERT_EQ(scores.patches.shape(), (Shape{3 * 2 * 2, 8}));
  Plan plan(Values{scores.logits, scores.patches});
  plan.bind(subject.first);
  write_scenes(options, 64, 2, 9, 3, {plan.input(graph.at("image")), {}, {}});
  plan.forward();
  const std::span<const real> image = plan.view(scores.logits), places = plan.view(scores.patches);
  for (size_t b = 0; b < 3; ++b)
    for (size_t k = 0; k < 8; ++k) {
      double mean = 0;
      for (size_t g = 0; g < 4; ++g) mean += double(places[(b * 4 + g) * 8 + k]) / 4;
      EXPECT_NEAR(mean * 8, image[b * 8 + k], 1e-4);
    }
}

}  // namespace
}  // namespace whence::demo
