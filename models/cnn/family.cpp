#include "models/cnn/family.h"

#include <fmt/core.h>

namespace whence {
namespace {

std::optional<CnnFacts> facts_of(const Source& source) {
  if (!source.options.arch.empty()) return cnn_facts_from_name(source.options.arch);
  if (const auto config = source.companions.config()) return cnn_facts_from_config(*config);
  return {};
}

std::string in_words(const ResNetConfig& c) {
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

std::string in_words(const MobileNetV2Config& c) {
  int64_t blocks = 0;
  for (const auto& stage : c.stages) blocks += stage.blocks;
  return fmt::format("MobileNetV2, {} blocks of width {} to {}", blocks, c.stages.front().channels,
                     c.stages.back().channels);
}

std::string in_words(const VggConfig& c) {
  size_t convolutions = 0;
  for (const auto& layer : c.layers) convolutions += layer.size();
  return fmt::format("VGG, {} convolutions{} and 3 dense layers of width {}, {}", convolutions,
                     c.batch_norm ? " with batch norm" : "", c.hidden[0], c.hidden[1]);
}

}  // namespace

CnnNetwork::CnnNetwork(const Source& source, CnnLayout layout)
    : layout_(layout), checkpoint_(source.checkpoint.name()) {
  const std::optional<CnnFacts> facts = facts_of(source);
  config_ = resolve_cnn_config(source.checkpoint, layout, facts, source.options.image_size);
  source_ = facts ? facts->source : "the other tensors";
  image_known_ = source.options.image_size || (facts && facts->image_height);
  if (layout == CnnLayout::resnet_hub && !(facts && facts->resnet))
    notes.emplace_back("where the layers stride is not stated: the usual places are assumed");
}

Value CnnNetwork::build(Graph& graph, int64_t batch) const {
  return build_cnn(graph, config_, batch);
}

void CnnNetwork::describe(Model& model) const {
  const CnnSizes& c = sizes_of(config_);
  const std::string words =
      std::visit([](const auto& config) { return in_words(config); }, config_);
  model.architecture = fmt::format("{}, {} x {} pixels, {} classes", words, c.image_height,
                                   c.image_width, c.classes);
  model.classes = c.classes;
  model.ports = {{"image", Type{{c.channels, c.image_height, c.image_width}}, Port::Role::picture}};
  model.places.features = "features.last";
}

NameMap CnnNetwork::names() const { return cnn_name_map(layout_, config_, source_); }

std::optional<ImageSize> CnnNetwork::image() const {
  return ImageSize{sizes_of(config_).image_height, sizes_of(config_).image_width};
}

Preprocess CnnNetwork::usual_preprocess(std::string_view) const {
  return whence::usual_preprocess(layout_, *image());
}

void CnnNetwork::offer_image(ImageSize given) {
  if (image_known_) return;
  sizes_of(config_).image_height = given.height;
  sizes_of(config_).image_width = given.width;
  check_cnn_config(config_, checkpoint_);
}

Preprocess usual_preprocess(CnnLayout layout, ImageSize size) {
  Preprocess p;
  p.mean = imagenet_mean, p.std = imagenet_std;
  const bool hub = layout == CnnLayout::resnet_hub;
  p.crop_rounding = hub ? Preprocess::CropRounding::floor : Preprocess::CropRounding::half_even;
  p.filter = hub || layout == CnnLayout::mobilenet_timm ? Resample::bicubic : Resample::bilinear;
  const double kept = 224.0 / 256.0;
  set_resize(p, size.height == size.width ? Preprocess::Fit::short_side : Preprocess::Fit::exact,
             {enlarged(size.height, kept), enlarged(size.width, kept)});
  set_crop(p, size);
  return p;
}

Family cnn_family() {
  const auto as = [](CnnLayout layout) {
    return [layout](const Source& source) { return std::make_unique<CnnNetwork>(source, layout); };
  };
  return {
      .supported =
          "ResNet, wide ResNet and ResNeXt as saved by the same; MobileNetV2 of "
          "torchvision and timm; VGG of torchvision",
      .signatures = {
          {.pattern = "layer{i}.0.bn1.weight",
           .also = "conv1.0.weight",
           .refused = "a ResNet with several convolutions before its first layer (timm's c, d, s "
                      "and t variants)"},
          {.pattern = "layer{i}.0.bn1.weight", .open = as(CnnLayout::resnet)},
          {.pattern = "resnet.embedder.embedder.convolution.weight",
           .open = as(CnnLayout::resnet_hub)},
          {.pattern = "embedder.embedder.convolution.weight",
           .refused = "a Hugging Face ResNet without a classifier"},
          {.pattern = "features.1.conv.0.0.weight", .open = as(CnnLayout::mobilenet_torchvision)},
          {.pattern = "blocks.0.0.conv_dw.weight",
           .also = "blocks.{i}.{rest}.se.conv_reduce.weight",
           .refused = "an EfficientNet or MobileNetV3 (timm)"},
          {.pattern = "blocks.0.0.conv_dw.weight", .open = as(CnnLayout::mobilenet_timm)},
          {.pattern = "mobilenet_v2.{rest}",
           .refused = "a Hugging Face MobileNetV2, which is another network than the MobileNetV2 "
                      "of torchvision and timm: it pads images on two sides only and has another "
                      "norm epsilon"},
          {.pattern = "features.0.weight",
           .also = "classifier.3.weight",
           .open = as(CnnLayout::vgg)},
          {.pattern = "pre_logits.fc1.weight", .refused = "a VGG with timm's names"},
      }};
}

}  // namespace whence
