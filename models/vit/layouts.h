// The names under which vision transformers are saved, and the sizes that a checkpoint shows.
#pragma once

#include <string>
#include <string_view>

#include "models/vit/vit.h"
#include "weights/checkpoint.h"
#include "weights/name_map.h"
#include "whence/image.h"
#include "whence/model.h"

namespace whence {

// Who wrote the names: timm (also the original DeiT and ViT ports), Hugging Face transformers up to
// version 4 (and all its files on disk), its version 5 in memory, torchvision.
enum class ViTNames : uint8_t { timm, hf_v4, hf_v5, torchvision };

struct ViTLayout {
  ViTNames names = ViTNames::timm;
  std::string prefix;  // "vit." or "deit.", of Hugging Face names
  bool operator==(const ViTLayout&) const = default;
};
std::string describe(const ViTLayout& layout);  // "Hugging Face DeiT, version 4 names"

// Sizes and variants that names and shapes decide. Heads, epsilon, activation and the image's
// aspect are not among them; the image is given the square that fits the position embedding, or 0 x
// 0.
ViTConfig vit_config_of_shapes(const Checkpoint& checkpoint, const ViTLayout& layout);

// `source` says whose sizes `config` holds, for messages.
NameMap vit_name_map(const ViTLayout& layout, const ViTConfig& config, std::string source);

// What the published models of a layout use for images of this size. `architecture` may be empty.
Preprocess usual_preprocess(const ViTLayout& layout, std::string_view architecture, bool distilled,
                            ImageSize size);

}  // namespace whence
