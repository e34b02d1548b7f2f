#include "models/vit/config.h"

#include <algorithm>
#include <cmath>

#include "models/activations.h"
#include "models/companions.h"
#include "models/vit/blocks.h"
#include "runtime/check.h"

namespace whence {
namespace {

constexpr int64_t max_side = 16384, max_patch = 4096, max_channels = 1024, max_width = 65536;
constexpr int64_t max_mlp = 1 << 20, max_depth = 1000, max_heads = 65536, max_classes = 1'000'000;
constexpr int64_t max_registers = 65536;

using Pooling = ViTConfig::Pooling;

template <class... A>
[[noreturn]] void unsupported(fmt::format_string<A...> text, A&&... a) {
  fail(ErrorCode::unsupported, text, std::forward<A>(a)...);
}

void read_image_and_patch(const JsonObject& config, const char* image_key, ViTFacts& facts) {
  if (const auto image = stated_sides(config, image_key, max_side)) {
    facts.image_height = image->height;
    facts.image_width = image->width;
  }
  if (const auto patch = stated_sides(config, "patch_size", max_patch)) {
    if (patch->height != patch->width)
      unsupported("{}: '{}' is {} x {}; only square patches are supported", config.file(),
                  config.name("patch_size"), patch->height, patch->width);
    facts.patch = patch->height;
  }
}

// global_pool of timm; nothing for a model without a head, whose missing head is reported later.
std::optional<Pooling> timm_pooling(const JsonObject& config) {
  const auto pool = config.text("global_pool");
  if (!pool || pool->empty()) return {};
  if (*pool == "token") return Pooling::token;
  if (*pool == "avg") return Pooling::mean;
  unsupported("{}: {} '{}' is not supported (token, avg)", config.file(),
              config.name("global_pool"), printable(*pool));
}

// Arguments that do not change what a trained model computes, or that its tensors show.
bool is_harmless_argument(std::string_view key) {
  constexpr std::string_view harmless[] = {
      "drop_rate",       "pos_drop_rate", "patch_drop_rate",  "proj_drop_rate", "attn_drop_rate",
      "drop_path_rate",  "weight_init",   "dynamic_img_size", "fix_init",       "init_values",
      "qkv_bias",        "class_token",   "pre_norm",         "fc_norm",        "num_classes",
      "strict_img_size", "reg_tokens",    "img_size",         "patch_size",     "in_chans",
      "embed_dim",       "depth",         "num_heads",        "mlp_ratio",      "global_pool",
      "no_embed_class",  "act_layer",
  };
  return std::find(std::begin(harmless), std::end(harmless), key) != std::end(harmless);
}

void read_model_args(const JsonObject& args, ViTFacts& facts) {
  for (const auto& [key, value] : args.value().items()) {
    const bool off = value.is_null() || (value.is_boolean() && !value.get<bool>());
    if (!off && !is_harmless_argument(key))
      unsupported("{}: '{}' is not supported", args.file(), printable(args.name(key)));
  }
  const auto keep = [](auto& fact, auto value) {
    if (value) fact = value;
  };
  read_image_and_patch(args, "img_size", facts);
  keep(facts.channels, args.integer("in_chans", 1, max_channels));
  keep(facts.width, args.integer("embed_dim", 1, max_width));
  keep(facts.depth, args.integer("depth", 1, max_depth));
  keep(facts.heads, args.integer("num_heads", 1, max_heads));
  keep(facts.mlp_ratio, args.number("mlp_ratio", 1e-3, 1024));
  keep(facts.registers, args.integer("reg_tokens", 0, max_registers));
  keep(facts.classes, args.integer("num_classes", 1, max_classes));
  keep(facts.position_skips_prefix, args.flag("no_embed_class"));
  keep(facts.pooling, timm_pooling(args));
  if (const auto name = args.text("act_layer"))
    facts.activation = activation_of(args, "act_layer", *name);
}

}  // namespace

ViTFacts vit_facts_from_hugging_face(const JsonObject& config) {
  const auto type = config.text("model_type");
  if (type && *type != "vit" && *type != "deit")
    unsupported("{}: model_type '{}' is not supported (vit, deit)", config.file(),
                printable(*type));
  ViTFacts facts;
  facts.source = "config.json";
  read_image_and_patch(config, "image_size", facts);
  facts.channels = config.integer("num_channels", 1, max_channels);
  facts.width = config.integer("hidden_size", 1, max_width);
  facts.depth = config.integer("num_hidden_layers", 1, max_depth);
  facts.heads = config.integer("num_attention_heads", 1, max_heads);
  facts.mlp = config.integer("intermediate_size", 1, max_mlp);
  // Open at both ends.
  facts.norm_epsilon = config.number("layer_norm_eps", 1e-30, 1 - 1e-9).value_or(1e-12);
  facts.activation =
      activation_of(config, "hidden_act", config.text("hidden_act").value_or("gelu"));
  facts.classes = stated_classes(config);
  return facts;
}

ViTFacts vit_facts_from_timm(const JsonObject& config) {
  const std::string name = config.text("architecture").value_or("");
  ViTFacts facts;
  try {
    facts = vit_facts_from_name(name);
  } catch (const Error& e) {
    fail(e.code() == ErrorCode::usage ? ErrorCode::unsupported : e.code(), "{}: {}", config.file(),
         e.what());
  }
  facts.source = "config.json";
  if (const auto size = timm_input_size(config)) {
    facts.channels = (*size)[0];
    facts.image_height = (*size)[1];
    facts.image_width = (*size)[2];
  }
  if (const auto classes = config.integer("num_classes", 0, max_classes); classes && *classes > 0)
    facts.classes = classes;
  if (const auto pool = timm_pooling(config)) facts.pooling = pool;
  if (const auto args = config.object("model_args")) read_model_args(*args, facts);
  if (facts.mlp_ratio && facts.width) facts.mlp = int64_t(double(*facts.width) * *facts.mlp_ratio);
  return facts;
}

ViTFacts vit_facts_from_config(const JsonObject& config) {
  return config.has("architecture") ? vit_facts_from_timm(config)
                                    : vit_facts_from_hugging_face(config);
}

void check_vit_config(const ViTConfig& c, const std::string& where) {
  const auto range = [&](const char* name, int64_t value, int64_t low, int64_t high) {
    if (value < low || value > high)
      fail(ErrorCode::limit, "{}: {} is {}, it must lie between {} and {}", where, name, value, low,
           high);
  };
  range("patch size", c.patch, 1, max_patch);
  range("image height", c.image_height, 1, max_side);
  range("image width", c.image_width, 1, max_side);
  range("number of channels", c.channels, 1, max_channels);
  range("width", c.width, 1, max_width);
  range("depth", c.depth, 1, max_depth);
  range("number of heads", c.heads, 1, max_heads);
  range("mlp width", c.mlp, 1, max_mlp);
  range("number of classes", c.classes, 1, max_classes);
  range("number of registers", c.registers, 0, max_registers);
  if (c.width % c.heads != 0)
    fail(ErrorCode::format, "{}: {} heads do not divide the width {}", where, c.heads, c.width);
  if (c.image_height % c.patch != 0 || c.image_width % c.patch != 0)
    fail(ErrorCode::format, "{}: patches of {} pixels do not divide the image of {} x {}", where,
         c.patch, c.image_height, c.image_width);
  if (!(c.norm_epsilon > 0 && c.norm_epsilon < 1))
    fail(ErrorCode::format, "{}: epsilon {} does not lie between 0 and 1", where,
         double(c.norm_epsilon));
  if (c.pooling == Pooling::token && !c.class_token)
    unsupported(
        "{}: no class token, and no norm after a mean (fc_norm): what the head reads is not "
        "known",
        where);
  if (c.pooling == Pooling::mean && c.distilled)
    unsupported("{}: a distillation token with mean pooling is not supported", where);
  if (!find_vit_block(c.block))
    unsupported("{}: blocks '{}' are not known", where, printable(c.block));
  // Of the matrices and embeddings; what else there is, is small beside them. Within the ranges no
  // sum overflows.
  const int64_t parameters = c.width * (c.channels * c.patch * c.patch + c.tokens() + c.classes) +
                             c.depth * (4 * c.width * c.width + 2 * c.width * c.mlp);
  constexpr int64_t most = int64_t(1) << 40;
  if (parameters > most)
    fail(ErrorCode::limit, "a vision transformer of these sizes has more than {} parameters", most);
}

}  // namespace whence
