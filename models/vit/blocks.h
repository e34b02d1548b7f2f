// Blocks of vision transformers: the layers that they are made of, and the ways to join them.
#pragma once

#include <span>
#include <string_view>

#include "models/vit/vit.h"

namespace whence {

// Layers in the graph's present scope, each with its weights and its places.
struct ViTLayers {
  Graph& g;
  const ViTConfig& c;

  Value dense(std::string_view name, Value x, int64_t outputs, bool bias = true) const;
  Value norm(std::string_view name, Value x) const;  // the value itself is not named
  Value attend(Value x) const;                       // names attn.in, what it reads, and attn.out
  Value mlp(Value x) const;
  Value scaled(std::string_view name, Value x) const;  // where the model has layer scale
};

// A way to join the two branches to what the block carries. Whatever is normalised before or
// behind them, `join` names "mid" what leaves the half with the attention and "out" what leaves the
// block; methods rely on these and on attn.in (whence/model.h).
struct ViTBlock {
  std::string_view word;  // in timm's names of architectures; empty: the paper's
  Value (*join)(const ViTLayers& layers, Value x);
};
std::span<const ViTBlock> vit_blocks();
const ViTBlock* find_vit_block(std::string_view word);  // null where there is none

}  // namespace whence
