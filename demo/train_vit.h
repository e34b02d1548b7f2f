// The vision transformer among the bundled models.
#pragma once

#include "demo/trainer.h"
#include "models/vit/vit.h"

namespace whence::demo {

// 96 x 96 pixels in 64 patches, 3 blocks of width 96 with 3 heads, 8 classes.
ViTConfig demo_vit_config();
// Random matrices and embeddings, zero biases, unit norms: all that `build_vit` reads.
Weights initial_weights(const ViTConfig& config, uint64_t seed);
// Two blocks at least. A patch's scores are those of its token where the last block's attention
// reads it.
Subject vit_subject(const ViTConfig& config, uint64_t seed);

}  // namespace whence::demo
