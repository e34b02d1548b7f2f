// Convolutional classifiers: ResNet (He et al. 2016) with its wide and grouped relatives
// (Zagoruyko and Komodakis 2016, Xie et al. 2017), MobileNetV2 (Sandler et al. 2018) and VGG
// (Simonyan and Zisserman 2015).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "whence/graph.h"

namespace whence {

// Weights of all three: a convolution NAME has NAME.weight [O, C/groups, k, k] and, in VGG,
// NAME.bias; a batch norm NAME has NAME.{weight, bias, mean, variance}; a dense layer NAME has
// NAME.{weight [O, I], bias [O]}. A group of layers, a layer, a norm and an activation are also
// places that can be read, differentiated and written under the same names. Values between "image"
// and "pool" are channels-last, [B, H, W, C]. Every model has the places image [B, C, H, W], stem,
// features.last (the last feature map, whose sizes the config gives), pool and logits [B, K].
struct CnnSizes {
  int64_t image_height = 224, image_width = 224, channels = 3, classes = 1000;
  real norm_epsilon = real(1e-5);
  bool operator==(const CnnSizes&) const = default;
};

// stem.{conv, norm, act}, stem (after its max-pool); for L = 1..4 and block I: layerL.I.{conv1,
// norm1, act1, conv2, norm2}, with bottlenecks also layerL.I.{act2, conv3, norm3}; where the
// stride or the number of channels changes layerL.I.shortcut.{conv, norm}; layerL.I and layerL are
// what leaves the block and the layer. head.
struct ResNetConfig : CnnSizes {
  int64_t stem = 64;
  bool bottleneck = true;  // three convolutions a block (1, 3, 1), not two (3, 3)
  struct Layer {
    int64_t blocks, inner, outer, stride;
    bool operator==(const Layer&) const = default;
  };
  std::array<Layer, 4> layers{
      {{3, 64, 256, 1}, {4, 128, 512, 2}, {6, 256, 1024, 2}, {3, 512, 2048, 2}}};
  int64_t groups = 1;            // of the bottleneck's second convolution
  bool stride_in_first = false;  // a bottleneck strides in its first convolution, not its second

  int64_t grid_height() const;
  int64_t grid_width() const;
  bool operator==(const ResNetConfig&) const = default;
};

// stem.{conv, norm}, stem; for I = 1..N: features.I.{expand, norm1, act1} unless the block's
// expansion is 1, features.I.{depthwise, norm2, act2, project, norm3}, features.I; then
// features.N+1.{conv, norm}, features.N+1, which is features.last. head.
struct MobileNetV2Config : CnnSizes {
  int64_t stem = 32, last = 1280;
  struct Stage {
    int64_t expansion, channels, blocks, stride;
    bool operator==(const Stage&) const = default;
  };
  std::vector<Stage> stages{{1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2}, {6, 64, 4, 2},
                            {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};

  int64_t grid_height() const;
  int64_t grid_width() const;
  bool operator==(const MobileNetV2Config&) const = default;
};

// For L = 1..5 and J = 1..: layerL.J.{conv, norm} (norm with batch_norm), layerL.J after the
// rectifier, layerL after the max-pool; the first of them is also stem. features.last is the last
// rectified convolution, before its max-pool; pool is the mean over pooled x pooled regions.
// fc1, fc2 (rectified: fc1.act, fc2.act), head.
struct VggConfig : CnnSizes {
  std::vector<std::vector<int64_t>> layers{
      {64, 64}, {128, 128}, {256, 256, 256}, {512, 512, 512}, {512, 512, 512}};
  bool batch_norm = false;
  int64_t pooled = 7;
  std::array<int64_t, 2> hidden{4096, 4096};

  int64_t grid_height() const;
  int64_t grid_width() const;
  bool operator==(const VggConfig&) const = default;
};

// Each returns the logits.
Value build_resnet(Graph& graph, const ResNetConfig& config, int64_t batch);
Value build_mobilenet_v2(Graph& graph, const MobileNetV2Config& config, int64_t batch);
Value build_vgg(Graph& graph, const VggConfig& config, int64_t batch);

using CnnConfig = std::variant<ResNetConfig, MobileNetV2Config, VggConfig>;
inline CnnSizes& sizes_of(CnnConfig& config) {
  return std::visit([](auto& c) -> CnnSizes& { return c; }, config);
}
inline const CnnSizes& sizes_of(const CnnConfig& config) {
  return std::visit([](const auto& c) -> const CnnSizes& { return c; }, config);
}
Value build_cnn(Graph& graph, const CnnConfig& config, int64_t batch);

}  // namespace whence
