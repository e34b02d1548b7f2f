// A layer with a place on the image: which value of a model a method reads, and how its elements
// lie on a grid.
#pragma once

#include "explain/pass.h"

namespace whence {

struct Layer {
  std::string name;
  Value value;  // as the model computes it
  // channels_last [B, H, W, C]; image [B, C, H, W]; tokens [B, S, C], of which the last H*W are the
  // patches, row by row
  enum class Layout : uint8_t { channels_last, image, tokens } layout;
  int64_t height, width, channels;

  // `v` is the value or something of its shape, such as a gradient by it. [B, H*W, C]: the
  // channels at each position; tokens that are no patches are left out.
  Value positions(Value v) const;
};

// `name` empty: the last feature map, or what the last block's attention reads, after its norm
// (behind it only the tokens that the head reads have a gradient). Throws name for a place that
// the model does not have, usage for one without a place on the image.
Layer layer_of(const Scored& scored, std::string_view method, std::string_view name);

// A map of one row of positions(): [H, W]; with all its channels [C, H, W].
Tensor layer_map(const Layer& layer, std::span<const real> positions);
Tensor layer_channels(const Layer& layer, std::span<const real> positions);

}  // namespace whence
