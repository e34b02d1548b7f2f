// ResNet, block by block as in He et al. 2016, section 4.1, figures 2 and 5; the stride of a
// bottleneck stands in its second convolution, as in all common implementations.
#include "models/cnn/builder.h"

namespace whence {
namespace {

class Builder : CnnBuilder {
 public:
  Builder(Graph& graph, const ResNetConfig& config, int64_t batch)
      : CnnBuilder(graph, config, batch), c(config) {}

  Value run() {
    Value x = stem();
    for (int i = 0; i < 4; ++i) x = layer(x, c.layers[size_t(i)], i + 1);
    g.name(x, "features.last");
    x = g.name(mean(x, {1, 2}), "pool");
    return g.name(dense("head", x, c.classes), "logits");
  }

 private:
  Value stem() {
    Value x = image();
    {
      auto s = g.scope("stem");
      x = g.name(relu(norm("norm", conv("conv", x, c.stem, 7, 2))), "act");
    }
    return g.name(max_pool(x, {.size = 3, .stride = 2, .pad = 1}), "stem");
  }

  Value layer(Value x, const ResNetConfig::Layer& l, int index) {
    const std::string name = fmt::format("layer{}", index);
    for (int i = 0; i < l.blocks; ++i) {
      const Value y = [&] {
        auto s = g.scope(name, i);
        return block(x, l, i == 0 ? l.stride : 1);
      }();
      x = g.name(y, fmt::format("{}.{}", name, i));
    }
    return g.name(x, name);
  }

  // relu(f(x) + shortcut(x))
  Value block(Value x, const ResNetConfig::Layer& l, int64_t stride) {
    const Value kept = stride == 1 && x.shape()[3] == l.outer ? x : shortcut(x, l.outer, stride);
    return relu(add(c.bottleneck ? bottleneck(x, l, stride) : basic(x, l, stride), kept));
  }

  Value shortcut(Value x, int64_t outputs, int64_t stride) {
    auto s = g.scope("shortcut");
    return norm("norm", conv("conv", x, outputs, 1, stride));
  }

  Value basic(Value x, const ResNetConfig::Layer& l, int64_t stride) {
    x = g.name(relu(norm("norm1", conv("conv1", x, l.inner, 3, stride))), "act1");
    return norm("norm2", conv("conv2", x, l.outer, 3));
  }

  Value bottleneck(Value x, const ResNetConfig::Layer& l, int64_t stride) {
    const int64_t first = c.stride_in_first ? stride : 1, second = stride / first;
    x = g.name(relu(norm("norm1", conv("conv1", x, l.inner, 1, first))), "act1");
    x = g.name(relu(norm("norm2", conv("conv2", x, l.inner, 3, second, c.groups))), "act2");
    return norm("norm3", conv("conv3", x, l.outer, 1));
  }

  const ResNetConfig& c;
};

// Every strided layer keeps one of two positions, rounded up.
int64_t last_side(const ResNetConfig& c, int64_t side) {
  side = (((side + 1) / 2) + 1) / 2;
  for (const auto& l : c.layers) side = (side + l.stride - 1) / l.stride;
  return side;
}

}  // namespace

int64_t ResNetConfig::grid_height() const { return last_side(*this, image_height); }
int64_t ResNetConfig::grid_width() const { return last_side(*this, image_width); }

Value build_resnet(Graph& graph, const ResNetConfig& config, int64_t batch) {
  return Builder(graph, config, batch).run();
}

}  // namespace whence
