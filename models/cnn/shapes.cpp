// The sizes of convolutional classifiers that the shapes of a checkpoint show.
#include <cmath>

#include "models/cnn/layouts.h"
#include "models/map_writer.h"
#include "models/shape_reader.h"
#include "runtime/check.h"

namespace whence {
namespace {

template <class... A>
[[noreturn]] void unsupported(fmt::format_string<A...> text, A&&... a) {
  fail(ErrorCode::unsupported, text, std::forward<A>(a)...);
}

ResNetConfig resnet_of_shapes(const Checkpoint& checkpoint, CnnLayout layout) {
  ResNetConfig c;
  const NameMap map = cnn_name_map(layout, c, "");
  const ShapeReader r(checkpoint, map);
  const auto& stem = r.shape("stem.conv.weight", 4);
  if (stem[2] != 7 || stem[3] != 7)
    unsupported(
        "{}: the first convolution is {} x {}; only ResNets that begin with 7 x 7 and a max-pool "
        "are supported",
        checkpoint.name(), stem[2], stem[3]);
  c.stem = stem[0], c.channels = stem[1];
  c.bottleneck = r.has("layer1.0.conv3.weight");
  const char* last = c.bottleneck ? "conv3" : "conv2";
  for (int l = 1; l <= 4; ++l) {
    const std::string layer = fmt::format("layer{}.", l);
    const int64_t blocks = r.count(layer + "{i}.");
    c.layers[size_t(l - 1)] = {blocks, r.shape(layer + "0.conv1.weight", 4)[0],
                               r.shape(fmt::format("{}0.{}.weight", layer, last), 4)[0],
                               l == 1 ? 1 : 2};
  }
  // A shortcut that changes no channels has something else to do.
  if (layout == CnnLayout::resnet_hub && c.stem == c.layers[0].outer &&
      r.has("layer1.0.shortcut.conv.weight"))
    c.layers[0].stride = 2;
  if (c.bottleneck) {
    const auto& grouped = r.shape("layer1.0.conv2.weight", 4);
    if (grouped[1] > 0 && grouped[0] % grouped[1] == 0) c.groups = grouped[0] / grouped[1];
  }
  c.classes = r.shape("head.weight", 2)[0];
  return c;
}

// The block that begins stage `s`, for the expansion and the channels that all of the stage share.
void read_stage(const ShapeReader& r, int64_t index, MobileNetV2Config::Stage& stage) {
  const std::string block = fmt::format("features.{}.", index);
  stage.channels = r.shape(block + "project.weight", 4)[0];
  if (stage.expansion == 1) return;
  const auto& expand = r.shape(block + "expand.weight", 4);
  stage.expansion = expand[1] > 0 ? expand[0] / expand[1] : 0;
}

MobileNetV2Config mobilenet_of_shapes(const Checkpoint& checkpoint, CnnLayout layout) {
  // The table of the paper: strides do not show in shapes, so the stages must be those.
  MobileNetV2Config c;
  int64_t published = 0;
  for (const auto& stage : c.stages) published += stage.blocks;
  NameMap counting;
  MapWriter names(counting);
  if (layout == CnnLayout::mobilenet_timm) {
    for (size_t s = 0; s <= c.stages.size(); ++s) {
      const std::string stage = fmt::format("blocks.{}.{{i}}.", s);
      names.tensor(stage + "conv_dw.weight", stage);
      const int64_t blocks = ShapeReader(checkpoint, counting).count(stage);
      if ((s < c.stages.size()) != (blocks > 0))
        unsupported("{}: a MobileNetV2 has {} stages, this checkpoint has {}", checkpoint.name(),
                    c.stages.size(), blocks > 0 ? "more" : std::to_string(s));
      if (s < c.stages.size()) c.stages[s].blocks = blocks;
    }
  } else {
    names.tensor("features.{i}.conv.{rest}.weight", "features.{i}.");
    const int64_t blocks = ShapeReader(checkpoint, counting).count("features.{i}.") - 1;
    if (blocks != published)
      unsupported("{}: {} blocks in one sequence; where a MobileNetV2 strides is known for {} only",
                  checkpoint.name(), blocks, published);
  }
  const NameMap map = cnn_name_map(layout, c, "");
  const ShapeReader r(checkpoint, map);
  const auto& stem = r.shape("stem.conv.weight", 4);
  c.stem = stem[0], c.channels = stem[1];
  int64_t index = 1;
  for (auto& stage : c.stages) {
    read_stage(r, index, stage);
    index += stage.blocks;
  }
  c.last = r.shape(fmt::format("features.{}.conv.weight", index), 4)[0];
  c.classes = r.shape("head.weight", 2)[0];
  return c;
}

// Convolutions follow each other at a distance of their norm and activation; one place more is a
// max-pool.
VggConfig vgg_of_shapes(const Checkpoint& checkpoint) {
  VggConfig c;
  c.layers.clear();
  const CheckpointTensor* norm = checkpoint.find("features.1.weight");
  c.batch_norm = norm && norm->shape.size() == 1;
  const int64_t step = c.batch_norm ? 3 : 2;
  constexpr int64_t most = 1000;
  int64_t previous = -step - 1;  // as if a max-pool came before
  for (int64_t n = 0; n < most; ++n) {
    const CheckpointTensor* t = checkpoint.find(fmt::format("features.{}.weight", n));
    if (!t || t->shape.size() != 4) continue;
    if (n - previous == step + 1)
      c.layers.emplace_back();
    else if (n - previous != step)
      unsupported("{}: 'features.{}' does not stand where a VGG has a convolution",
                  checkpoint.name(), n);
    c.layers.back().push_back(t->shape[0]);
    if (n == 0) c.channels = t->shape[1];
    previous = n;
  }
  if (c.layers.empty())
    unsupported("{}: 'features.0.weight' is not the weight of a convolution", checkpoint.name());
  const NameMap map = cnn_name_map(CnnLayout::vgg, c, "");
  const ShapeReader r(checkpoint, map);
  const auto& first = r.shape("fc1.weight", 2);
  const int64_t channels = c.layers.back().back();
  const int64_t area = channels > 0 ? first[1] / channels : 0;
  c.pooled = std::lround(std::sqrt(double(area)));
  if (area < 1 || c.pooled * c.pooled * channels != first[1])
    fail_shape(
        "{}: 'classifier.0.weight' is {} in the checkpoint, which is no square of {} "
        "channels",
        checkpoint.name(), shape_text(first), channels);
  c.hidden = {first[0], r.shape("fc2.weight", 2)[0]};
  c.classes = r.shape("head.weight", 2)[0];
  return c;
}

}  // namespace

CnnConfig cnn_config_of_shapes(const Checkpoint& checkpoint, CnnLayout layout) {
  switch (layout) {
    case CnnLayout::resnet:
    case CnnLayout::resnet_hub:
      return resnet_of_shapes(checkpoint, layout);
    case CnnLayout::mobilenet_torchvision:
    case CnnLayout::mobilenet_timm:
      return mobilenet_of_shapes(checkpoint, layout);
    case CnnLayout::vgg:
      break;
  }
  return vgg_of_shapes(checkpoint);
}

}  // namespace whence
