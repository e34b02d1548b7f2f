// The model table: from a loaded checkpoint of some family to what methods work with.
#include "whence/model.h"

#include <fmt/format.h>

#include "models/load.h"

namespace whence {
namespace {

std::string describe(const ViTConfig& c) {
  std::string text = fmt::format(
      "vision transformer, {} blocks of width {}, {} heads, patch {}, {} x {} pixels, {} classes",
      c.depth, c.width, c.heads, c.patch, c.image_height, c.image_width, c.classes);
  if (c.distilled) text += ", distilled";
  if (c.pooling == ViTConfig::Pooling::mean) text += ", mean of the patches";
  if (c.registers > 0) text += fmt::format(", {} registers", c.registers);
  return text;
}

// "weights/demo-vit/" and "vit.safetensors" become "demo-vit" and "vit".
std::string stem(const std::filesystem::path& path) {
  auto p = std::filesystem::absolute(path).lexically_normal();
  if (!p.has_filename()) p = p.parent_path();
  return p.extension() == ".safetensors" ? p.stem().string() : p.filename().string();
}

}  // namespace

Model load_model(const std::filesystem::path& path, const LoadOptions& options) {
  LoadedViT loaded = load_vit(path, options);
  const ViTConfig c = loaded.config;
  Model m;
  m.name = stem(path);
  m.architecture = describe(c);
  m.layout = loaded.layout;
  m.input = {c.channels, c.image_height, c.image_width};
  m.classes = c.classes;
  m.blocks = c.depth;
  m.prefix_tokens = c.prefix_tokens();
  m.grid_height = c.grid_height();
  m.grid_width = c.grid_width();
  m.token_readout = c.pooling == ViTConfig::Pooling::token;
  m.build = [c](Graph& graph, int64_t batch) { return build_vit(graph, c, batch); };
  m.weights = std::move(loaded.weights);
  m.preprocess = loaded.preprocess;
  m.labels = std::move(loaded.labels);
  for (const auto& bound : loaded.account.bound) m.account.bound.push_back(bound.stored);
  for (const auto& skipped : loaded.account.skipped)
    m.account.skipped.emplace_back(skipped.stored, skipped.reason);
  m.notes = std::move(loaded.account.notes);
  return m;
}

}  // namespace whence
