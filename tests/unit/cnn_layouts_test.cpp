// Checkpoints of convolutional classifiers in every layout: loading, and what is refused.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <functional>

#include "io/files.h"
#include "io/json.h"
#include "models/cnn/layouts.h"
#include "models/companions.h"
#include "tests/checkpoints/checkpoints.h"
#include "tests/unit/folder.h"
#include "tests/unit/loaded.h"
#include "whence/error.h"

namespace whence {
namespace {

namespace fs = std::filesystem;

// What a folder is refused for, with its path written as DIR.
std::string refusal(const fs::path& folder, const LoadOptions& options = {}) {
  std::string text = "accepted";
  try {
    load_model(folder, options);
  } catch (const Error& e) {
    text = e.what();
  }
  const std::string path = path_text(folder);
  for (size_t at; (at = text.find(path)) != text.npos;) text.replace(at, path.size(), "DIR");
  return text;
}

// Sizes that few dimensions share.
ResNetConfig tiny_resnet() {
  ResNetConfig c;
  c.image_height = 40, c.image_width = 48, c.classes = 5;
  c.stem = 6;
  c.layers = {{{1, 4, 16, 1}, {2, 5, 20, 2}, {1, 6, 24, 2}, {1, 7, 28, 2}}};
  return c;
}
ResNetConfig tiny_basic() {
  ResNetConfig c = tiny_resnet();
  c.bottleneck = false;
  c.layers = {{{2, 6, 6, 1}, {1, 7, 7, 2}, {1, 8, 8, 2}, {1, 9, 9, 2}}};
  return c;
}
MobileNetV2Config tiny_mobilenet() {
  MobileNetV2Config c;
  c.image_height = 40, c.image_width = 48, c.classes = 5, c.stem = 3, c.last = 11;
  int64_t channels = 2;
  for (auto& stage : c.stages) stage.channels = channels++;
  return c;
}
VggConfig tiny_vgg(bool batch_norm) {
  VggConfig c;
  c.image_height = 40, c.image_width = 48, c.classes = 5, c.batch_norm = batch_norm;
  c.layers = {{4}, {5, 6}, {7}, {8}, {9, 10}};
  c.pooled = 3, c.hidden = {13, 14};
  return c;
}

void expect_same_weights(const Weights& a, const Weights& b) {
  ASSERT_EQ(a.tensors.size(), b.tensors.size());
  for (const auto& [name, tensor] : a.tensors) {
    ASSERT_TRUE(b.tensors.contains(name)) << name;
    ASSERT_EQ(tensor.shape(), b.tensors.at(name).shape()) << name;
  }
  EXPECT_EQ(a.digest, b.digest);
}

struct Case {
  const char* name;
  CnnLayout layout;
  CnnConfig config;
};
std::vector<Case> cases() {
  ResNetConfig grouped = tiny_resnet(), wide = tiny_resnet(), first = tiny_resnet();
  ResNetConfig halved = tiny_basic(), grey = tiny_basic();
  grouped.groups = 2;
  grouped.layers = {{{1, 4, 16, 1}, {2, 6, 20, 2}, {1, 8, 24, 2}, {1, 10, 28, 2}}};
  for (auto& layer : wide.layers) layer.inner *= 2;
  first.stride_in_first = true;
  halved.layers[0].stride = 2;
  grey.channels = 1;
  MobileNetV2Config deeper = tiny_mobilenet();
  for (size_t s = 1; s < 6; ++s) deeper.stages[s].blocks += 2;
  return {{"bottlenecks", CnnLayout::resnet, tiny_resnet()},
          {"basic", CnnLayout::resnet, tiny_basic()},
          {"grouped", CnnLayout::resnet, grouped},
          {"wide", CnnLayout::resnet, wide},
          {"grey", CnnLayout::resnet, grey},
          {"hub bottlenecks", CnnLayout::resnet_hub, tiny_resnet()},
          {"hub basic", CnnLayout::resnet_hub, tiny_basic()},
          {"hub, stride in the first convolution", CnnLayout::resnet_hub, first},
          {"hub, stride in layer 1", CnnLayout::resnet_hub, halved},
          {"mobilenet", CnnLayout::mobilenet_torchvision, tiny_mobilenet()},
          {"mobilenet of timm", CnnLayout::mobilenet_timm, tiny_mobilenet()},
          {"deeper mobilenet of timm", CnnLayout::mobilenet_timm, deeper},
          {"vgg", CnnLayout::vgg, tiny_vgg(false)},
          {"vgg with batch norm", CnnLayout::vgg, tiny_vgg(true)}};
}

TEST(CnnLayouts, weights_and_sizes_come_back_from_every_layout) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    const Weights w = random_cnn_weights(c.config, 11);
    const Folder folder("layout");
    write_cnn_checkpoint(folder.path, c.config, w, c.layout);
    const LoadedCnn loaded = load_cnn(folder.path);
    EXPECT_EQ(loaded.config, c.config);
    EXPECT_EQ(loaded.layout, describe(c.layout));
    EXPECT_TRUE(loaded.account.skipped.empty());
    expect_same_weights(loaded.weights, w);
    int64_t statistics = 0;
    for (const auto& [name, tensor] : w.tensors)
      if (name.ends_with(".mean") || name.ends_with(".variance")) statistics += tensor.shape()[0];
    EXPECT_EQ(loaded.account.parameters, parameters_of(c.config) + statistics);
    const Model m = load_model(folder.path);
    EXPECT_EQ(m.image_shape(), (Shape{sizes_of(c.config).channels, 40, 48}));
    EXPECT_TRUE(m.places.towers.empty());
  }
}

