#include "demo/trainer.h"

#include <fmt/core.h>

#include <algorithm>

#include "demo/cores.h"
#include "demo/stream.h"
#include "runtime/check.h"
#include "whence/ops.h"

namespace whence::demo {
namespace {

void check(const Subject& subject, const TrainOptions& options) {
  const int64_t size = options.scenes.size;
  if (size < 1 || subject.side % size != 0 || size % subject.grid != 0) {
    fail_shape("scenes of {0} x {0} pixels for a model of {1} x {1} with {2} x {2} patches", size,
               subject.side, subject.grid);
  }
  if (subject.classes != int64_t(class_names().size())) {
    fail_shape("{} classes of scenes for a model of {}", class_names().size(), subject.classes);
  }
  if (options.batch < 1) fail_usage("a batch of {} is too small: 1 or more", options.batch);
}

}  // namespace

void write_pixels(const Image& image, double contrast, std::span<real> out) {
  const size_t area = size_t(image.width) * size_t(image.height);
  for (size_t p = 0; p < area; ++p) {
    for (size_t k = 0; k < 3; ++k) {
      out[k * area + p] = real(contrast * (image.rgb[3 * p + k] / 127.5 - 1));
    }
  }
}

void write_target(const Scene& scene, std::span<real> out) {
  double all = 0;
  const auto area = [](const SceneObject& object) {
    return double(std::ranges::count(object.mask, uint8_t(1)));
  };
  for (const SceneObject& object : scene.objects) all += area(object);
  std::ranges::fill(out, real(0));
  for (const SceneObject& object : scene.objects) {
    out[size_t(object.label)] = real(area(object) / all);
  }
}

void write_patch_targets(const Scene& scene, int patch, std::span<real> out) {
  const int size = scene.image.width, grid = size / patch;
  const int classes = int(class_names().size());
  for (int g = 0; g < grid * grid; ++g) {
    const std::span<real> row = out.subspan(size_t(g * classes), size_t(classes));
    std::vector<double> shares(static_cast<size_t>(classes));
    double ground = 1;
    for (const SceneObject& object : scene.objects) {
      int covered = 0;
      for (int p = 0; p < patch * patch; ++p) {
        const int y = g / grid * patch + p / patch, x = g % grid * patch + p % patch;
        covered += object.mask[size_t(y * size + x)];
      }
      const double share = double(covered) / (patch * patch);
      shares[size_t(object.label)] = share;
      ground -= share;
    }
    for (int k = 0; k < classes; ++k) row[size_t(k)] = real(shares[size_t(k)] + ground / classes);
  }
}

// Sums of twelve uniform numbers less six: mean 0, deviation 1, never beyond 6.
void fill_random(Tensor& tensor, double deviation, uint64_t seed, int node) {
  Stream stream(seed ^ 0x1717171717171717u, uint64_t(node));
  for (real& x : tensor.reals()) {
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += stream.uniform();
    x = real(deviation * sum);
  }
}

Weights weights_of(const Graph& graph,
                   const std::function<void(const Node&, int node, Tensor&)>& fill) {
  Weights weights;
  for (int n = 0; n < graph.size(); ++n) {
    const Node& node = graph.node(n);
    if (!node.weight) continue;
    Tensor tensor(node.out[0]);
    fill(node, n, tensor);
    weights.tensors.emplace(node.name, std::move(tensor));
  }
  return weights;
}

void write_scenes(const TrainOptions& options, int64_t side, int64_t grid, uint64_t first,
                  int64_t count, const SceneBatch& out) {
  const auto part = [&](std::span<real> all, size_t i) {
    return all.subspan(i * (all.size() / size_t(count)), all.size() / size_t(count));
  };
  cpu::parallel_items(every_core(), count, [&](int64_t item) {
    const auto i = size_t(item);
    Stream stream(options.seed ^ 0x2929292929292929u, first + i);
    const bool full = stream.chance(0.5);
    const double contrast = full ? 1 : stream.uniform(options.lowest_contrast, 1);
    const Scene scene = make_scene(options.seed, first + i, options.scenes);
    const bool enlarged = side != scene.image.width;
    write_pixels(
        enlarged ? resize(scene.image, int(side), int(side), enlargement_filter) : scene.image,
        contrast, part(out.images, i));
    if (!out.targets.empty()) write_target(scene, part(out.targets, i));
    if (!out.patch_targets.empty()) {
      write_patch_targets(scene, scene.image.width / int(grid), part(out.patch_targets, i));
    }
  });
}

Trainer::Trainer(Subject subject, const TrainOptions& options)
    : subject_(std::move(subject)), options_(options), optimiser_(options.optimiser) {
  check(subject_, options_);
  build();
}

Trainer::~Trainer() = default;

// The loss is mean_b L(image b) + w mean_bg L(patch g of b), L a cross-entropy.
void Trainer::build() {
  graph_ = std::make_unique<Graph>(Stage::data);
  Graph& g = *graph_;
  const Subject::Scores scores = subject_.build(g, options_.batch);
  image_ = g.at("image");
  target_ = g.input("target", Type{scores.logits.shape()});
  patch_target_ = g.input("patch_target", Type{scores.patches.shape()});
  loss_ = mean(cross_entropy(scores.logits, target_), {0});
  patch_loss_ = mean(cross_entropy(scores.patches, patch_target_), {0});
  Values constants;
  for (int n = 0; n < g.size(); ++n) {
    if (g.node(n).weight) {
      (subject_.learned(g.node(n).name) ? parameters_ : constants).push_back(Value{&g, n, 0});
    }
  }
  const Value total = add(loss_, scale(patch_loss_, real(options_.patch_loss)));
  const Value one = g.input("one", Type{total.shape()});
  gradients_ = gradient(total, one, parameters_);
  Values keep = gradients_;
  keep.push_back(loss_);
  keep.push_back(patch_loss_);
  Plan::Options plan_options;
  plan_options.threads = options_.threads;
  plan_ = std::make_unique<Plan>(keep, plan_options);
  std::ranges::fill(plan_->input(one), real(1));
  for (const Value c : constants) plan_->set(c, subject_.first.tensors.at(g.node(c).name));
  for (const Value p : parameters_) {
    const std::string& name = g.node(p).name;
    plan_->set(p, subject_.first.tensors.at(name));
    optimiser_.add(plan_->input(p), subject_.decayed(name));
  }
}

Trainer::Progress Trainer::step() {
  write_scenes(options_, subject_.side, subject_.grid,
               uint64_t(optimiser_.steps_done() * options_.batch), options_.batch,
               {plan_->input(image_), plan_->input(target_), plan_->input(patch_target_)});
  plan_->forward();
  plan_->backward();
  std::vector<std::span<const real>> views;
  for (const Value g : gradients_) views.push_back(plan_->view(g));
  const double loss = double(plan_->view(loss_)[0]),
               patch_loss = double(plan_->view(patch_loss_)[0]);
  return {loss, patch_loss, optimiser_.step(views)};
}

Weights Trainer::weights() const {
  Weights weights;
  weights.tensors = subject_.first.tensors;
  for (const Value p : parameters_) {
    std::ranges::copy(plan_->input(p), weights.tensors.at(graph_->node(p).name).reals().begin());
  }
  return weights;
}

}  // namespace whence::demo
