// The names under which convolutional classifiers are saved, and the sizes that a checkpoint shows.
#pragma once

#include <string>

#include "models/cnn/cnn.h"
#include "weights/checkpoint.h"
#include "weights/name_map.h"
#include "whence/image.h"
#include "whence/model.h"

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

// Sizes and variants that names and shapes decide. The image's size and, of a ResNet, where it
// strides are not among them: they are given the usual values.
CnnConfig cnn_config_of_shapes(const Checkpoint& checkpoint, CnnLayout layout);

// `source` says whose sizes `config` holds, for messages.
NameMap cnn_name_map(CnnLayout layout, const CnnConfig& config, std::string source);

// What the published models of a layout use for images of this size.
Preprocess usual_preprocess(CnnLayout layout, ImageSize size);

}  // namespace whence
