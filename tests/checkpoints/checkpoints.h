// Small random checkpoints, and checkpoints of trained weights, written under any layout's names.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "models/cnn/layouts.h"
#include "models/vit/layouts.h"
#include "weights/safetensors.h"
#include "whence/image.h"
#include "whence/model.h"

namespace whence {

// Every weight of `config`, a function of the seed alone: equal on every machine. Matrices have
// entries of variance 1 / inputs, norms stay near 1, so that the logits of different images differ.
Weights random_vit_weights(const ViTConfig& config, uint64_t seed);
// Likewise; statistics of batch norms are uneven too.
Weights random_cnn_weights(const CnnConfig& config, uint64_t seed);

// A model of these weights that was never a file.
Model random_model(const ViTConfig& config, uint64_t seed);
Model random_model(const CnnConfig& config, uint64_t seed);

struct WriteOptions {
  StoredDtype dtype = StoredDtype::f32;
  int shards = 1;                        // over 1: as many files and an index
  bool config = true;                    // config.json
  std::vector<std::string> labels = {};  // in config.json
  // In preprocessor_config.json; of a ViT with timm's names in config.json.
  std::optional<Preprocess> preprocess = {};
};
// Tensors as `layout` stores them: fused, reshaped, named. A weight or variant that the layout
// cannot express is a usage error.
std::vector<OutputTensor> vit_checkpoint_tensors(const ViTConfig& config, const Weights& weights,
                                                 const ViTLayout& layout,
                                                 StoredDtype dtype = StoredDtype::f32);
std::vector<OutputTensor> cnn_checkpoint_tensors(const CnnConfig& config, const Weights& weights,
                                                 CnnLayout layout,
                                                 StoredDtype dtype = StoredDtype::f32);
// A folder that loading reads back: the same config, weights, labels and preprocessing.
void write_vit_checkpoint(const std::filesystem::path& folder, const ViTConfig& config,
                          const Weights& weights, const ViTLayout& layout,
                          const WriteOptions& options = {});
// Likewise.
void write_cnn_checkpoint(const std::filesystem::path& folder, const CnnConfig& config,
                          const Weights& weights, CnnLayout layout,
                          const WriteOptions& options = {});

}  // namespace whence
