// Vision transformers: ViT (Dosovitskiy et al. 2021) and DeiT (Touvron et al. 2021).
#pragma once

#include <cstdint>
#include <string_view>

#include "whence/graph.h"

namespace whence {

// Everything that decides the computation. Checkpoint layouts are translated into this and into the
// weight names of `build_vit`; nothing else about a checkpoint matters afterwards.
struct ViTConfig {
  int64_t image_height = 224, image_width = 224;
  int64_t patch = 16, channels = 3;
  int64_t width = 768, depth = 12, heads = 12, mlp = 3072, classes = 1000;
  real norm_epsilon = real(1e-6);
  std::string_view activation = "gelu";  // a function's name, see `unary` of ops.h
  enum class Pooling : uint8_t { token, mean } pooling = Pooling::token;  // what the head reads
  bool class_token = true;
  bool distilled = false;  // a second token and head; logits are the mean of both heads
  int64_t registers = 0;   // extra tokens after the class token
  bool position_skips_prefix =
      false;  // position embedding for patches only, added before the class token
  bool patch_bias = true, qkv_bias = true;
  bool pre_norm = false;     // layer norm between embedding and the first block
  bool layer_scale = false;  // x += scale * f(norm(x))
  std::string_view block;    // how a block joins its branches: a word of blocks.h

  int64_t grid_height() const { return image_height / patch; }
  int64_t grid_width() const { return image_width / patch; }
  int64_t prefix_tokens() const { return (class_token ? 1 : 0) + (distilled ? 1 : 0) + registers; }
  int64_t tokens() const { return prefix_tokens() + grid_height() * grid_width(); }
  bool operator==(const ViTConfig&) const = default;
};

// Weight names (W = width, P = patch, C = channels, M = mlp, K = classes):
//   embed.patch.weight [W, C*P*P]  embed.patch.bias [W]   embed.cls [1,1,W]  embed.dist [1,1,W]
//   embed.registers [1,R,W]        embed.pos [1,T,W]      norm_pre.{weight,bias} [W]
//   blocks.I.norm1.{weight,bias}   blocks.I.attn.{q,k,v,proj}.{weight [W,W], bias [W]}
//   blocks.I.scale1 [W]            blocks.I.norm2.{weight,bias}
//   blocks.I.mlp.fc1.{weight [M,W], bias [M]}  blocks.I.mlp.fc2.{weight [W,M], bias [W]}
//   blocks.I.scale2 [W] norm.{weight,bias} [W]         head.{weight [K,W], bias [K]}
//   head_dist.{weight,bias}
// T counts the prefix tokens unless position_skips_prefix. With mean pooling `norm` follows the
// mean.
//
// Places that can be read, differentiated and written: image [B,C,H,W], embed.patches [B,G,W],
// embed.out [B,S,W], blocks.I.{norm1, attn.q, attn.k, attn.v, attn.context, attn.out, mid, norm2,
// mlp.hidden, mlp.out, out}, norm, logits [B,K]; of every attention also blocks.I.attn.{probs
// [B,H,S,S], probs_mean [B,S,S]}.
Value build_vit(Graph& graph, const ViTConfig& config, int64_t batch);  // returns the logits

}  // namespace whence
