// What the builders of convolutional networks share: layers whose weights carry the layer's name.
#pragma once

#include <fmt/core.h>

#include <string_view>

#include "models/cnn/cnn.h"
#include "whence/ops.h"

namespace whence {

class CnnBuilder {
 public:
  CnnBuilder(Graph& graph, const CnnSizes& sizes, int64_t batch)
      : g(graph), sizes_(sizes), batch_(batch) {}

 protected:
  // The model's input, channels last. A method may have put it there, as points that it computes.
  Value image() {
    const Value image =
        g.has("image")
            ? g.at("image")
            : g.input("image",
                      Type{{batch_, sizes_.channels, sizes_.image_height, sizes_.image_width}});
    return channels_last(image);
  }

  // A square kernel, padded so that a stride of 1 keeps the size.
  Value conv(std::string_view name, Value x, int64_t outputs, int64_t kernel, int64_t stride = 1,
             int64_t groups = 1, bool bias = false) {
    const Value y = [&] {
      auto s = g.scope(name);
      const Value w = g.weight("weight", {outputs, x.shape()[3] / groups, kernel, kernel});
      return conv2d(x, w, bias ? g.weight("bias", {outputs}) : Value{},
                    {.stride = stride, .pad = kernel / 2});
    }();
    return g.name(y, name);
  }

  Value norm(std::string_view name, Value x) {
    const Shape width{x.shape()[3]};
    const Value y = [&] {
      auto s = g.scope(name);
      return batch_norm(x, g.weight("weight", width), g.weight("bias", width),
                        g.weight("mean", width), g.weight("variance", width), sizes_.norm_epsilon);
    }();
    return g.name(y, name);
  }

  Value dense(std::string_view name, Value x, int64_t outputs) {
    auto s = g.scope(name);
    const Value w = g.weight("weight", {outputs, x.shape()[1]});
    return linear(x, w, g.weight("bias", {outputs}));
  }

  Graph& g;

 private:
  const CnnSizes& sizes_;
  int64_t batch_;
};

}  // namespace whence
