// The names under which convolutional classifiers are saved, and the sizes that a checkpoint shows.
#pragma once

#include <map>
#include <string>

#include "weights/checkpoint.h"
#include "weights/name_map.h"
#include "whence/cnn.h"

namespace whence {

enum class CnnLayout : uint8_t {
  resnet,      // torchvision and timm, which share the names
  resnet_hub,  // Hugging Face transformers
  mobilenet_torchvision,
  mobilenet_timm,
  vgg,  // torchvision
};
std::string describe(CnnLayout layout);                    // "Hugging Face ResNet"
bool can_hold(CnnLayout layout, const CnnConfig& config);  // whether the family is the layout's

inline CnnSizes& sizes_of(CnnConfig& config) {
  return std::visit([](auto& c) -> CnnSizes& { return c; }, config);
}
inline const CnnSizes& sizes_of(const CnnConfig& config) {
  return std::visit([](const auto& c) -> const CnnSizes& { return c; }, config);
}

// Sizes and variants that names and shapes decide. The image's size and, of a ResNet, where it
// strides are not among them: they are given the usual values.
CnnConfig cnn_config_of_shapes(const Checkpoint& checkpoint, CnnLayout layout);

// Every weight that `build_cnn` reads, by name.
std::map<std::string, Shape> required_cnn_weights(const CnnConfig& config);
// Elements of those that are trained, which excludes the statistics of batch norms; throws limit
// where the sum is beyond any model.
int64_t cnn_parameter_count(const CnnConfig& config);

// `source` says whose sizes `config` holds, for messages.
NameMap cnn_name_map(CnnLayout layout, const CnnConfig& config, std::string source);

}  // namespace whence
