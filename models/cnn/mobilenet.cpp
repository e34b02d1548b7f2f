// MobileNetV2, as in Sandler et al. 2018, table 2: blocks that widen, filter each channel by
// itself, and project back without an activation.
#include "models/cnn/builder.h"

namespace whence {
namespace {

class Builder : CnnBuilder {
 public:
  Builder(Graph& graph, const MobileNetV2Config& config, int64_t batch)
      : CnnBuilder(graph, config, batch), c(config) {}

  Value run() {
    Value x = g.name(conv_layer("stem", image(), c.stem, 3, 2), "stem");
    int index = 0;
    for (const auto& stage : c.stages)
      for (int64_t i = 0; i < stage.blocks; ++i) {
        const std::string name = fmt::format("features.{}", ++index);
        const Value y = [&] {
          auto s = g.scope(name);
          return block(x, stage, i == 0 ? stage.stride : 1);
        }();
        x = g.name(y, name);
      }
    const std::string last = fmt::format("features.{}", ++index);
    x = g.name(g.name(conv_layer(last, x, c.last, 1, 1), last), "features.last");
    x = g.name(mean(x, {1, 2}), "pool");
    return g.name(dense("head", x, c.classes), "logits");
  }

 private:
  Value conv_layer(std::string_view name, Value x, int64_t outputs, int64_t kernel,
                   int64_t stride) {
    auto s = g.scope(name);
    return relu6(norm("norm", conv("conv", x, outputs, kernel, stride)));
  }

  Value block(Value x, const MobileNetV2Config::Stage& stage, int64_t stride) {
    const Value entry = x;
    const int64_t inputs = x.shape()[3], wide = inputs * stage.expansion;
    if (stage.expansion != 1) x = g.name(relu6(norm("norm1", conv("expand", x, wide, 1))), "act1");
    x = g.name(relu6(norm("norm2", conv("depthwise", x, wide, 3, stride, wide))), "act2");
    x = norm("norm3", conv("project", x, stage.channels, 1));
    return stride == 1 && inputs == stage.channels ? add(entry, x) : x;
  }

  const MobileNetV2Config& c;
};

int64_t last_side(const MobileNetV2Config& c, int64_t side) {
  side = (side + 1) / 2;
  for (const auto& s : c.stages) side = (side + s.stride - 1) / s.stride;
  return side;
}

}  // namespace

int64_t MobileNetV2Config::grid_height() const { return last_side(*this, image_height); }
int64_t MobileNetV2Config::grid_width() const { return last_side(*this, image_width); }

Value build_mobilenet_v2(Graph& graph, const MobileNetV2Config& config, int64_t batch) {
  return Builder(graph, config, batch).run();
}

}  // namespace whence
