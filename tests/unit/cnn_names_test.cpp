// Convolutional architectures at full size: what their checkpoints call the tensors, their shapes,
// and how many parameters they have, against PyTorch (tests/golden/make_cnn.py).
#include <fmt/core.h>

#include "models/cnn/config.h"
#include "tests/unit/golden_file.h"
#include "tests/unit/loaded.h"

namespace whence {
namespace {

// Digest of the sorted lines "name [shape]" that a layout gives to a model: FNV-1a of 64 bits.
struct Listing {
  int64_t tensors = 0;
  std::string digest;
};
Listing listing(const CnnConfig& config, CnnLayout layout) {
  const NameMap map = cnn_name_map(layout, config, "");
  std::map<std::string, std::string> lines;
  Graph graph;
  build_cnn(graph, config, 1);
  for (const auto& [name, shape] : graph.weights()) {
    const RuleFor from = rule_for(map, name);
    EXPECT_TRUE(from.rule) << name;
    if (!from.rule) continue;
    const bool fresh =
        lines.emplace(from.stored, to_string(stored_shape(*from.rule, shape))).second;
    EXPECT_TRUE(fresh) << from.stored;
  }
  uint64_t h = 0xCBF29CE484222325;
  for (const auto& [name, shape] : lines)
    for (unsigned char c : name + " " + shape + "\n") h = (h ^ c) * 0x100000001B3;
  return {int64_t(lines.size()), fmt::format("{:016x}", h)};
}

TEST(CnnNames, of_every_architecture_are_those_of_pytorch) {
  const auto golden = golden_json("cnn.json").at("names");
  int compared = 0;
  for (const auto& [program, models] : golden.items())
    for (const auto& [name, want] : models.items()) {
      SCOPED_TRACE(program + " " + name);
      const CnnConfig c = cnn_config_of_name(name);
      const bool hub = program == "hub", timm = program == "timm";
      const CnnLayout layout =
          std::holds_alternative<VggConfig>(c) ? CnnLayout::vgg
          : std::holds_alternative<MobileNetV2Config>(c)
              ? (timm ? CnnLayout::mobilenet_timm : CnnLayout::mobilenet_torchvision)
          : hub ? CnnLayout::resnet_hub
                : CnnLayout::resnet;
      const Listing got = listing(c, layout);
      EXPECT_EQ(got.tensors, want.at("tensors").get<int64_t>());
      EXPECT_EQ(got.digest, want.at("digest").get<std::string>());
      EXPECT_EQ(parameters_of(c), want.at("parameters").get<int64_t>());
      ++compared;
    }
  EXPECT_EQ(compared, 40);
}

TEST(CnnNames, parameter_counts_of_published_models) {
  const std::pair<const char*, int64_t> counts[] = {
      {"resnet18", 11'689'512},
      {"resnet34", 21'797'672},
      {"resnet50", 25'557'032},
      {"resnet101", 44'549'160},
      {"resnet152", 60'192'808},
      {"wide_resnet50_2", 68'883'240},
      {"wide_resnet101_2", 126'886'696},
      {"resnext50_32x4d", 25'028'904},
      {"resnext101_32x8d", 88'791'336},
      {"mobilenet_v2", 3'504'872},
      {"vgg11", 132'863'336},
      {"vgg13", 133'047'848},
      {"vgg16", 138'357'544},
      {"vgg19", 143'667'240},
      {"vgg11_bn", 132'868'840},
      {"vgg13_bn", 133'053'736},
      {"vgg16_bn", 138'365'992},
      {"vgg19_bn", 143'678'248},
  };
  for (const auto& [name, count] : counts)
    EXPECT_EQ(parameters_of(cnn_config_of_name(name)), count) << name;
}

TEST(CnnNames, feature_maps_have_the_sizes_that_the_graph_has) {
  const auto check = [](CnnConfig c, int64_t height, int64_t width) {
    sizes_of(c).image_height = height;
    sizes_of(c).image_width = width;
    Graph g;
    build_cnn(g, c, 2);
    const Shape& last = g.at("features.last").shape();
    std::visit(
        [&](const auto& config) {
          EXPECT_EQ(last[1], config.grid_height()) << height;
          EXPECT_EQ(last[2], config.grid_width()) << width;
        },
        c);
  };
  for (const char* name : {"resnet18", "resnet50", "mobilenet_v2", "vgg11", "vgg11_bn"})
    for (int64_t side : {224, 32, 33, 47, 63, 65, 95, 96, 97, 225, 255})
      check(cnn_config_of_name(name), side, 257 - side / 2);
  ResNetConfig c = std::get<ResNetConfig>(cnn_config_of_name("resnet50"));
  c.layers[0].stride = 2;
  c.stride_in_first = true;
  for (int64_t side : {1, 2, 31, 64, 77, 130}) check(c, side, 131 - side);
  EXPECT_EQ(c.grid_height(), 4);  // 224 / 64, rounded up
  EXPECT_EQ(std::get<VggConfig>(cnn_config_of_name("vgg16")).grid_width(), 14);
}

TEST(CnnNames, places_of_the_graph) {
  const auto missing = [](const char* name, std::vector<std::string> places) {
    Graph g;
    build_cnn(g, cnn_config_of_name(name), 1);
    std::string text;
    for (const char* common : {"image", "stem", "features.last", "pool", "logits"})
      places.emplace_back(common);
    for (const std::string& place : places)
      if (!g.has(place)) text += place + " ";
    return text;
  };
  EXPECT_EQ(missing("resnet50", {"stem.conv", "layer1.0.conv1", "layer1.0.act2", "layer1.0",
                                 "layer1.0.shortcut.norm", "layer2.3", "layer4.2.norm3", "layer4"}),
            "");
  EXPECT_EQ(missing("resnet18", {"layer1.1.conv2", "layer2.0.shortcut.conv", "layer4.1"}), "");
  EXPECT_EQ(missing("mobilenet_v2", {"features.1.depthwise", "features.2.act1", "features.17",
                                     "features.18", "features.18.conv"}),
            "");
  EXPECT_EQ(missing("vgg16_bn", {"layer1.1.conv", "layer5.3.norm", "layer5.3", "layer5", "fc1",
                                 "fc1.act", "fc2.act"}),
            "");
  Graph g;
  build_cnn(g, cnn_config_of_name("resnet50"), 1);
  EXPECT_EQ(g.at("layer4"), g.at("features.last"));
  EXPECT_EQ(g.at("layer4.2"), g.at("layer4"));
  EXPECT_FALSE(g.has("layer1.1.shortcut.conv"));
}

}  // namespace
}  // namespace whence