// Without a config.json, all but the image and where a hub's bottlenecks stride is in the tensors.
TEST(CnnLayouts, a_bare_file_shows_its_sizes) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    CnnConfig want = c.config;
    sizes_of(want).image_height = sizes_of(want).image_width = 224;
    if (auto* resnet = std::get_if<ResNetConfig>(&want)) resnet->stride_in_first = false;
    const Folder folder("bare");
    write_cnn_checkpoint(folder.path, want, random_cnn_weights(want, 1), c.layout,
                         {.shards = 2, .config = false});
    const LoadedCnn m = load_cnn(folder.path);
    EXPECT_EQ(m.config, want);
    EXPECT_EQ(m.preprocess.crop_height, 224);
    EXPECT_EQ(m.preprocess.resize_height, 256);
    std::vector<std::string> notes{"preprocessing is not stated: that of published " +
                                       describe(c.layout) + " models is assumed",
                                   "class names are not stated: classes are called by their index"};
    if (c.layout == CnnLayout::resnet_hub)
      notes.insert(notes.begin(),
                   "where the layers stride is not stated: the usual places are assumed");
    EXPECT_EQ(m.account.notes, notes);
  }
}

TEST(CnnLayouts, descriptions) {
  const std::pair<CnnConfig, const char*> models[] = {
      {tiny_resnet(), "ResNet, 1+2+1+1 bottlenecks of width 16, 20, 24, 28"},
      {tiny_basic(), "ResNet, 2+1+1+1 basic blocks of width 6, 7, 8, 9"},
      {tiny_mobilenet(), "MobileNetV2, 17 blocks of width 2 to 8"},
      {tiny_vgg(true), "VGG, 7 convolutions with batch norm and 3 dense layers of width 13, 14"}};
  const CnnLayout layouts[] = {CnnLayout::resnet, CnnLayout::resnet,
                               CnnLayout::mobilenet_torchvision, CnnLayout::vgg};
  for (size_t i = 0; i < 4; ++i) {
    const Folder folder("words");
    write_cnn_checkpoint(folder.path, models[i].first, random_cnn_weights(models[i].first, 1),
                         layouts[i]);
    EXPECT_EQ(load_model(folder.path).architecture,
              std::string(models[i].second) + ", 40 x 48 pixels, 5 classes");
  }
}

void save(const Folder& folder, const std::vector<OutputTensor>& tensors) {
  write_safetensors(folder.path / "model.safetensors", tensors);
}
std::vector<OutputTensor> tensors_of(const CnnConfig& c, CnnLayout layout) {
  return cnn_checkpoint_tensors(c, random_cnn_weights(c, 2), layout);
}
OutputTensor counter(const std::string& name) {
  OutputTensor t;
  t.name = name;
  t.dtype = StoredDtype::i64;
  t.bytes.assign(8, 0);
  return t;
}

