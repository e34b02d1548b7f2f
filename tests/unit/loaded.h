// Checkpoints as one family loads them: with the sizes that it found, and the whole account.
#pragma once

#include <filesystem>

#include "models/cnn/family.h"
#include "models/load.h"
#include "models/vit/family.h"

namespace whence {

template <class Config>
struct LoadedAs {
  Config config;
  Weights weights;
  Preprocess preprocess;
  std::vector<std::string> labels;
  std::string layout;
  Account account;
};
using LoadedViT = LoadedAs<ViTConfig>;
using LoadedCnn = LoadedAs<CnnConfig>;

template <class Of, class Config>
LoadedAs<Config> loaded_as(const std::filesystem::path& path, const LoadOptions& options) {
  Loaded l = load_checkpoint(Checkpoint::open(path), options);
  const Config config = dynamic_cast<const Of&>(*l.network).config();
  return {config,         l.model.weights, l.model.preprocess,
          l.model.labels, l.model.layout,  std::move(l.account)};
}
inline LoadedViT load_vit(const std::filesystem::path& path, const LoadOptions& options = {}) {
  return loaded_as<ViTNetwork, ViTConfig>(path, options);
}
inline LoadedCnn load_cnn(const std::filesystem::path& path, const LoadOptions& options = {}) {
  return loaded_as<CnnNetwork, CnnConfig>(path, options);
}

// Elements of the weights that a network is trained to have: without the statistics of norms.
inline int64_t parameters_of(const Graph& graph) {
  int64_t sum = 0;
  for (const auto& [name, shape] : graph.weights())
    if (!name.ends_with(".mean") && !name.ends_with(".variance")) sum += shape.count();
  return sum;
}
inline int64_t parameters_of(const ViTConfig& config) {
  Graph graph;
  build_vit(graph, config, 1);
  return parameters_of(graph);
}
inline int64_t parameters_of(const CnnConfig& config) {
  Graph graph;
  build_cnn(graph, config, 1);
  return parameters_of(graph);
}

}  // namespace whence
