// What is known about a vision transformer besides its tensors: from a config.json, or from the
// name of an architecture; and how that and the tensors' shapes become one ViTConfig.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "io/json.h"
#include "models/vit/layouts.h"
#include "models/vit/vit.h"
#include "whence/model.h"

namespace whence {

// Whatever a source says; shapes fill in the rest.
struct ViTFacts {
  std::string source;  // "config.json", "vit_base_patch16_224", for messages
  std::optional<int64_t> image_height, image_width, patch, channels;
  std::optional<int64_t> width, depth, heads, mlp, classes, registers;
  std::optional<double> norm_epsilon, mlp_ratio;
  std::optional<std::string_view> activation;
  std::optional<ViTConfig::Pooling> pooling;
  std::optional<bool> position_skips_prefix;
  std::optional<std::string_view> block;
};

// Every number is range-checked; values that change the mathematics and are not supported are
// unsupported errors with the value.
ViTFacts vit_facts_from_hugging_face(const JsonObject& config);
// A config.json of timm: `architecture`, `model_args`, `pretrained_cfg`.
ViTFacts vit_facts_from_timm(const JsonObject& config);
// Either of them.
ViTFacts vit_facts_from_config(const JsonObject& config);
// Names of timm ("vit_base_patch16_224", "deit_small_distilled_patch16_224", with or without a tag
// after a point) and torchvision ("vit_b_16").
ViTFacts vit_facts_from_name(std::string_view architecture);

struct ViTSizes {
  ViTConfig stored;  // as the checkpoint's tensors are
  ViTConfig config;  // as the model shall run: another image size changes the position embedding
};
ViTSizes resolve_vit_sizes(const Checkpoint& checkpoint, const ViTLayout& layout,
                           const std::optional<ViTFacts>& facts,
                           const std::optional<ImageSize>& image_size);

// Throws unless every size is in its range, heads divide the width and patches the image. `where`
// begins the message.
void check_vit_config(const ViTConfig& config, const std::string& where);

}  // namespace whence
