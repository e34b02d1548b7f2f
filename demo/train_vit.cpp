#include "demo/train_vit.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

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

// Patch tokens are taken where the last block's attention reads them, and are read by the norm and
// the head that read the class token: what the class token then takes from a place speaks for the
// thing that is there.
Subject::Scores build(Graph& g, const ViTConfig& c, int64_t batch) {
  const Value logits = build_vit(g, c, batch);
  const Value last_input = g.at(fmt::format("blocks.{}.out", c.depth - 2));
  const Value tokens = layer_norm(slice(last_input, 1, c.prefix_tokens(), c.tokens()),
                                  g.at("norm.weight"), g.at("norm.bias"), c.norm_epsilon);
  const Value patches = linear(tokens, g.at("head.weight"), g.at("head.bias"));
  return {logits, reshape(patches, {batch * c.grid_height() * c.grid_width(), c.classes})};
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

Weights initial_weights(const ViTConfig& config, uint64_t seed) {
  Graph graph;
  build_vit(graph, config, 1);
  return weights_of(graph, [&](const Node& node, int n, Tensor& tensor) {
    // Variance 1 / inputs keeps the size of what a matrix passes on; deviation 0.02 for embeddings.
    if (is_matrix(node.name)) {
      fill_random(tensor, 1 / std::sqrt(double(tensor.shape()[-1])), seed, n);
    } else if (is_embedding(node.name)) {
      fill_random(tensor, 0.02, seed, n);
    } else {
      std::ranges::fill(tensor.reals(), real(is_norm_gain(node.name)));
    }
  });
}

Subject vit_subject(const ViTConfig& config, uint64_t seed) {
  if (config.depth < 2) {
    fail_usage("a model of {} block is too shallow: 2 or more", config.depth);
  }
  if (config.image_height != config.image_width) fail_shape("the model's image is not square");
  Subject subject;
  subject.side = config.image_height;
  subject.classes = config.classes;
  subject.grid = config.grid_height();
  subject.build = [config](Graph& g, int64_t batch) { return build(g, config, batch); };
  subject.first = initial_weights(config, seed);
  subject.learned = [](std::string_view) { return true; };
  subject.decayed = is_matrix;
  return subject;
}

}  // namespace whence::demo
