#include "explain/engine/layer.h"

#include <algorithm>
#include <optional>

#include "runtime/check.h"
#include "runtime/text.h"

namespace whence {
namespace {

bool is_picture(const Scene& s, Value v) {
  return std::any_of(s.model.ports.begin(), s.model.ports.end(), [&](const Port& port) {
    return port.role == Port::Role::picture && s.graph.at(port.name) == v;
  });
}

std::optional<Layer> spatial(const Scene& s, const std::string& name, Value v) {
  const Node& node = s.graph.node(v);
  const Shape& shape = v.shape();
  const bool tower = !s.model.places.towers.empty();
  // Maps inside an attention are over pairs of tokens.
  if (node.weight || node.stage != Stage::data || v.output != 0 || shape.rank() < 3 ||
      shape[0] != s.rows())
    return {};
  if (is_picture(s, v)) return Layer{name, Layer::Layout::picture, shape[2], shape[3], shape[1]};
  if (shape.rank() == 4 && !tower)
    return Layer{name, Layer::Layout::channels_last, shape[1], shape[2], shape[3]};
  if (shape.rank() != 3 || !tower) return {};
  const int64_t height = s.tower().rows, width = s.tower().columns;
  if (shape[1] != s.tokens() && shape[1] != height * width) return {};
  return Layer{name, Layer::Layout::tokens, height, width, shape[2]};
}

// Where none is asked for.
std::string usual_layer(const Model& model) {
  if (model.places.towers.empty()) return model.places.features;
  const Tower& tower = model.places.towers.back();
  return tower.place(tower.blocks - 1, "attn.in");
}

// The places that would do, nearest names first.
std::string choices(const Scene& s, std::string_view name) {
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
  return reshape(layout == Layout::picture ? channels_last(v) : v,
                 {s[0], height * width, channels});
}

Layer layer_of(const Scene& s, const Options& options) {
  const std::string& method = options.method();
  const std::string wanted = options.layer().empty() ? usual_layer(s.model) : options.layer();
  if (!s.graph.has(wanted))
    fail(ErrorCode::keys, "method {}: '{}' has no layer '{}'; {}", method, s.model.name,
         printable(wanted), choices(s, wanted));
  const Value v = s.graph.at(wanted);
  if (auto layer = spatial(s, wanted, v)) return *layer;
  const std::string needed =
      s.model.places.towers.empty()
          ? "a feature map [H, W, C]"
          : fmt::format("tokens [{} or {}, C]", s.tokens(), s.tower().rows * s.tower().columns);
  if (s.graph.node(v).weight)
    fail_usage("method {}: layer '{}' is a weight, {} is needed; {}", method, wanted, needed,
               choices(s, wanted));
  fail_usage("method {}: layer '{}' has shape {}, {} is needed; {}", method, wanted,
             item_shape(v.shape()), needed, choices(s, wanted));
}

Map layer_map(const Layer& layer, Value v) {
  const Shape grid{layer.height, layer.width};
  return {{v}, [grid](const Rows& rows) { return Tensor::of(grid, rows[0]); }};
}

Map layer_channels(const Layer& layer, Value v) {
  return {{v}, [layer](const Rows& rows) {
            Tensor map(Type{{layer.channels, layer.height, layer.width}});
            const size_t cells = size_t(layer.height * layer.width);
            const size_t channels = size_t(layer.channels);
            const auto to = map.reals();
            for (size_t p = 0; p < cells; ++p)
              for (size_t c = 0; c < channels; ++c) to[c * cells + p] = rows[0][p * channels + c];
            return map;
          }};
}

}  // namespace whence
