#include "explain/layer.h"

#include <optional>

#include "runtime/check.h"
#include "runtime/text.h"

namespace whence {
namespace {

std::optional<Layer> spatial(const Scored& s, const std::string& name, Value v) {
  const Node& node = s.graph.node(v);
  const Shape& shape = v.shape();
  // Maps inside an attention are over pairs of tokens.
  if (node.weight || node.stage != Stage::data || v.output != 0 || shape.rank() < 3 ||
      shape[0] != s.rows())
    return {};
  if (v == s.image) return Layer{name, v, Layer::Layout::image, shape[2], shape[3], shape[1]};
  if (shape.rank() == 4 && s.model.blocks == 0)
    return Layer{name, v, Layer::Layout::channels_last, shape[1], shape[2], shape[3]};
  const int64_t height = s.model.grid_height, width = s.model.grid_width;
  if (shape.rank() == 3 && s.model.blocks > 0 &&
      (shape[1] == s.tokens() || shape[1] == height * width))
    return Layer{name, v, Layer::Layout::tokens, height, width, shape[2]};
  return {};
}

// The places that would do, nearest names first.
std::string choices(const Scored& s, std::string_view name) {
  std::vector<std::string> names;
  for (const auto& [other, v] : s.graph.names())
    if (spatial(s, other, v)) names.push_back(other);
  return names.empty() ? "the model has none" : "the nearest are " + listing(nearest(name, names));
}

// "[512]": of one row.
std::string item_shape(const Shape& shape) {
  return to_string(Shape(std::span(shape.begin() + 1, shape.end())));
}

}  // namespace

Value Layer::positions(Value v) const {
  const Shape& s = v.shape();
  if (layout == Layout::tokens) return slice(v, 1, s[1] - height * width, s[1]);
  return reshape(layout == Layout::image ? channels_last(v) : v, {s[0], height * width, channels});
}

Layer layer_of(const Scored& s, std::string_view method, std::string_view name) {
  const std::string wanted = !name.empty() ? std::string(name)
                             : s.model.blocks > 0
                                 ? fmt::format("blocks.{}.norm1", s.model.blocks - 1)
                                 : "features.last";
  if (!s.graph.has(wanted))
    fail(ErrorCode::keys, "method {}: '{}' has no layer '{}'; {}", method, s.model.name,
         printable(wanted), choices(s, wanted));
  const Value v = s.graph.at(wanted);
  if (auto layer = spatial(s, wanted, v)) return *layer;
  const std::string needed = s.model.blocks > 0
                                 ? fmt::format("tokens [{} or {}, C]", s.tokens(),
                                               s.model.grid_height * s.model.grid_width)
                                 : "a feature map [H, W, C]";
  if (s.graph.node(v).weight)
    fail_usage("method {}: layer '{}' is a weight, {} is needed; {}", method, wanted, needed,
               choices(s, wanted));
  fail_usage("method {}: layer '{}' has shape {}, {} is needed; {}", method, wanted,
             item_shape(v.shape()), needed, choices(s, wanted));
}

Tensor layer_map(const Layer& layer, std::span<const real> positions) {
  return Tensor::of({layer.height, layer.width}, positions);
}

Tensor layer_channels(const Layer& layer, std::span<const real> positions) {
  Tensor map(Type{{layer.channels, layer.height, layer.width}});
  const size_t cells = size_t(layer.height * layer.width), channels = size_t(layer.channels);
  const auto to = map.reals();
  for (size_t p = 0; p < cells; ++p)
    for (size_t c = 0; c < channels; ++c) to[c * cells + p] = positions[p * channels + c];
  return map;
}

}  // namespace whence
