#include "demo/train_vit.h"

#include <algorithm>
#include <cmath>

#include "demo/stream.h"
#include "runtime/check.h"
#include "whence/ops.h"

namespace whence::demo {
namespace {

// Scenes for measurements come from seeds that no training run uses.
constexpr uint64_t unseen_singles = 0x5eed0001, unseen_pairs = 0x5eed0002;

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
  c.depth = 4;
  c.heads = 4;
  c.mlp = 192;
  c.classes = int64_t(class_names().size());
  return c;
}

void write_pixels(const Image& image, std::span<real> out) {
  const size_t area = size_t(image.width) * size_t(image.height);
  for (size_t p = 0; p < area; ++p) {
    for (size_t k = 0; k < 3; ++k) out[k * area + p] = real(image.rgb[3 * p + k] / 127.5 - 1);
  }
}

void write_target(const Scene& scene, std::span<real> out) {
  std::fill(out.begin(), out.end(), real(0));
  for (const SceneObject& object : scene.objects) {
    out[size_t(object.label)] = real(1.0 / double(scene.objects.size()));
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
    const bool random = is_matrix(node.name) || is_embedding(node.name);
    for (real& x : tensor.reals()) {
      x = random ? real(0.02 * nearly_normal(stream)) : real(is_norm_gain(node.name));
    }
    weights.tensors.emplace(node.name, std::move(tensor));
  }
  return weights;
}

ViTTrainer::ViTTrainer(const TrainOptions& options)
    : options_(options), optimiser_(options.optimiser) {
  check_options(options_);
  graph_ = std::make_unique<Graph>(Stage::data);
  Graph& g = *graph_;
  const Value logits = build_vit(g, options_.config, options_.batch);
  image_ = g.at("image");
  target_ = g.input("target", Type{logits.shape()});
  loss_ = cross_entropy(logits, target_);
  for (int n = 0; n < g.size(); ++n) {
    if (g.node(n).weight) parameters_.push_back(Value{&g, n, 0});
  }
  const Value share = g.input("share", Type{loss_.shape()});
  gradients_ = gradient(loss_, share, parameters_);
  Values keep = gradients_;
  keep.push_back(loss_);
  Plan::Options plan_options;
  plan_options.threads = options_.threads;
  plan_ = std::make_unique<Plan>(keep, plan_options);
  std::ranges::fill(plan_->input(share), real(1.0 / double(options_.batch)));
  const Weights first = initial_weights(options_.config, options_.seed);
  for (const Value p : parameters_) {
    const std::string& name = g.node(p).name;
    plan_->set(p, first.tensors.at(name));
    optimiser_.add(plan_->input(p), is_matrix(name));
  }
}

ViTTrainer::~ViTTrainer() = default;

void ViTTrainer::load_scenes() {
  const std::span<real> images = plan_->input(image_), targets = plan_->input(target_);
  const size_t pixels = images.size() / size_t(options_.batch);
  const size_t classes = targets.size() / size_t(options_.batch);
  const uint64_t first = uint64_t(optimiser_.steps_done()) * uint64_t(options_.batch);
#pragma omp parallel for schedule(dynamic)
  for (int64_t i = 0; i < options_.batch; ++i) {
    const Scene scene = make_scene(options_.seed, first + uint64_t(i), options_.scenes);
    write_pixels(scene.image, images.subspan(size_t(i) * pixels, pixels));
    write_target(scene, targets.subspan(size_t(i) * classes, classes));
  }
}

ViTTrainer::Progress ViTTrainer::step() {
  load_scenes();
  plan_->forward();
  plan_->backward();
  double loss = 0;
  for (const real x : plan_->view(loss_)) loss += double(x);
  std::vector<std::span<const real>> views;
  for (const Value g : gradients_) views.push_back(plan_->view(g));
  const double length = optimiser_.step(views);
  return {loss / double(options_.batch), length};
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

Accuracy measure_accuracy(const ViTConfig& config, const Weights& weights, int64_t count) {
  constexpr int64_t batch = 20;
  Graph graph;
  const Value logits = build_vit(graph, config, batch);
  Plan plan(Values{logits});
  plan.bind(weights);
  const std::span<real> images = plan.input(graph.at("image"));
  const size_t pixels = images.size() / size_t(batch), classes = size_t(config.classes);
  const auto share_right = [&](uint64_t seed, int things) {
    SceneOptions options;
    options.size = int(config.image_height);
    options.min_objects = options.max_objects = things;
    int64_t good = 0, seen = 0;
    while (seen < count) {
      std::vector<Scene> scenes(static_cast<size_t>(batch));
#pragma omp parallel for schedule(dynamic)
      for (int64_t i = 0; i < batch; ++i) {
        scenes[size_t(i)] = make_scene(seed, uint64_t(seen + i), options);
        write_pixels(scenes[size_t(i)].image, images.subspan(size_t(i) * pixels, pixels));
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
