// Writing a trained model as a checkpoint that timm and whence read.
#pragma once

#include <filesystem>

#include "whence/vit.h"
#include "whence/weights.h"

namespace whence::demo {

// model.safetensors (half precision) and config.json (sizes, preprocessing, class names) in
// `folder`, which is made if it is not there.
void save_demo_vit(const std::filesystem::path& folder, const ViTConfig& config,
                   const Weights& weights);

}  // namespace whence::demo