TEST(CnnLayouts, batch_counters_and_wrappers_are_ignored) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    const Folder folder("counters");
    std::vector<OutputTensor> tensors = tensors_of(c.config, c.layout);
    const size_t own = tensors.size();
    for (size_t i = 0; i < own; ++i)
      if (const size_t at = tensors[i].name.rfind("running_mean"); at != std::string::npos)
        tensors.push_back(counter(tensors[i].name.substr(0, at) + "num_batches_tracked"));
    for (OutputTensor& t : tensors) t.name = "module." + t.name;
    save(folder, tensors);
    const LoadedCnn m = load_cnn(folder.path);
    expect_same_weights(m.weights, random_cnn_weights(c.config, 2));
    EXPECT_EQ(m.account.skipped.size(), tensors.size() - own);
    EXPECT_EQ(m.account.notes[0], "prefix 'module.' removed from every name");
  }
}

TEST(CnnLayouts, tensors_that_change_the_function_are_refused) {
  const std::tuple<CnnConfig, CnnLayout, const char*> changed[] = {
      {tiny_resnet(), CnnLayout::resnet, "layer1.0.se.fc1.weight"},
      {tiny_resnet(), CnnLayout::resnet, "layer2.1.conv2.bias"},
      {tiny_resnet(), CnnLayout::resnet, "layer1.0.downsample.2.weight"},
      {tiny_resnet(), CnnLayout::resnet, "layer3.0.conv4.weight"},
      {tiny_basic(), CnnLayout::resnet, "layer1.0.downsample.0.weight"},
      {tiny_basic(), CnnLayout::resnet, "fc.1.weight"},
      {tiny_resnet(), CnnLayout::resnet_hub, "resnet.encoder.stages.4.layers.0.gate"},
      {tiny_mobilenet(), CnnLayout::mobilenet_torchvision, "features.3.conv.3.gate"},
      {tiny_mobilenet(), CnnLayout::mobilenet_timm, "blocks.1.1.gate"},
      {tiny_vgg(false), CnnLayout::vgg, "features.3.scale"},
      {tiny_vgg(true), CnnLayout::vgg, "classifier.1.weight"},
  };
  for (const auto& [config, layout, name] : changed) {
    const Folder folder("changed");
    std::vector<OutputTensor> tensors = tensors_of(config, layout);
    tensors.push_back(output_tensor(name, Tensor::of({1}, {1})));
    save(folder, tensors);
    EXPECT_EQ(refusal(folder.path),
              fmt::format("DIR: 1 tensor lies inside layers that this architecture knows but not "
                          "with these tensors: '{}'; this is another architecture",
                          name));
    LoadOptions options;
    options.allow_unexpected = true;
    EXPECT_EQ(refusal(folder.path, options), "accepted");
  }
}

TEST(CnnLayouts, missing_and_misshapen_tensors_are_named) {
  const Folder folder("missing");
  std::vector<OutputTensor> tensors = tensors_of(tiny_resnet(), CnnLayout::resnet);
  std::erase_if(tensors, [](const OutputTensor& t) {
    return t.name == "layer2.1.bn2.running_var" || t.name == "layer4.0.conv2.weight";
  });
  for (OutputTensor& t : tensors)
    if (t.name == "layer3.0.bn1.weight") t.shape = {2, 3};
  save(folder, tensors);
  EXPECT_EQ(refusal(folder.path),
            "DIR: 2 tensors are missing: 'layer2.1.bn2.running_var' [5], "
            "'layer4.0.conv2.weight' [7, 7, 3, 3]; 'layer3.0.bn1.weight' is [2, 3] in the "
            "checkpoint, [6] in the other tensors");
  std::erase_if(tensors, [](const OutputTensor& t) { return t.name == "fc.weight"; });
  save(folder, tensors);
  EXPECT_EQ(refusal(folder.path), "DIR: tensor 'fc.weight' is missing");
}

