// The name maps of ViT and DeiT checkpoints.
#include <fmt/core.h>

#include "models/map_writer.h"
#include "models/vit/layouts.h"

namespace whence {
namespace {

// The convolution over patches is a product with its kernel, flattened.
void patch_layer(MapWriter& m, const std::string& pattern, const ViTConfig& c) {
  m.rule({.pattern = pattern + ".weight",
          .canonical = "embed.patch.weight",
          .stored = Shape{c.width, c.channels, c.patch, c.patch}});
  m.tensor(pattern + ".bias", "embed.patch.bias");
}

// One matrix whose rows are those of the query, then the key, then the value.
void fused_layers(MapWriter& m, const std::string& weight, const std::string& bias) {
  for (int part = 0; part < 3; ++part) {
    const std::string canonical = std::string("blocks.{i}.attn.") + "qkv"[part];
    m.rule({.pattern = weight, .canonical = canonical + ".weight", .part = part, .parts = 3});
    m.rule({.pattern = bias, .canonical = canonical + ".bias", .part = part, .parts = 3});
  }
}

void timm_names(NameMap& map, const ViTConfig& config) {
  MapWriter m(map);
  m.tensor("cls_token", "embed.cls");
  m.tensor("dist_token", "embed.dist");
  m.tensor("reg_token", "embed.registers");
  m.tensor("pos_embed", "embed.pos");
  patch_layer(m, "patch_embed.proj", config);
  m.layer("norm_pre", "norm_pre");
  m.layer("blocks.{i}.norm1", "blocks.{i}.norm1");
  fused_layers(m, "blocks.{i}.attn.qkv.weight", "blocks.{i}.attn.qkv.bias");
  m.layer("blocks.{i}.attn.proj", "blocks.{i}.attn.proj");
  m.tensor("blocks.{i}.ls1.gamma", "blocks.{i}.scale1");
  m.tensor("blocks.{i}.gamma_1", "blocks.{i}.scale1");  // the original DeiT-III files
  m.layer("blocks.{i}.norm2", "blocks.{i}.norm2");
  m.layer("blocks.{i}.mlp.fc1", "blocks.{i}.mlp.fc1");
  m.layer("blocks.{i}.mlp.fc2", "blocks.{i}.mlp.fc2");
  m.tensor("blocks.{i}.ls2.gamma", "blocks.{i}.scale2");
  m.tensor("blocks.{i}.gamma_2", "blocks.{i}.scale2");
  // The last norm is called fc_norm where it follows the pooling. For a pooled token the order does
  // not matter; for the mean it does.
  if (config.pooling == ViTConfig::Pooling::token) m.layer("norm", "norm");
  m.layer("fc_norm", "norm");
  m.layer("head", "head");
  m.layer("head_dist", "head_dist");
  m.skip("mask_token", "used only in training");
  map.layers = {"blocks.", "patch_embed.", "norm.", "norm_pre.", "fc_norm.", "head.", "head_dist.",
                "cls_token", "dist_token", "reg_token", "register_tokens", "pos_embed",
                // layers of relatives of ViT that change what it computes
                "attn_pool.", "rope", "rel_pos_bias.", "pre_logits.", "cls_embed", "pos_embed_"};
}

void hugging_face_names(NameMap& map, const ViTConfig& config, const std::string& prefix, bool v5) {
  MapWriter m(map);
  const std::string in = prefix + "embeddings.";
  const std::string layer = prefix + (v5 ? "layers.{i}." : "encoder.layer.{i}.");
  m.tensor(in + "cls_token", "embed.cls");
  // A DeiT classifier without a teacher's head has the token, and reads only the class token.
  if (prefix == "deit.")
    m.tensor(in + "distillation_token", config.distilled ? "embed.dist" : "embed.registers");
  m.tensor(in + "position_embeddings", "embed.pos");
  patch_layer(m, in + "patch_embeddings.projection", config);
  m.layer(layer + "layernorm_before", "blocks.{i}.norm1");
  m.layer(layer + (v5 ? "attention.q_proj" : "attention.attention.query"), "blocks.{i}.attn.q");
  m.layer(layer + (v5 ? "attention.k_proj" : "attention.attention.key"), "blocks.{i}.attn.k");
  m.layer(layer + (v5 ? "attention.v_proj" : "attention.attention.value"), "blocks.{i}.attn.v");
  m.layer(layer + (v5 ? "attention.o_proj" : "attention.output.dense"), "blocks.{i}.attn.proj");
  m.layer(layer + "layernorm_after", "blocks.{i}.norm2");
  m.layer(layer + (v5 ? "mlp.fc1" : "intermediate.dense"), "blocks.{i}.mlp.fc1");
  m.layer(layer + (v5 ? "mlp.fc2" : "output.dense"), "blocks.{i}.mlp.fc2");
  m.layer(prefix + "layernorm", "norm");
  if (config.distilled) {
    m.layer("cls_classifier", "head");
    m.layer("distillation_classifier", "head_dist");
  } else {
    m.layer("classifier", "head");
  }
  m.skip(prefix + "pooler.{rest}", "the classifier does not read the pooler");
  m.skip(in + "mask_token", "used only in training");
  m.skip("{rest}.position_ids", "a buffer");
  map.layers = {prefix, "classifier.", "cls_classifier.", "distillation_classifier."};
}

void torchvision_names(NameMap& map, const ViTConfig& config) {
  MapWriter m(map);
  const std::string layer = "encoder.layers.encoder_layer_{i}.";
  m.tensor("class_token", "embed.cls");
  m.tensor("encoder.pos_embedding", "embed.pos");
  patch_layer(m, "conv_proj", config);
  m.layer(layer + "ln_1", "blocks.{i}.norm1");
  fused_layers(m, layer + "self_attention.in_proj_weight", layer + "self_attention.in_proj_bias");
  m.layer(layer + "self_attention.out_proj", "blocks.{i}.attn.proj");
  m.layer(layer + "ln_2", "blocks.{i}.norm2");
  m.layer(layer + "mlp.0", "blocks.{i}.mlp.fc1");
  m.layer(layer + "mlp.3", "blocks.{i}.mlp.fc2");
  m.layer(layer + "mlp.linear_1", "blocks.{i}.mlp.fc1");  // older files
  m.layer(layer + "mlp.linear_2", "blocks.{i}.mlp.fc2");
  m.layer("encoder.ln", "norm");
  m.layer("heads.head", "head");
  map.layers = {"encoder.", "conv_proj.", "class_token", "heads."};
}

}  // namespace

std::string describe(const ViTLayout& layout) {
  const char* model = layout.prefix == "deit." ? "DeiT" : "ViT";
  switch (layout.names) {
    case ViTNames::timm:
      return "timm ViT";
    case ViTNames::hf_v4:
      return fmt::format("Hugging Face {}, version 4 names", model);
    case ViTNames::hf_v5:
      return fmt::format("Hugging Face {}, version 5 names", model);
    case ViTNames::torchvision:
      return "torchvision ViT";
  }
  return "ViT";
}

NameMap vit_name_map(const ViTLayout& layout, const ViTConfig& config, std::string source) {
  NameMap map;
  map.source = std::move(source);
  switch (layout.names) {
    case ViTNames::timm:
      timm_names(map, config);
      break;
    case ViTNames::hf_v4:
      hugging_face_names(map, config, layout.prefix, false);
      break;
    case ViTNames::hf_v5:
      hugging_face_names(map, config, layout.prefix, true);
      break;
    case ViTNames::torchvision:
      torchvision_names(map, config);
      break;
  }
  map.rules.push_back(
      {.pattern = "{rest}.num_batches_tracked", .canonical = "", .skip = "a buffer"});
  return map;
}

}  // namespace whence
