// The name maps of convolutional classifiers.
#include <fmt/core.h>

#include "models/cnn/layouts.h"
#include "models/map_writer.h"
#include "runtime/check.h"

namespace whence {
namespace {

void resnet_names(NameMap& map) {
  MapWriter m(map);
  m.tensor("conv1.weight", "stem.conv.weight");
  m.batch_norm("bn1", "stem.norm");
  for (int l = 1; l <= 4; ++l) {
    const std::string block = fmt::format("layer{}.{{i}}.", l);
    for (int k = 1; k <= 3; ++k) {
      m.tensor(fmt::format("{}conv{}.weight", block, k), fmt::format("{}conv{}.weight", block, k));
      m.batch_norm(fmt::format("{}bn{}", block, k), fmt::format("{}norm{}", block, k));
    }
    m.tensor(block + "downsample.0.weight", block + "shortcut.conv.weight");
    m.batch_norm(block + "downsample.1", block + "shortcut.norm");
    map.layers.push_back(fmt::format("layer{}.", l));
  }
  m.layer("fc", "head");
  for (const char* layer : {"conv1.", "bn1.", "fc.", "conv2.", "bn2.", "layer0.", "layer5.",
                            "maxpool.", "attnpool.", "head."})
    map.layers.emplace_back(layer);
}

void resnet_hub_names(NameMap& map) {
  MapWriter m(map);
  const std::string stem = "resnet.embedder.embedder.";
  m.tensor(stem + "convolution.weight", "stem.conv.weight");
  m.batch_norm(stem + "normalization", "stem.norm");
  for (int l = 1; l <= 4; ++l) {
    const std::string stored = fmt::format("resnet.encoder.stages.{}.layers.{{i}}.", l - 1);
    const std::string block = fmt::format("layer{}.{{i}}.", l);
    for (int k = 1; k <= 3; ++k) {
      const std::string layer = fmt::format("{}layer.{}.", stored, k - 1);
      m.tensor(layer + "convolution.weight", fmt::format("{}conv{}.weight", block, k));
      m.batch_norm(layer + "normalization", fmt::format("{}norm{}", block, k));
    }
    m.tensor(stored + "shortcut.convolution.weight", block + "shortcut.conv.weight");
    m.batch_norm(stored + "shortcut.normalization", block + "shortcut.norm");
  }
  m.layer("classifier.1", "head");
  map.layers = {"resnet.", "classifier."};
}

// Sequences inside sequences: the activations, which have no weights, are counted too.
void mobilenet_torchvision_names(NameMap& map, const MobileNetV2Config& c) {
  MapWriter m(map);
  m.tensor("features.0.0.weight", "stem.conv.weight");
  m.batch_norm("features.0.1", "stem.norm");
  int64_t index = 0;
  for (const auto& stage : c.stages)
    for (int64_t i = 0; i < stage.blocks; ++i) {
      const std::string block = fmt::format("features.{}.", ++index), in = block + "conv.";
      int k = 0;
      if (stage.expansion != 1) {
        m.tensor(in + "0.0.weight", block + "expand.weight");
        m.batch_norm(in + "0.1", block + "norm1");
        ++k;
      }
      m.tensor(fmt::format("{}{}.0.weight", in, k), block + "depthwise.weight");
      m.batch_norm(fmt::format("{}{}.1", in, k), block + "norm2");
      m.tensor(fmt::format("{}{}.weight", in, k + 1), block + "project.weight");
      m.batch_norm(fmt::format("{}{}", in, k + 2), block + "norm3");
    }
  const std::string last = fmt::format("features.{}.", index + 1);
  m.tensor(last + "0.weight", last + "conv.weight");
  m.batch_norm(last + "1", last + "norm");
  m.layer("classifier.1", "head");
  map.layers = {"features.", "classifier."};
}

void mobilenet_timm_names(NameMap& map, const MobileNetV2Config& c) {
  MapWriter m(map);
  m.tensor("conv_stem.weight", "stem.conv.weight");
  m.batch_norm("bn1", "stem.norm");
  int64_t index = 0;
  for (size_t s = 0; s < c.stages.size(); ++s)
    for (int64_t i = 0; i < c.stages[s].blocks; ++i) {
      const std::string stored = fmt::format("blocks.{}.{}.", s, i);
      const std::string block = fmt::format("features.{}.", ++index);
      const bool expands = c.stages[s].expansion != 1;
      int k = 1;
      if (expands) {
        m.tensor(stored + "conv_pw.weight", block + "expand.weight");
        m.batch_norm(fmt::format("{}bn{}", stored, k++), block + "norm1");
      }
      m.tensor(stored + "conv_dw.weight", block + "depthwise.weight");
      m.batch_norm(fmt::format("{}bn{}", stored, k++), block + "norm2");
      m.tensor(stored + (expands ? "conv_pwl.weight" : "conv_pw.weight"), block + "project.weight");
      m.batch_norm(fmt::format("{}bn{}", stored, k), block + "norm3");
    }
  const std::string last = fmt::format("features.{}.", index + 1);
  m.tensor("conv_head.weight", last + "conv.weight");
  m.batch_norm("bn2", last + "norm");
  m.layer("classifier", "head");
  map.layers = {"conv_stem.", "bn1.", "blocks.", "conv_head.", "bn2.", "classifier."};
}

// One flat sequence, in which activations and poolings are counted too.
void vgg_names(NameMap& map, const VggConfig& c) {
  MapWriter m(map);
  int64_t index = 0;
  for (size_t l = 0; l < c.layers.size(); ++l, ++index)
    for (size_t j = 0; j < c.layers[l].size(); ++j) {
      const std::string block = fmt::format("layer{}.{}.", l + 1, j + 1);
      m.layer(fmt::format("features.{}", index++), block + "conv");
      if (c.batch_norm) m.batch_norm(fmt::format("features.{}", index++), block + "norm");
      ++index;
    }
  m.layer("classifier.0", "fc1");
  m.layer("classifier.3", "fc2");
  m.layer("classifier.6", "head");
  map.layers = {"features.", "classifier."};
}

}  // namespace

std::string describe(CnnLayout layout) {
  switch (layout) {
    case CnnLayout::resnet:
      return "torchvision or timm ResNet";
    case CnnLayout::resnet_hub:
      return "Hugging Face ResNet";
    case CnnLayout::mobilenet_torchvision:
      return "torchvision MobileNetV2";
    case CnnLayout::mobilenet_timm:
      return "timm MobileNetV2";
    case CnnLayout::vgg:
      return "torchvision VGG";
  }
  return "";
}

bool can_hold(CnnLayout layout, const CnnConfig& config) {
  switch (layout) {
    case CnnLayout::resnet:
    case CnnLayout::resnet_hub:
      return std::holds_alternative<ResNetConfig>(config);
    case CnnLayout::mobilenet_torchvision:
    case CnnLayout::mobilenet_timm:
      return std::holds_alternative<MobileNetV2Config>(config);
    case CnnLayout::vgg:
      return std::holds_alternative<VggConfig>(config);
  }
  return false;
}

NameMap cnn_name_map(CnnLayout layout, const CnnConfig& config, std::string source) {
  WHENCE_ASSERT(can_hold(layout, config));
  NameMap map;
  map.source = std::move(source);
  switch (layout) {
    case CnnLayout::resnet:
      resnet_names(map);
      break;
    case CnnLayout::resnet_hub:
      resnet_hub_names(map);
      break;
    case CnnLayout::mobilenet_torchvision:
      mobilenet_torchvision_names(map, std::get<MobileNetV2Config>(config));
      break;
    case CnnLayout::mobilenet_timm:
      mobilenet_timm_names(map, std::get<MobileNetV2Config>(config));
      break;
    case CnnLayout::vgg:
      vgg_names(map, std::get<VggConfig>(config));
      break;
  }
  MapWriter(map).skip("{rest}.num_batches_tracked", "a buffer");
  return map;
}

}  // namespace whence
