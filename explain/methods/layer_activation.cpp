// layer-activation: a layer's values as they are, [C, h, w]. They are the same for every target.
#include "explain/engine/layer.h"
#include "explain/method.h"

namespace whence::catalogue {

Method layer_activation() {
  return {.info = {.id = "layer-activation",
                   .summary = "values of a layer as they are",
                   .paper = "-",
                   .models = "any",
                   .options = {},
                   .takes_layer = true},
          .map = [](Scene& s, const Options& o) {
            const Layer layer = layer_of(s, o);
            return layer_channels(layer, layer.positions(layer.value(s)));
          }};
}

}  // namespace whence::catalogue
