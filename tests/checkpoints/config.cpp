// config.json and preprocessor_config.json in the conventions of the layouts.
#include <algorithm>
#include <charconv>

#include "io/json.h"
#include "models/activations.h"
#include "runtime/check.h"
#include "tests/checkpoints/checkpoints.h"

namespace whence {
namespace {

// timm calls this one as whence does.
std::string_view activation_name(std::string_view function, bool timm) {
  if (timm && function == "gelu_tanh") return function;
  const auto row = std::ranges::find(activation_names(), function, &ActivationName::function);
  return row->stated;
}

int filter_number(Resample filter) {
  switch (filter) {
    case Resample::nearest:
      return 0;
    case Resample::lanczos:
      return 1;
    case Resample::bilinear:
      return 2;
    case Resample::bicubic:
      return 3;
    case Resample::box:
      return 4;
    case Resample::hamming:
      return 5;
  }
  return 3;
}

// The shortest decimal that gives this real again, as a double.
double decimal(real value) {
  const std::string text = fmt::format("{}", value);
  double result = 0;
  std::from_chars(text.data(), text.data() + text.size(), result);
  return result;
}

// A ratio r with floor(whole * r) == part, whatever the rounding.
double ratio(int64_t part, int64_t whole) {
  const double plain = double(part) / double(whole);
  return int64_t(double(whole) * plain) == part ? plain : (double(part) + 0.5) / double(whole);
}

Json pretrained(const ViTConfig& c, const WriteOptions& options) {
  Json cfg{{"input_size", {c.channels, c.image_height, c.image_width}}};
  if (!options.preprocess) {
    // The default crop is defined for square inputs only.
    if (c.image_height != c.image_width) cfg["crop_mode"] = "squash";
    return cfg;
  }
  const Preprocess& p = *options.preprocess;
  if (p.fit == Preprocess::Fit::none)
    fail_usage("timm's configuration cannot state preprocessing without a resize");
  if (p.crop && p.crop_rounding != Preprocess::CropRounding::half_even)
    fail_usage("timm's configuration cannot state a crop that rounds down");
  const int size = p.crop ? p.crop_height : p.resize_height;
  // floor(size / crop_pct) is the resized side; half a pixel more keeps rounding out of it.
  cfg["crop_pct"] = size == p.resize_height ? 1.0 : double(size) / (p.resize_height + 0.5);
  cfg["crop_mode"] = p.fit == Preprocess::Fit::exact ? "squash" : "center";
  cfg["interpolation"] = name_of(p.filter);
  cfg["mean"] = p.mean;
  cfg["std"] = p.std;
  return cfg;
}

Json timm_json(const ViTConfig& c, const WriteOptions& options) {
  const double epsilon = decimal(c.norm_epsilon);
  if (epsilon != 1e-6 && epsilon != 1e-5)
    fail_usage("timm's configuration cannot state a norm epsilon of {} (1e-6, 1e-5)", epsilon);
  Json args{{"img_size", {c.image_height, c.image_width}},
            {"patch_size", c.patch},
            {"in_chans", c.channels},
            {"embed_dim", c.width},
            {"depth", c.depth},
            {"num_heads", c.heads},
            {"mlp_ratio", ratio(c.mlp, c.width)},
            {"qkv_bias", c.qkv_bias},
            {"class_token", c.class_token},
            {"no_embed_class", c.position_skips_prefix},
            {"pre_norm", c.pre_norm},
            {"reg_tokens", c.registers},
            {"act_layer", activation_name(c.activation, true)}};
  // The name's own sizes do not count: model_args states them all.
  Json config{
      {"architecture", epsilon == 1e-5 ? "vit_tiny_patch16_clip_224" : "vit_tiny_patch16_224"},
      {"num_classes", c.classes},
      {"num_features", c.width},
      {"global_pool", c.pooling == ViTConfig::Pooling::mean ? "avg" : "token"},
      {"model_args", args},
      {"pretrained_cfg", pretrained(c, options)}};
  if (!options.labels.empty()) config["label_names"] = options.labels;
  return config;
}

Json hugging_face_json(const ViTConfig& c, const ViTLayout& layout, const WriteOptions& options) {
  const bool deit = layout.prefix == "deit.";
  const char* task = !deit         ? "ViTForImageClassification"
                     : c.distilled ? "DeiTForImageClassificationWithTeacher"
                                   : "DeiTForImageClassification";
  Json config{{"architectures", {task}},
              {"model_type", deit ? "deit" : "vit"},
              {"image_size", {c.image_height, c.image_width}},
              {"patch_size", c.patch},
              {"num_channels", c.channels},
              {"hidden_size", c.width},
              {"num_hidden_layers", c.depth},
              {"num_attention_heads", c.heads},
              {"intermediate_size", c.mlp},
              {"hidden_act", activation_name(c.activation, false)},
              {"layer_norm_eps", decimal(c.norm_epsilon)},
              {"qkv_bias", c.qkv_bias},
              {"num_labels", c.classes}};
  if (c.image_height == c.image_width) config["image_size"] = c.image_height;
  for (size_t i = 0; i < options.labels.size(); ++i)
    config["id2label"][std::to_string(i)] = options.labels[i];
  return config;
}

void add_sizes(const CnnSizes& c, const WriteOptions& options, Json& config) {
  config["image_size"] = {c.image_height, c.image_width};
  config["num_channels"] = c.channels;
  config["num_labels"] = c.classes;
  for (size_t i = 0; i < options.labels.size(); ++i)
    config["id2label"][std::to_string(i)] = options.labels[i];
}

void add_resnet(const ResNetConfig& c, Json& config) {
  config["architectures"] = {"ResNetForImageClassification"};
  config["model_type"] = "resnet";
  config["embedding_size"] = c.stem;
  config["layer_type"] = c.bottleneck ? "bottleneck" : "basic";
  config["hidden_act"] = "relu";
  for (const auto& layer : c.layers) {
    config["depths"].push_back(layer.blocks);
    config["hidden_sizes"].push_back(layer.outer);
    if (layer.outer != layer.inner * (c.bottleneck ? 4 : 1) || c.groups != 1)
      fail_usage("Hugging Face's configuration cannot state wide or grouped bottlenecks");
  }
  config["downsample_in_first_stage"] = c.layers[0].stride == 2;
  config["downsample_in_bottleneck"] = c.stride_in_first;
}

void check_labels(const WriteOptions& options, int64_t classes) {
  if (!options.labels.empty() && int64_t(options.labels.size()) != classes)
    fail_usage("{} labels given, the model has {} classes", options.labels.size(), classes);
}

}  // namespace

Json cnn_config_json(const CnnConfig& config, CnnLayout layout, const WriteOptions& options) {
  check_labels(options, sizes_of(config).classes);
  Json json = Json::object();
  add_sizes(sizes_of(config), options, json);
  if (layout == CnnLayout::resnet_hub) add_resnet(std::get<ResNetConfig>(config), json);
  return json;
}

Json vit_config_json(const ViTConfig& config, const ViTLayout& layout,
                     const WriteOptions& options) {
  check_labels(options, config.classes);
  return layout.names == ViTNames::timm ? timm_json(config, options)
                                        : hugging_face_json(config, layout, options);
}

Json preprocess_json(const Preprocess& p) {
  if (p.crop && p.crop_rounding != Preprocess::CropRounding::floor)
    fail_usage("preprocessor_config.json cannot state a crop that rounds half to even");
  const bool short_side = p.fit == Preprocess::Fit::short_side;
  Json config{{"image_processor_type", short_side ? "CLIPImageProcessor"
                                       : p.crop   ? "DeiTImageProcessor"
                                                  : "ViTImageProcessor"},
              {"do_resize", p.fit != Preprocess::Fit::none},
              {"do_center_crop", p.crop},
              {"resample", filter_number(p.filter)},
              {"do_rescale", true},
              {"rescale_factor", 1.0 / 255.0},
              {"do_normalize", true},
              {"image_mean", p.mean},
              {"image_std", p.std}};
  if (short_side)
    config["size"]["shortest_edge"] = p.resize_height;
  else
    config["size"] = {{"height", p.resize_height}, {"width", p.resize_width}};
  if (p.crop) config["crop_size"] = {{"height", p.crop_height}, {"width", p.crop_width}};
  return config;
}

}  // namespace whence
