// From a path to a model that can be built and run.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "models/detect.h"
#include "weights/name_map.h"
#include "whence/cnn.h"
#include "whence/image.h"
#include "whence/model.h"
#include "whence/vit.h"
#include "whence/weights.h"

namespace whence {

struct Loaded {
  Weights weights;
  Preprocess preprocess;
  std::vector<std::string> labels;  // one for each class
  std::string layout;
  Account account;  // what became of every tensor, and what was assumed
};
struct LoadedViT : Loaded {
  ViTConfig config;
};
struct LoadedCnn : Loaded {
  CnnConfig config;
};

// `path` is a folder (model.safetensors or a sharded index, with config.json and its companions) or
// a single safetensors file, beside which nothing is read. A checkpoint of the other family is an
// unsupported error.
LoadedViT load_vit(const std::filesystem::path& path, const LoadOptions& options = {});
LoadedCnn load_cnn(const std::filesystem::path& path, const LoadOptions& options = {});

// The same for a checkpoint that `detect_layout` has seen.
LoadedViT load_vit(const Checkpoint& checkpoint, const ViTLayout& layout,
                   const LoadOptions& options);
LoadedCnn load_cnn(const Checkpoint& checkpoint, CnnLayout layout, const LoadOptions& options);

}  // namespace whence
