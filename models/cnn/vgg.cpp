// VGG, as in Simonyan and Zisserman 2015, table 1; with the pooling to a fixed size that later
// implementations put before the dense layers, so that images may have any size.
#include "models/cnn/builder.h"

namespace whence {
namespace {

// Means over `size` windows along `axis`: window i covers floor(i n / size) up to
// ceil((i + 1) n / size), so windows overlap where `size` does not divide n.
Value window_means(Value x, int axis, int64_t size) {
  const int64_t n = x.shape()[axis];
  if (n == size) return x;
  Values parts;
  for (int64_t i = 0; i < size; ++i) {
    const Value window = slice(x, axis, i * n / size, ((i + 1) * n + size - 1) / size);
    parts.push_back(reshape(mean(window, {axis}), x.shape().with(axis, 1)));
  }
  return concat(parts, axis);
}

// [B, H, W, C] -> [B, C H W], the order of the dense weights: two turns of the three last axes.
Value flatten_channels_first(Value x) {
  const int64_t batch = x.shape()[0];
  return reshape(channels_last(channels_last(x)), {batch, x.shape().count() / batch});
}

class Builder : CnnBuilder {
 public:
  Builder(Graph& graph, const VggConfig& config, int64_t batch)
      : CnnBuilder(graph, config, batch), c(config) {}

  Value run() {
    Value x = image();
    for (size_t l = 0; l < c.layers.size(); ++l) x = layer(x, int(l));
    x = g.name(window_means(window_means(x, 1, c.pooled), 2, c.pooled), "pool");
    x = flatten_channels_first(x);
    x = g.name(relu(g.name(dense("fc1", x, c.hidden[0]), "fc1")), "fc1.act");
    x = g.name(relu(g.name(dense("fc2", x, c.hidden[1]), "fc2")), "fc2.act");
    return g.name(dense("head", x, c.classes), "logits");
  }

 private:
  Value layer(Value x, int l) {
    const std::string name = fmt::format("layer{}", l + 1);
    const auto& widths = c.layers[size_t(l)];
    for (size_t j = 0; j < widths.size(); ++j) {
      const Value y = [&] {
        auto s = g.scope(name, int(j) + 1);
        const Value raw = conv("conv", x, widths[j], 3, 1, 1, true);
        return relu(c.batch_norm ? norm("norm", raw) : raw);
      }();
      x = g.name(y, fmt::format("{}.{}", name, j + 1));
      if (l == 0 && j == 0) g.name(x, "stem");
    }
    if (size_t(l) + 1 == c.layers.size()) g.name(x, "features.last");
    return g.name(max_pool(x, {.size = 2, .stride = 2}), name);
  }

  const VggConfig& c;
};

// The last max-pool comes after the last feature map.
int64_t last_side(const VggConfig& c, int64_t side) { return side >> (c.layers.size() - 1); }

}  // namespace

int64_t VggConfig::grid_height() const { return last_side(*this, image_height); }
int64_t VggConfig::grid_width() const { return last_side(*this, image_width); }

Value build_vgg(Graph& graph, const VggConfig& config, int64_t batch) {
  return Builder(graph, config, batch).run();
}

}  // namespace whence
