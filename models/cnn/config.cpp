#include "models/cnn/config.h"

#include <algorithm>

#include "models/companions.h"
#include "runtime/check.h"

namespace whence {
namespace {

constexpr int64_t max_side = 16384, max_channels = 1024, max_width = 65536, max_depth = 1000;
constexpr int64_t max_classes = 1'000'000, max_expansion = 64;

template <class... A>
[[noreturn]] void unsupported(fmt::format_string<A...> text, A&&... a) {
  fail(ErrorCode::unsupported, text, std::forward<A>(a)...);
}

std::optional<std::array<int64_t, 4>> four(const JsonObject& config, const char* key,
                                           int64_t most) {
  const Json* v = config.find(key);
  if (!v) return {};
  if (!v->is_array() || v->size() != 4)
    unsupported("{}: '{}' must be a list of 4 numbers, one for each layer", config.file(),
                config.name(key));
  std::array<int64_t, 4> numbers;
  for (size_t i = 0; i < 4; ++i)
    numbers[i] = json_integer((*v)[i], config.file(), config.name(key), 1, most);
  return numbers;
}

CnnFacts::ResNet hub_resnet(const JsonObject& config) {
  CnnFacts::ResNet r;
  r.stem = config.integer("embedding_size", 1, max_width);
  if (const auto type = config.text("layer_type")) {
    if (*type != "basic" && *type != "bottleneck")
      unsupported("{}: layer_type '{}' is not supported (basic, bottleneck)", config.file(),
                  printable(*type));
    r.bottleneck = *type == "bottleneck";
  }
  if (const auto name = config.text("hidden_act"); name && *name != "relu")
    unsupported("{}: hidden_act '{}' is not supported (relu)", config.file(), printable(*name));
  r.depths = four(config, "depths", max_depth);
  r.outer = four(config, "hidden_sizes", max_width);
  r.stride_in_first = config.flag("downsample_in_bottleneck");
  r.stride_in_layer1 = config.flag("downsample_in_first_stage").value_or(false);
  return r;
}

CnnFacts facts_from_hub(const JsonObject& config) {
  const auto type = config.text("model_type");
  if (type && *type != "resnet")
    unsupported("{}: model_type '{}' is not supported (resnet)", config.file(), printable(*type));
  CnnFacts facts;
  if (const auto size = stated_sides(config, "image_size", max_side)) {
    facts.image_height = size->height;
    facts.image_width = size->width;
  }
  facts.channels = config.integer("num_channels", 1, max_channels);
  facts.classes = stated_classes(config);
  if (type) facts.resnet = hub_resnet(config);
  return facts;
}

// Arguments that do not change what a trained model computes, or that its tensors show.
void check_model_args(const JsonObject& args) {
  constexpr std::string_view harmless[] = {"num_classes",    "in_chans",        "drop_rate",
                                           "drop_path_rate", "drop_block_rate", "zero_init_last"};
  for (const auto& [key, value] : args.value().items()) {
    const bool off = value.is_null() || (value.is_boolean() && !value.get<bool>());
    const bool pool = key == "global_pool" && value == "avg";
    if (!off && !pool &&
        std::find(std::begin(harmless), std::end(harmless), key) == std::end(harmless))
      unsupported("{}: '{}' is not supported", args.file(), printable(args.name(key)));
  }
}

CnnFacts facts_from_timm(const JsonObject& config) {
  CnnFacts facts;
  try {
    facts.named = cnn_config_of_name(config.text("architecture").value_or(""));
  } catch (const Error& e) {
    unsupported("{}: {}", config.file(), e.what());
  }
  if (const auto size = timm_input_size(config)) {
    facts.channels = (*size)[0];
    facts.image_height = (*size)[1];
    facts.image_width = (*size)[2];
  }
  if (const auto classes = config.integer("num_classes", 0, max_classes); classes && *classes > 0)
    facts.classes = classes;
  if (const auto pool = config.text("global_pool"); pool && !pool->empty() && *pool != "avg")
    unsupported("{}: global_pool '{}' is not supported (avg)", config.file(), printable(*pool));
  if (const auto args = config.object("model_args")) {
    check_model_args(*args);
    if (const auto channels = args->integer("in_chans", 1, max_channels)) facts.channels = channels;
    if (const auto n = args->integer("num_classes", 1, max_classes)) facts.classes = n;
  }
  return facts;
}

void apply(const CnnFacts::ResNet& facts, ResNetConfig& c) {
  c.stem = facts.stem.value_or(c.stem);
  c.bottleneck = facts.bottleneck.value_or(c.bottleneck);
  c.stride_in_first = c.bottleneck && facts.stride_in_first.value_or(false);
  c.layers[0].stride = facts.stride_in_layer1 ? 2 : 1;
  for (size_t l = 0; l < 4; ++l) {
    auto& layer = c.layers[l];
    if (facts.depths) layer.blocks = (*facts.depths)[l];
    if (facts.outer) layer.outer = (*facts.outer)[l];
    if (facts.outer) layer.inner = c.bottleneck ? layer.outer / 4 : layer.outer;
  }
}

void apply(const Checkpoint& checkpoint, CnnLayout layout, const CnnFacts& facts, CnnConfig& c) {
  if (facts.named) {
    if (!can_hold(layout, *facts.named))
      unsupported("{}: {} names another architecture than the tensors, which are those of a {}",
                  checkpoint.name(), facts.source, describe(layout));
    const CnnSizes shown = sizes_of(c);
    c = *facts.named;
    sizes_of(c) = shown;  // a model of that name may have other classes
  }
  if (facts.resnet) {
    if (!std::holds_alternative<ResNetConfig>(c))
      unsupported("{}: {} describes a ResNet, the tensors are those of a {}", checkpoint.name(),
                  facts.source, describe(layout));
    apply(*facts.resnet, std::get<ResNetConfig>(c));
  }
  CnnSizes& sizes = sizes_of(c);
  sizes.channels = facts.channels.value_or(sizes.channels);
  sizes.classes = facts.classes.value_or(sizes.classes);
  sizes.image_height = facts.image_height.value_or(sizes.image_height);
  sizes.image_width = facts.image_width.value_or(sizes.image_width);
}

// Weights and biases of a network whose sizes are in range. A graph only knows shapes, so it may
// be far too large to run.
void check_parameters(const CnnConfig& config) {
  Graph graph;
  build_cnn(graph, config, 1);
  unsigned __int128 sum = 0;
  for (const auto& [name, shape] : graph.weights()) sum += uint64_t(shape.count());
  constexpr uint64_t limit = uint64_t(1) << 40;
  if (sum > limit)
    fail(ErrorCode::limit, "a convolutional network of these sizes has more than {} parameters",
         limit);
}

struct Checker {
  const std::string& where;

