// Position embeddings for another image size than the one a model was trained with.
#pragma once

#include <array>
#include <cstdint>

#include "models/vit/layouts.h"
#include "whence/tensor.h"

namespace whence {

// How the programs that trained a model resample its position embedding.
enum class PositionKernel : uint8_t {
  bicubic_antialias,  // timm: Keys' cubic with a = -0.5, stretched when shrinking
  bicubic,            // Hugging Face: a = -0.75, half-pixel centres, edges repeated
  bicubic_corners,    // torchvision: the same, corners on corners
};
PositionKernel position_kernel(const ViTLayout& layout);
// positions [1, prefix + h*w, W] for a grid of h x w -> [1, prefix + H*W, W]; prefix rows are kept.
Tensor resize_positions(const Tensor& positions, int64_t prefix, std::array<int64_t, 2> from,
                        std::array<int64_t, 2> to, PositionKernel kernel);

}  // namespace whence