TEST(CnnLayouts, relatives_are_refused_with_a_reason) {
  const auto with = [](std::vector<std::string> names, const Shape& shape = {1}) {
    const Folder folder("relatives");
    std::vector<OutputTensor> tensors;
    for (const std::string& name : names)
      tensors.push_back(output_tensor(name, Tensor(Type{shape})));
    save(folder, tensors);
    const std::string text = refusal(folder.path);
    return text.substr(0, text.find("; supported are"));
  };
  EXPECT_EQ(with({"conv1.0.weight", "layer1.0.bn1.weight"}),
            "DIR: this is a ResNet with several convolutions before its first layer (timm's c, d, "
            "s and t variants)");
  EXPECT_EQ(with({"mobilenet_v2.conv_stem.first_conv.convolution.weight"}),
            "DIR: this is a Hugging Face MobileNetV2, which is another network than the "
            "MobileNetV2 of torchvision and timm: it pads images on two sides only and has "
            "another norm epsilon");
  EXPECT_EQ(with({"blocks.0.0.conv_dw.weight", "blocks.1.0.se.conv_reduce.weight"}),
            "DIR: this is an EfficientNet or MobileNetV3 (timm)");
  EXPECT_EQ(with({"embedder.embedder.convolution.weight"}),
            "DIR: this is a Hugging Face ResNet without a classifier");
  EXPECT_EQ(with({"features.0.weight", "pre_logits.fc1.weight"}),
            "DIR: this is a VGG with timm's names");
  EXPECT_EQ(with({"conv1.weight", "layer1.0.bn1.weight"}, {4, 3, 3, 3}),
            "DIR: the first convolution is 3 x 3; only ResNets that begin with 7 x 7 and a "
            "max-pool are supported");
  EXPECT_EQ(with({"features.1.conv.0.0.weight", "features.4.conv.0.0.weight"}, {4, 1, 3, 3}),
            "DIR: 4 blocks in one sequence; where a MobileNetV2 strides is known for 17 only");
  EXPECT_EQ(with({"blocks.0.0.conv_dw.weight", "blocks.1.0.conv_dw.weight"}, {4, 1, 3, 3}),
            "DIR: a MobileNetV2 has 7 stages, this checkpoint has 2");
  EXPECT_EQ(with({"features.0.weight", "features.5.weight", "classifier.3.weight"}, {4, 3, 3, 3}),
            "DIR: 'features.5' does not stand where a VGG has a convolution");
  EXPECT_EQ(with({"features.0.weight", "classifier.3.weight"}),
            "DIR: 'features.0.weight' is not the weight of a convolution");
}

TEST(CnnLayouts, hostile_shapes_are_refused) {
  const Shape strange[] = {{0, 0, 7, 7}, {1, 0, 7, 7}, {4, 3, 7, 0}, {4}, {4, 3, 7}};
  for (const Shape& shape : strange) {
    const Folder folder("hostile");
    std::vector<OutputTensor> tensors;
    for (const char* name :
         {"conv1.weight", "layer1.0.conv1.weight", "layer1.0.conv2.weight", "layer1.0.conv3.weight",
          "layer2.0.conv1.weight", "layer2.0.conv3.weight", "layer3.0.conv1.weight",
          "layer3.0.conv3.weight", "layer4.0.conv1.weight", "layer4.0.conv3.weight",
          "layer1.0.bn1.weight"})
      tensors.push_back(output_tensor(name, Tensor(Type{shape})));
    tensors.push_back(output_tensor("fc.weight", Tensor(Type{Shape{2, 2}})));
    save(folder, tensors);
    EXPECT_NE(refusal(folder.path), "accepted") << to_string(shape);
  }
  const Folder folder("many");
  std::vector<OutputTensor> tensors = tensors_of(tiny_resnet(), CnnLayout::resnet);
  tensors.push_back(output_tensor("layer1.999999.conv1.weight", Tensor::of({1}, {1})));
  save(folder, tensors);
  EXPECT_EQ(refusal(folder.path), "DIR: 1000000 layers, the limit is 1000");
}

TEST(CnnLayouts, a_layout_of_another_architecture_cannot_be_written) {
  const CnnConfig c = tiny_vgg(false);
  EXPECT_THROW(cnn_checkpoint_tensors(c, random_cnn_weights(c, 1), CnnLayout::resnet), Error);
  ResNetConfig wide = tiny_resnet();
  for (auto& layer : wide.layers) layer.inner *= 2;
  const Folder folder("wide");
  EXPECT_THROW(
      write_cnn_checkpoint(folder.path, wide, random_cnn_weights(wide, 1), CnnLayout::resnet_hub),
      Error);
}

}  // namespace
}  // namespace whence
