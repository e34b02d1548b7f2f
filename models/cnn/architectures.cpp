// Convolutional architectures by the names that torchvision and timm give them.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "models/cnn/config.h"
#include "runtime/check.h"

namespace whence {
namespace {

[[noreturn]] void unknown(std::string_view name) {
  fail(ErrorCode::usage,
       "architecture '{}' is not known; known are resnet18, 26, 34, 50, 101 and 152, "
       "wide_resnet50_2 and the like, resnext50_32x4d and the like, mobilenet_v2, mobilenetv2_100 "
       "and other widths in percent (with a d: deeper), vgg11, 13, 16 and 19, each with or "
       "without _bn",
       printable(name));
}

// Takes a number of up to four digits from the front of `text`.
std::optional<int64_t> take_number(std::string_view& text) {
  int64_t n = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + std::min<size_t>(text.size(), 4), n);
  if (error != std::errc() || n < 1 || text.front() == '-') return {};
  text.remove_prefix(size_t(end - text.data()));
  return n;
}

bool take(std::string_view& text, std::string_view word) {
  if (!text.starts_with(word)) return false;
  text.remove_prefix(word.size());
  return true;
}

struct Depth {
  int64_t name;
  bool bottleneck;
  std::array<int64_t, 4> blocks;
};
constexpr Depth depths[] = {{18, false, {2, 2, 2, 2}},  {26, true, {2, 2, 2, 2}},
                            {34, false, {3, 4, 6, 3}},  {50, true, {3, 4, 6, 3}},
                            {101, true, {3, 4, 23, 3}}, {152, true, {3, 8, 36, 3}}};

// `inner`: channels between a block's first and last convolution, in layer 1.
std::optional<ResNetConfig> resnet(int64_t depth, int64_t inner) {
  const auto* d = std::find_if(std::begin(depths), std::end(depths),
                               [&](const Depth& row) { return row.name == depth; });
  if (d == std::end(depths)) return {};
  ResNetConfig c;
  c.bottleneck = d->bottleneck;
  for (size_t l = 0; l < 4; ++l) {
    const int64_t planes = int64_t(64) << l;
    c.layers[l] = {d->blocks[l], inner << l, c.bottleneck ? 4 * planes : planes, l == 0 ? 1 : 2};
  }
  return c;
}

std::optional<CnnConfig> residual(std::string_view name) {
  const bool wide = take(name, "wide_");
  const bool grouped = !wide && take(name, "resnext");
  if (!grouped && !take(name, "resnet")) return {};
  const auto depth = take_number(name);
  if (!depth) return {};
  int64_t inner = 64, groups = 1;
  if (wide) {
    const auto factor = take(name, "_") ? take_number(name) : std::nullopt;
    if (!factor) return {};
    inner *= *factor;
  } else if (grouped) {
    const auto count = take(name, "_") ? take_number(name) : std::nullopt;
    const auto width = take(name, "x") ? take_number(name) : std::nullopt;
    if (!count || !width || !take(name, "d")) return {};
    groups = *count, inner = *count * *width;
  }
  auto c = resnet(*depth, inner);
  if (!name.empty() || !c || (!c->bottleneck && inner != 64)) return {};
  c->groups = groups;
  return c;
}

// Channels stay multiples of 8 and lose at most a tenth.
int64_t scaled_channels(double channels) {
  const int64_t rounded = std::max<int64_t>(8, int64_t(channels + 4) / 8 * 8);
  return double(rounded) < 0.9 * channels ? rounded + 8 : rounded;
}

std::optional<CnnConfig> mobilenet(std::string_view name) {
  MobileNetV2Config c;
  if (name == "mobilenet_v2") return c;
  if (!take(name, "mobilenetv2_")) return {};
  const auto percent = take_number(name);
  if (!percent) return {};
  const double width = double(*percent) / 100;
  // timm's deeper variants, whose first and last layers keep the published sizes.
  const bool deeper = name == "d" && (*percent == 110 || *percent == 120);
  if (!name.empty() && !deeper) return {};
  const double depth = !deeper ? 1 : *percent == 110 ? 1.2 : 1.4;
  for (size_t s = 0; s < c.stages.size(); ++s) {
    auto& stage = c.stages[s];
    stage.channels = scaled_channels(double(stage.channels) * width);
    if (s > 0 && s + 1 < c.stages.size())
      stage.blocks = int64_t(std::ceil(double(stage.blocks) * depth));
  }
  if (!deeper) {
    c.stem = scaled_channels(32 * width);
    c.last = std::max<int64_t>(1280, scaled_channels(1280 * width));
  }
  return c;
}

std::optional<CnnConfig> vgg(std::string_view name) {
  if (!take(name, "vgg")) return {};
  VggConfig c;
  const auto depth = take_number(name);
  c.batch_norm = take(name, "_bn");
  if (!depth || !name.empty()) return {};
  // Convolutions of each layer: with the three dense ones they make the depth.
  std::array<size_t, 5> count{};
  if (depth == 11)
    count = {1, 1, 2, 2, 2};
  else if (depth == 13)
    count = {2, 2, 2, 2, 2};
  else if (depth == 16)
    count = {2, 2, 3, 3, 3};
  else if (depth == 19)
    count = {2, 2, 4, 4, 4};
  else
    return {};
  for (size_t l = 0; l < 5; ++l) c.layers[l].assign(count[l], c.layers[l][0]);
  return c;
}

}  // namespace

CnnConfig cnn_config_of_name(std::string_view architecture) {
  const std::string_view name = architecture.substr(0, architecture.find('.'));
  for (const auto& family : {residual, mobilenet, vgg})
    if (auto c = family(name)) return *c;
  unknown(architecture);
}

CnnFacts cnn_facts_from_name(std::string_view architecture) {
  CnnFacts facts;
  facts.source = printable(architecture);
  facts.named = cnn_config_of_name(architecture);
  return facts;
}

}  // namespace whence
