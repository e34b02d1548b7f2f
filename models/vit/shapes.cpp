// The sizes of vision transformers that the shapes of a checkpoint show.
#include <cmath>

#include "models/shape_reader.h"
#include "models/vit/layouts.h"
#include "runtime/check.h"

namespace whence {
namespace {

constexpr int64_t max_registers = 65536;

int64_t root_of_square(int64_t n) {
  constexpr int64_t most = int64_t(1) << 40;  // far beyond any image, and exact in double
  if (n < 1 || n > most) return 0;
  const int64_t root = std::lround(std::sqrt(double(n)));
  return root * root == n ? root : 0;
}

}  // namespace

ViTConfig vit_config_of_shapes(const Checkpoint& checkpoint, const ViTLayout& layout) {
  ViTConfig c;
  // Names do not depend on sizes; of the variants the second head must be known first.
  c.distilled = layout.names == ViTNames::timm
                    ? checkpoint.find("dist_token") && checkpoint.find("head_dist.weight")
                    : checkpoint.find("distillation_classifier.weight") != nullptr;
  if (layout.names == ViTNames::timm && checkpoint.find("fc_norm.weight") &&
      !checkpoint.find("norm.weight"))
    c.pooling = ViTConfig::Pooling::mean;
  const NameMap map = vit_name_map(layout, c, "");
  const ShapeReader r(checkpoint, map);

  const auto& patch = r.shape("embed.patch.weight", 4);
  c.width = patch[0], c.channels = patch[1], c.patch = patch[3];
  if (patch[2] != patch[3])
    fail(ErrorCode::unsupported, "{}: patches of {} x {} pixels; only square ones are supported",
         checkpoint.name(), patch[2], patch[3]);
  c.patch_bias = r.has("embed.patch.bias");
  c.depth = r.count("blocks.{i}.");
  c.mlp = r.shape("blocks.0.mlp.fc1.weight", 2)[0];
  c.classes = r.shape("head.weight", 2)[0];
  c.class_token = r.has("embed.cls");
  if (r.has("embed.registers")) c.registers = r.shape("embed.registers", 3)[1];
  if (c.registers > max_registers)
    fail(ErrorCode::limit, "{}: {} registers, the limit is {}", checkpoint.name(), c.registers,
         max_registers);
  c.qkv_bias = false;
  for (int64_t i = 0; i < c.depth; ++i)  // one is enough: the others are then required
    for (const char* part : {"q", "k", "v"})
      c.qkv_bias = c.qkv_bias || r.has(fmt::format("blocks.{}.attn.{}.bias", i, part));
  c.pre_norm = r.has("norm_pre.weight");
  c.layer_scale = r.has("blocks.0.scale1");

  const int64_t positions = r.shape("embed.pos", 3)[1];
  int64_t side = root_of_square(positions - c.prefix_tokens());
  if (side == 0) {
    side = root_of_square(positions);
    c.position_skips_prefix = side > 0 && c.prefix_tokens() > 0;
  }
  constexpr int64_t largest = int64_t(1) << 20;  // keeps side * patch far from overflow
  c.image_height = c.image_width = side < largest && c.patch < largest ? side * c.patch : 0;
  return c;
}

}  // namespace whence
