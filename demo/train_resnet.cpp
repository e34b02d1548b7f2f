#include "demo/train_resnet.h"

#include <algorithm>
#include <cmath>

#include "runtime/check.h"
#include "whence/op.h"
#include "whence/ops.h"

namespace whence::demo {
namespace {

bool is_statistic(std::string_view name) {
  return name.ends_with(".mean") || name.ends_with(".variance");
}
bool is_kernel(std::string_view name) {
  return name.ends_with(".weight") && name.find("norm") == std::string_view::npos;
}

// The image's scores are the mean of its places' scores, and a thing covers about an eighth of the
// places: they must say eight times as much as the image shall. A place is asked about its share.
constexpr double covered = 0.125;

Subject::Scores build(Graph& g, const ResNetConfig& c, int64_t batch) {
  const Value logits = build_resnet(g, c, batch);
  const Value places = linear(g.at("features.last"), g.at("head.weight"), g.at("head.bias"));
  return {logits, reshape(scale(places, real(covered)),
                          {batch * c.grid_height() * c.grid_width(), c.classes})};
}

// Of each channel of x [..., C].
void write_statistics(std::span<const real> x, std::span<real> mean, std::span<real> variance) {
  const size_t channels = mean.size(), rows = x.size() / channels;
  for (size_t c = 0; c < channels; ++c) {
    double sum = 0, square = 0;
    for (size_t i = 0; i < rows; ++i) {
      const double value = double(x[i * channels + c]);
      sum += value;
      square += value * value;
    }
    const double centre = sum / double(rows);
    mean[c] = real(centre);
    variance[c] = real(std::max(0.0, square / double(rows) - centre * centre));
  }
}

// What a norm meets depends on the statistics of those before it, so they are set one after another
// (as Mishkin and Matas 2016 do with the scale of weights).
void set_statistics(Weights& weights, const ResNetConfig& config, const TrainOptions& options) {
  constexpr int64_t count = 64;
  Graph graph(Stage::data);
  Values keep{build_resnet(graph, config, count)};
  std::vector<int> norms;
  for (int n = 0; n < graph.size(); ++n) {
    const Node& node = graph.node(n);
    if (!node.op || node.op->kind() != "batch_norm") continue;
    norms.push_back(n);
    keep.push_back(node.in[0]);
  }
  Plan::Options plan_options;
  plan_options.threads = options.threads;
  Plan plan(keep, plan_options);
  write_scenes(options, config.image_height, config.grid_height(), 0, count,
               {plan.input(graph.at("image")), {}, {}});
  for (const auto& [name, tensor] : weights.tensors) plan.set(graph.at(name), tensor);
  for (const int n : norms) {
    plan.forward();
    const Value mean = graph.node(n).in[3], variance = graph.node(n).in[4];
    write_statistics(plan.view(graph.node(n).in[0]), plan.input(mean), plan.input(variance));
    for (const Value v : {mean, variance}) {
      std::ranges::copy(plan.input(v), weights.tensors.at(graph.node(v).name).reals().begin());
    }
  }
}

}  // namespace

ResNetConfig demo_resnet_config() {
  ResNetConfig c;
  c.image_height = c.image_width = 192;
  c.classes = int64_t(class_names().size());
  c.stem = 16;
  c.bottleneck = false;
  c.layers = {{{1, 16, 16, 1}, {1, 32, 32, 2}, {1, 64, 64, 2}, {1, 128, 128, 2}}};
  return c;
}

Weights initial_weights(const ResNetConfig& config, const TrainOptions& options) {
  Graph graph;
  build_resnet(graph, config, 1);
  Weights weights = weights_of(graph, [&](const Node& node, int n, Tensor& tensor) {
    const Shape& shape = tensor.shape();
    if (is_kernel(node.name)) {
      // Kernels pass on the size of what they read, through the rectifier that halves it (He et al.
      // 2015); what follows the head is not rectified.
      const double gain = shape.rank() == 4 ? 2 : 1;
      fill_random(tensor, std::sqrt(gain / double(shape.count(1, shape.rank()))), options.seed, n);
    } else {
      std::ranges::fill(tensor.reals(), real(!node.name.ends_with(".bias")));
    }
  });
  set_statistics(weights, config, options);
  return weights;
}

Subject resnet_subject(const ResNetConfig& config, const TrainOptions& options) {
  if (config.image_height != config.image_width) fail_shape("the model's image is not square");
  Subject subject;
  subject.side = config.image_height;
  subject.classes = config.classes;
  subject.grid = config.grid_height();
  subject.build = [config](Graph& g, int64_t batch) { return build(g, config, batch); };
  subject.first = initial_weights(config, options);
  subject.learned = [](std::string_view name) { return !is_statistic(name); };
  subject.decayed = is_kernel;
  return subject;
}

}  // namespace whence::demo
