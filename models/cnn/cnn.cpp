#include "models/cnn/cnn.h"

namespace whence {

Value build_cnn(Graph& graph, const CnnConfig& config, int64_t batch) {
  struct Build {
    Graph& graph;
    int64_t batch;
    Value operator()(const ResNetConfig& c) const { return build_resnet(graph, c, batch); }
    Value operator()(const MobileNetV2Config& c) const {
      return build_mobilenet_v2(graph, c, batch);
    }
    Value operator()(const VggConfig& c) const { return build_vgg(graph, c, batch); }
  };
  return std::visit(Build{graph, batch}, config);
}

}  // namespace whence
