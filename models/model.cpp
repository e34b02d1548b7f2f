// The model table: from a loaded checkpoint of some family to what methods work with.
#include "whence/model.h"

#include <fmt/core.h>

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

std::string describe(const ResNetConfig& c) {
  std::string blocks, widths;
  for (const auto& layer : c.layers) {
    blocks += fmt::format("{}{}", blocks.empty() ? "" : "+", layer.blocks);
    widths += fmt::format("{}{}", widths.empty() ? "" : ", ", layer.outer);
  }
  std::string text = fmt::format("ResNet, {} {} of width {}", blocks,
                                 c.bottleneck ? "bottlenecks" : "basic blocks", widths);
  if (c.groups > 1) text += fmt::format(", {} groups", c.groups);
  const int64_t expansion = c.layers[0].outer / c.layers[0].inner;
  if (c.bottleneck && c.groups == 1 && expansion != 4)
    text += fmt::format(", inside {}", c.layers[0].inner);
  return text;
}

std::string describe(const MobileNetV2Config& c) {
  int64_t blocks = 0;
  for (const auto& stage : c.stages) blocks += stage.blocks;
  return fmt::format("MobileNetV2, {} blocks of width {} to {}", blocks, c.stages.front().channels,
                     c.stages.back().channels);
}

std::string describe(const VggConfig& c) {
  size_t convolutions = 0;
  for (const auto& layer : c.layers) convolutions += layer.size();
  return fmt::format("VGG, {} convolutions{} and 3 dense layers of width {}, {}", convolutions,
                     c.batch_norm ? " with batch norm" : "", c.hidden[0], c.hidden[1]);
}

// "weights/demo-vit/" and "vit.safetensors" become "demo-vit" and "vit".
std::string stem(const std::filesystem::path& path) {
  auto p = std::filesystem::absolute(path).lexically_normal();
  if (!p.has_filename()) p = p.parent_path();
  return p.extension() == ".safetensors" ? p.stem().string() : p.filename().string();
}

// What every family has.
Model model_of(Loaded loaded) {
  Model m;
  m.layout = std::move(loaded.layout);
  m.weights = std::move(loaded.weights);
  m.preprocess = loaded.preprocess;
  m.labels = std::move(loaded.labels);
  for (const auto& bound : loaded.account.bound) m.account.bound.push_back(bound.stored);
  for (const auto& skipped : loaded.account.skipped)
    m.account.skipped.emplace_back(skipped.stored, skipped.reason);
  m.notes = std::move(loaded.account.notes);
  return m;
}

Model model_of(LoadedViT loaded) {
  const ViTConfig c = loaded.config;
  Model m = model_of(static_cast<Loaded&&>(loaded));
  m.architecture = describe(c);
  m.input = {c.channels, c.image_height, c.image_width};
  m.classes = c.classes;
  m.blocks = c.depth;
  m.prefix_tokens = c.prefix_tokens();
  m.grid_height = c.grid_height();
  m.grid_width = c.grid_width();
  m.token_readout = c.pooling == ViTConfig::Pooling::token;
  Tower tower;
  tower.blocks = c.depth;
  tower.prefix_tokens = c.prefix_tokens();
  tower.rows = c.grid_height();
  tower.columns = c.grid_width();
  if (m.token_readout) tower.readout = {0};
  if (m.token_readout && c.distilled) tower.readout.push_back(1);
  m.places.towers.push_back(std::move(tower));
  m.ports.push_back({"image", Type{m.input}, Port::Role::picture});
  m.build = [c](Graph& graph, int64_t batch) { return build_vit(graph, c, batch); };
  return m;
}

Model model_of(LoadedCnn loaded) {
  const CnnConfig config = std::move(loaded.config);
  Model m = model_of(static_cast<Loaded&&>(loaded));
  std::visit(
      [&m](const auto& c) {
        m.architecture = fmt::format("{}, {} x {} pixels, {} classes", describe(c), c.image_height,
                                     c.image_width, c.classes);
        m.input = {c.channels, c.image_height, c.image_width};
        m.classes = c.classes;
        m.grid_height = c.grid_height();
        m.grid_width = c.grid_width();
      },
      config);
  m.token_readout = false;
  m.places.features = "features.last";
  m.ports.push_back({"image", Type{m.input}, Port::Role::picture});
  m.build = [config](Graph& graph, int64_t batch) { return build_cnn(graph, config, batch); };
  return m;
}

}  // namespace

std::string Tower::place(int64_t block, std::string_view part) const {
  return fmt::format("{}blocks.{}.{}", prefix, block, part);
}

Model load_model(const std::filesystem::path& path, const LoadOptions& options) {
  Checkpoint checkpoint = Checkpoint::open(path);
  const ModelLayout layout = detect_layout(checkpoint);
  const auto* vit = std::get_if<ViTLayout>(&layout);
  Model m = vit ? model_of(load_vit(checkpoint, *vit, options))
                : model_of(load_cnn(checkpoint, std::get<CnnLayout>(layout), options));
  m.name = stem(path);
  return m;
}

}  // namespace whence
