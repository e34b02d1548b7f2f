// A layer with a place on the image: which value of a model a method reads, and how its elements
// lie on a grid.
#pragma once

#include "explain/engine/maps.h"

namespace whence {

struct Layer {
  std::string name;
  // channels_last [B, H, W, C]; picture [B, C, H, W]; tokens [B, S, C], of which the last H*W are
  // those on the grid, row by row
  enum class Layout : uint8_t { channels_last, picture, tokens } layout;
  int64_t height, width, channels;

  Value value(const Scene& s) const { return s.graph.at(name); }  // as the model computes it
  // `v` is the value or something of its shape, such as a gradient by it. [B, H*W, C]: the
  // channels at each position; tokens that are no patches are left out.
  Value positions(Value v) const;
};

// The layer that is asked for; where none is, the last feature map, or what the last block's
// attention reads (behind it only the tokens that the head reads have a gradient). Throws name for
// a place that the model does not have, usage for one without a place on the image.
Layer layer_of(const Scene& s, const Options& options);

// Maps of positions: v [B, H*W] becomes [H, W]; v [B, H*W, C] with all its channels [C, H, W].
Map layer_map(const Layer& layer, Value v);
Map layer_channels(const Layer& layer, Value v);

}  // namespace whence
