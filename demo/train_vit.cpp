#include "demo/train_vit.h"

#include <algorithm>
#include <cmath>

#include "demo/stream.h"
#include "runtime/check.h"
#include "whence/ops.h"

namespace whence::demo {
namespace {

bool is_matrix(std::string_view name) {
  return name.ends_with(".weight") && name.find("norm") == std::string_view::npos;
}
bool is_norm_gain(std::string_view name) {
  return name.ends_with(".weight") && name.find("norm") != std::string_view::npos;
}
bool is_embedding(std::string_view name) { return name == "embed.pos" || name == "embed.cls"; }

// Sum of twelve uniform numbers less six: mean 0, deviation 1, never beyond 6, and the same
// everywhere.
double nearly_normal(Stream& stream) {
  double sum = -6;
  for (int i = 0; i < 12; ++i) sum += stream.uniform();
  return sum;
}

void check_options(const TrainOptions& options) {
  const ViTConfig& c = options.config;
  const int64_t side = options.scenes.size;
  if (c.image_height != side || c.image_width != side) {
    fail_shape("scenes of {} x {} pixels for a model of {} x {}", side, side, c.image_height,
               c.image_width);
  }
  if (c.classes != int64_t(class_names().size())) {
    fail_shape("{} classes of scenes for a model of {}", class_names().size(), c.classes);
  }
  if (c.depth < 2) fail_usage("a model of {} block is too shallow: 2 or more", c.depth);
  if (options.batch < 1) fail_usage("a batch of {} is too small: 1 or more", options.batch);
}

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

ViTConfig demo_vit_config() {
  ViTConfig c;
  c.image_height = c.image_width = 96;
  c.patch = 12;
  c.width = 96;
  c.depth = 3;
  c.heads = 3;
  c.mlp = 192;
  c.classes = int64_t(class_names().size());
  return c;
}

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

Weights initial_weights(const ViTConfig& config, uint64_t seed) {
  Graph graph;
  build_vit(graph, config, 1);
  Weights weights;
  for (int n = 0; n < graph.size(); ++n) {
    const Node& node = graph.node(n);
    if (!node.weight) continue;
    Stream stream(seed ^ 0x1717171717171717u, uint64_t(n));
    Tensor tensor(node.out[0]);
    // Variance 1 / inputs keeps the size of what a matrix passes on; deviation 0.02 for embeddings.
    const double deviation =
        is_matrix(node.name) ? 1 / std::sqrt(double(tensor.shape()[-1])) : 0.02;
    const bool random = is_matrix(node.name) || is_embedding(node.name);
    for (real& x : tensor.reals()) {
      x = random ? real(deviation * nearly_normal(stream)) : real(is_norm_gain(node.name));
    }
    weights.tensors.emplace(node.name, std::move(tensor));
  }
  return weights;
}

ViTTrainer::ViTTrainer(const TrainOptions& options)
    : options_(options), optimiser_(options.optimiser) {
  check_options(options_);
  build();
  const Weights first = initial_weights(options_.config, options_.seed);
  for (const Value p : parameters_) {
    const std::string& name = graph_->node(p).name;
    plan_->set(p, first.tensors.at(name));
    optimiser_.add(plan_->input(p), is_matrix(name));
  }
}

ViTTrainer::~ViTTrainer() = default;

// The loss is mean_b L(class token b) + w mean_bg L(patch g of b), L a cross-entropy. Patch tokens
// are taken where the last block's attention reads them, and are read by the norm and the head that
// read the class token: what the class token then takes from a place speaks for the thing that is
// there.
void ViTTrainer::build() {
  graph_ = std::make_unique<Graph>(Stage::data);
  Graph& g = *graph_;
  const ViTConfig& c = options_.config;
  const int64_t b = options_.batch, patches = c.grid_height() * c.grid_width();
  const Value logits = build_vit(g, c, b);
  image_ = g.at("image");
  target_ = g.input("target", Type{logits.shape()});
  patch_target_ = g.input("patch_target", Type{{b * patches, c.classes}});
  const Value last_input = g.at(fmt::format("blocks.{}.out", c.depth - 2));
  const Value tokens = layer_norm(slice(last_input, 1, c.prefix_tokens(), c.tokens()),
                                  g.at("norm.weight"), g.at("norm.bias"), c.norm_epsilon);
  const Value patch_logits = linear(tokens, g.at("head.weight"), g.at("head.bias"));
  loss_ = mean(cross_entropy(logits, target_), {0});
  patch_loss_ =
      mean(cross_entropy(reshape(patch_logits, {b * patches, c.classes}), patch_target_), {0});
  for (int n = 0; n < g.size(); ++n) {
    if (g.node(n).weight) parameters_.push_back(Value{&g, n, 0});
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
}

void ViTTrainer::load_scenes() {
  const size_t batch = size_t(options_.batch);
  const std::span<real> images = plan_->input(image_), targets = plan_->input(target_);
  const std::span<real> patch_targets = plan_->input(patch_target_);
  const auto part = [&](std::span<real> all, size_t i) {
    return all.subspan(i * (all.size() / batch), all.size() / batch);
  };
  const uint64_t first = uint64_t(optimiser_.steps_done()) * batch;
#pragma omp parallel for schedule(dynamic)
  for (size_t i = 0; i < batch; ++i) {
    Stream stream(options_.seed ^ 0x2929292929292929u, first + i);
    const bool full = stream.chance(0.5);
    const double contrast = full ? 1 : stream.uniform(options_.lowest_contrast, 1);
    const Scene scene = make_scene(options_.seed, first + i, options_.scenes);
    write_pixels(scene.image, contrast, part(images, i));
    write_target(scene, part(targets, i));
    write_patch_targets(scene, int(options_.config.patch), part(patch_targets, i));
  }
}

ViTTrainer::Progress ViTTrainer::step() {
  load_scenes();
  plan_->forward();
  plan_->backward();
  std::vector<std::span<const real>> views;
  for (const Value g : gradients_) views.push_back(plan_->view(g));
  const double loss = double(plan_->view(loss_)[0]),
               patch_loss = double(plan_->view(patch_loss_)[0]);
  return {loss, patch_loss, optimiser_.step(views)};
}

Weights ViTTrainer::weights() const {
  Weights weights;
  for (const Value p : parameters_) {
    Tensor tensor(p.type());
    std::ranges::copy(plan_->input(p), tensor.reals().begin());
    weights.tensors.emplace(graph_->node(p).name, std::move(tensor));
  }
  return weights;
}

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
    options.size = int(model.input[1]);
    options.min_objects = options.max_objects = things;
    int64_t good = 0, seen = 0;
    while (seen < count) {
      std::vector<Scene> scenes(static_cast<size_t>(batch));
#pragma omp parallel for schedule(dynamic)
      for (int64_t i = 0; i < batch; ++i) {
        scenes[size_t(i)] = make_scene(seed, uint64_t(seen + i), options);
        const Tensor input = model.preprocess(scenes[size_t(i)].image);
        std::ranges::copy(input.reals(), &images[size_t(i) * pixels]);
      }
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
