// The names and shapes that each layout gives to the tensors of a vision transformer.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include "models/vit/layouts.h"
#include "tests/checkpoints/checkpoints.h"

namespace whence {
namespace {

const ViTLayout timm{ViTNames::timm, ""};
const ViTLayout hf_v4{ViTNames::hf_v4, "vit."};
const ViTLayout deit_v5{ViTNames::hf_v5, "deit."};
const ViTLayout torchvision{ViTNames::torchvision, ""};

// Sizes that no two dimensions share.
ViTConfig tiny() {
  ViTConfig c;
  c.image_height = c.image_width = 12;
  c.patch = 4, c.channels = 3, c.width = 10, c.depth = 2, c.heads = 5, c.mlp = 14, c.classes = 7;
  return c;
}

std::vector<std::string> stored_names(const ViTConfig& c, const ViTLayout& layout) {
  std::vector<std::string> names;
  for (const OutputTensor& t : vit_checkpoint_tensors(c, random_vit_weights(c, 1), layout))
    names.push_back(t.name + " " + shape_text(t.shape));
  return names;
}

TEST(ViTNames, the_names_of_timm) {
  ViTConfig c = tiny();
  c.depth = 1;
  EXPECT_EQ(stored_names(c, timm),
            (std::vector<std::string>{"blocks.0.attn.proj.bias [10]",
                                      "blocks.0.attn.proj.weight [10, 10]",
                                      "blocks.0.attn.qkv.bias [30]",
                                      "blocks.0.attn.qkv.weight [30, 10]",
                                      "blocks.0.mlp.fc1.bias [14]",
                                      "blocks.0.mlp.fc1.weight [14, 10]",
                                      "blocks.0.mlp.fc2.bias [10]",
                                      "blocks.0.mlp.fc2.weight [10, 14]",
                                      "blocks.0.norm1.bias [10]",
                                      "blocks.0.norm1.weight [10]",
                                      "blocks.0.norm2.bias [10]",
                                      "blocks.0.norm2.weight [10]",
                                      "cls_token [1, 1, 10]",
                                      "head.bias [7]",
                                      "head.weight [7, 10]",
                                      "norm.bias [10]",
                                      "norm.weight [10]",
                                      "patch_embed.proj.bias [10]",
                                      "patch_embed.proj.weight [10, 3, 4, 4]",
                                      "pos_embed [1, 10, 10]"}));
}

TEST(ViTNames, the_names_of_torchvision) {
  ViTConfig c = tiny();
  c.depth = 1;
  const std::string in = "encoder.layers.encoder_layer_0.";
  EXPECT_EQ(stored_names(c, torchvision),
            (std::vector<std::string>{"class_token [1, 1, 10]",
                                      "conv_proj.bias [10]",
                                      "conv_proj.weight [10, 3, 4, 4]",
                                      in + "ln_1.bias [10]",
                                      in + "ln_1.weight [10]",
                                      in + "ln_2.bias [10]",
                                      in + "ln_2.weight [10]",
                                      in + "mlp.0.bias [14]",
                                      in + "mlp.0.weight [14, 10]",
                                      in + "mlp.3.bias [10]",
                                      in + "mlp.3.weight [10, 14]",
                                      in + "self_attention.in_proj_bias [30]",
                                      in + "self_attention.in_proj_weight [30, 10]",
                                      in + "self_attention.out_proj.bias [10]",
                                      in + "self_attention.out_proj.weight [10, 10]",
                                      "encoder.ln.bias [10]",
                                      "encoder.ln.weight [10]",
                                      "encoder.pos_embedding [1, 10, 10]",
                                      "heads.head.bias [7]",
                                      "heads.head.weight [7, 10]"}));
}

TEST(ViTNames, the_names_of_hugging_face) {
  ViTConfig c = tiny();
  c.depth = 1;
  const std::string in = "vit.encoder.layer.0.", e = "vit.embeddings.";
  EXPECT_EQ(stored_names(c, hf_v4),
            (std::vector<std::string>{"classifier.bias [7]",
                                      "classifier.weight [7, 10]",
                                      e + "cls_token [1, 1, 10]",
                                      e + "patch_embeddings.projection.bias [10]",
                                      e + "patch_embeddings.projection.weight [10, 3, 4, 4]",
                                      e + "position_embeddings [1, 10, 10]",
                                      in + "attention.attention.key.bias [10]",
                                      in + "attention.attention.key.weight [10, 10]",
                                      in + "attention.attention.query.bias [10]",
                                      in + "attention.attention.query.weight [10, 10]",
                                      in + "attention.attention.value.bias [10]",
                                      in + "attention.attention.value.weight [10, 10]",
                                      in + "attention.output.dense.bias [10]",
                                      in + "attention.output.dense.weight [10, 10]",
                                      in + "intermediate.dense.bias [14]",
                                      in + "intermediate.dense.weight [14, 10]",
                                      in + "layernorm_after.bias [10]",
                                      in + "layernorm_after.weight [10]",
                                      in + "layernorm_before.bias [10]",
                                      in + "layernorm_before.weight [10]",
                                      in + "output.dense.bias [10]",
                                      in + "output.dense.weight [10, 14]",
                                      "vit.layernorm.bias [10]",
                                      "vit.layernorm.weight [10]"}));
  const std::string five = "deit.layers.0.";
  c.distilled = true;
  EXPECT_EQ(
      stored_names(c, deit_v5),
      (std::vector<std::string>{"cls_classifier.bias [7]",
                                "cls_classifier.weight [7, 10]",
                                "deit.embeddings.cls_token [1, 1, 10]",
                                "deit.embeddings.distillation_token [1, 1, 10]",
                                "deit.embeddings.patch_embeddings.projection.bias [10]",
                                "deit.embeddings.patch_embeddings.projection.weight [10, 3, 4, 4]",
                                "deit.embeddings.position_embeddings [1, 11, 10]",
                                "deit.layernorm.bias [10]",
                                "deit.layernorm.weight [10]",
                                five + "attention.k_proj.bias [10]",
                                five + "attention.k_proj.weight [10, 10]",
                                five + "attention.o_proj.bias [10]",
                                five + "attention.o_proj.weight [10, 10]",
                                five + "attention.q_proj.bias [10]",
                                five + "attention.q_proj.weight [10, 10]",
                                five + "attention.v_proj.bias [10]",
                                five + "attention.v_proj.weight [10, 10]",
                                five + "layernorm_after.bias [10]",
                                five + "layernorm_after.weight [10]",
                                five + "layernorm_before.bias [10]",
                                five + "layernorm_before.weight [10]",
                                five + "mlp.fc1.bias [14]",
                                five + "mlp.fc1.weight [14, 10]",
                                five + "mlp.fc2.bias [10]",
                                five + "mlp.fc2.weight [10, 14]",
                                "distillation_classifier.bias [7]",
                                "distillation_classifier.weight [7, 10]"}));
}

TEST(ViTNames, fused_rows_are_query_then_key_then_value) {
  ViTConfig c = tiny();
  const Weights w = random_vit_weights(c, 3);
  for (const ViTLayout& layout : {timm, torchvision})
    for (const OutputTensor& t : vit_checkpoint_tensors(c, w, layout)) {
      const bool fused = t.name == "blocks.1.attn.qkv.weight" ||
                         t.name == "encoder.layers.encoder_layer_1.self_attention.in_proj_weight";
      if (!fused) continue;
      std::vector<real> values(300);
      Narrowing lost;
      to_reals(t.dtype, t.bytes, values, lost);
      for (int row = 0; row < 30; ++row)
        for (int i = 0; i < 10; ++i) {
          const std::string name = fmt::format("blocks.1.attn.{}.weight", "qkv"[row / 10]);
          ASSERT_EQ(values[size_t(row * 10 + i)],
                    w.tensors.at(name).reals()[size_t(row % 10 * 10 + i)]);
        }
    }
}

}  // namespace
}  // namespace whence
