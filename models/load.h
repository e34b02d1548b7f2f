// From a path to a model that can be built and run.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "models/vit_config.h"
#include "weights/name_map.h"
#include "whence/image.h"
#include "whence/model.h"
#include "whence/vit.h"
#include "whence/weights.h"

namespace whence {

struct LoadedViT {
  ViTConfig config;
  Weights weights;
  Preprocess preprocess;
  std::vector<std::string> labels;  // one for each class
  std::string layout;
  Account account;  // what became of every tensor, and what was assumed
};

// `path` is a folder (model.safetensors or a sharded index, with config.json and its companions) or
// a single safetensors file, beside which nothing is read.
LoadedViT load_vit(const std::filesystem::path& path, const LoadOptions& options = {});

}  // namespace whence