  void range(const char* name, int64_t value, int64_t low, int64_t high) const {
    if (value < low || value > high)
      fail(ErrorCode::limit, "{}: {} is {}, it must lie between {} and {}", where, name, value, low,
           high);
  }
  void width(int64_t channels) const { range("a layer's width", channels, 1, max_width); }

  void operator()(const ResNetConfig& c) const {
    width(c.stem);
    range("number of groups", c.groups, 1, max_width);
    for (const auto& layer : c.layers) {
      range("number of blocks in a layer", layer.blocks, 1, max_depth);
      width(layer.inner);
      width(layer.outer);
      range("a layer's stride", layer.stride, 1, 2);
      if (layer.inner % c.groups != 0)
        fail(ErrorCode::format, "{}: {} groups do not divide the width {}", where, c.groups,
             layer.inner);
    }
    if (!c.bottleneck && (c.groups != 1 || c.stride_in_first))
      unsupported("{}: blocks of two convolutions are neither grouped nor strided elsewhere",
                  where);
  }
  void operator()(const MobileNetV2Config& c) const {
    width(c.stem);
    width(c.last);
    for (const auto& stage : c.stages) {
      range("number of blocks in a stage", stage.blocks, 1, max_depth);
      range("a stage's expansion", stage.expansion, 1, max_expansion);
      width(stage.channels);
      range("a stage's stride", stage.stride, 1, 2);
    }
  }
  void operator()(const VggConfig& c) const {
    range("number of layers", int64_t(c.layers.size()), 1, 10);
    for (const auto& layer : c.layers) {
      range("number of convolutions in a layer", int64_t(layer.size()), 1, max_depth);
      for (int64_t channels : layer) width(channels);
    }
    range("side of the pooled features", c.pooled, 1, 64);
    for (int64_t hidden : c.hidden) width(hidden);
    const int64_t least = int64_t(1) << c.layers.size();
    if (c.image_height < least || c.image_width < least)
      fail(ErrorCode::format,
           "{}: an image of {} x {} is too small for {} max-pools; {} x {} is the least", where,
           c.image_height, c.image_width, c.layers.size(), least, least);
  }
};

}  // namespace

CnnFacts cnn_facts_from_config(const JsonObject& config) {
  CnnFacts facts = config.has("architecture") ? facts_from_timm(config) : facts_from_hub(config);
  facts.source = "config.json";
  return facts;
}

CnnConfig resolve_cnn_config(const Checkpoint& checkpoint, CnnLayout layout,
                             const std::optional<CnnFacts>& facts,
                             const std::optional<ImageSize>& image_size) {
  CnnConfig c = cnn_config_of_shapes(checkpoint, layout);
  if (facts) apply(checkpoint, layout, *facts, c);
  if (image_size) {
    sizes_of(c).image_height = image_size->height;
    sizes_of(c).image_width = image_size->width;
  }
  check_cnn_config(c, checkpoint.name());
  return c;
}

void check_cnn_config(const CnnConfig& config, const std::string& where) {
  const Checker check{where};
  const CnnSizes& sizes = sizes_of(config);
  check.range("image height", sizes.image_height, 1, max_side);
  check.range("image width", sizes.image_width, 1, max_side);
  check.range("number of channels", sizes.channels, 1, max_channels);
  check.range("number of classes", sizes.classes, 1, max_classes);
  if (!(sizes.norm_epsilon > 0 && sizes.norm_epsilon < 1))
    fail(ErrorCode::format, "{}: epsilon {} does not lie between 0 and 1", where,
         double(sizes.norm_epsilon));
  std::visit(check, config);
  check_parameters(config);
}

}  // namespace whence
