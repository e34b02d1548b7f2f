// What is known about a convolutional classifier besides its tensors: from a config.json, or from
// the name of an architecture; and how that and the tensors' shapes become one CnnConfig.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "io/json.h"
#include "models/cnn/layouts.h"
#include "whence/model.h"

namespace whence {

// Names of torchvision and timm, with or without a tag after a point: resnet18, 26, 34, 50, 101,
// 152; wide_resnet50_2; resnext50_32x4d; mobilenet_v2, mobilenetv2_WWW and mobilenetv2_WWWd (width
// in percent); vgg11, 13, 16, 19 and vggNN_bn. Other names are usage errors.
CnnConfig cnn_config_of_name(std::string_view architecture);

// Whatever a source says; shapes fill in the rest.
struct CnnFacts {
  std::string source;              // "config.json", "resnet50", for messages
  std::optional<CnnConfig> named;  // the sizes of a named architecture
  std::optional<int64_t> image_height, image_width, channels, classes;
  // A ResNet whose sizes are listed.
  struct ResNet {
    std::optional<int64_t> stem;
    std::optional<bool> bottleneck, stride_in_first;
    std::optional<std::array<int64_t, 4>> depths, outer;
    bool stride_in_layer1 = false;
  };
  std::optional<ResNet> resnet;
};
// A config.json of Hugging Face (model_type "resnet") or of timm. Every number is range-checked;
// values that change the mathematics and are not supported are unsupported errors with the value.
CnnFacts cnn_facts_from_config(const JsonObject& config);
CnnFacts cnn_facts_from_name(std::string_view architecture);

// The model as it shall run; its image is that of `image_size`, else what the facts say, else as
// usual.
CnnConfig resolve_cnn_config(const Checkpoint& checkpoint, CnnLayout layout,
                             const std::optional<CnnFacts>& facts,
                             const std::optional<ImageSize>& image_size);

// Throws unless every size is in its range and fits the others. `where` begins the message.
void check_cnn_config(const CnnConfig& config, const std::string& where);

}  // namespace whence
