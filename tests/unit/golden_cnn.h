// The tiny convolutional classifiers of tests/golden/make_cnn.py. Weights and inputs are not
// stored: a name, a seed and an index determine every number.
#pragma once

#include <fmt/core.h>
#include <unistd.h>

#include "tests/checkpoints/checkpoints.h"
#include "tests/unit/golden_file.h"
#include "tests/unit/loaded.h"
#include "whence/model.h"

namespace whence {

inline uint64_t mixed(uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

inline std::vector<double> draw(const std::string& name, uint64_t seed, size_t count) {
  uint64_t stream = mixed(seed);
  for (unsigned char c : name) stream = mixed(stream ^ c);
  std::vector<double> values(count);
  for (size_t i = 0; i < count; ++i) {
    double sum = 0;
    for (uint64_t k = 0; k < 4; ++k)
      sum += double(mixed(stream ^ mixed(4 * i + k)) >> 11) * 0x1p-53;
    values[i] = (sum - 2.0) * 1.7320508075688772;
  }
  return values;
}

inline std::vector<real> values_of(const std::string& name, const std::vector<int64_t>& shape,
                                   uint64_t seed) {
  int64_t inputs = 1;
  for (size_t i = 1; i < shape.size(); ++i) inputs *= shape[i];
  double centre = 0, deviation = 0;
  if (name.ends_with("running_var"))
    centre = 1, deviation = 0.2;
  else if (name.ends_with("running_mean"))
    deviation = 0.2;
  else if (name.ends_with("bias"))
    deviation = 0.1;
  else if (shape.size() == 1)
    centre = 1, deviation = 0.2;
  else
    deviation = std::sqrt((shape.size() == 4 ? 2.0 : 1.0) / double(inputs));
  std::vector<real> values;
  for (double z : draw(name, seed, size_t(shape[0] * inputs)))
    values.push_back(real(static_cast<float>(centre + deviation * z)));
  return values;
}

struct Tiny {
  std::string name;
  CnnLayout layout;
  CnnConfig config;
};
inline std::vector<Tiny> tiny_models() {
  std::vector<Tiny> models;
  ResNetConfig basic;
  basic.stem = 6, basic.bottleneck = false;
  basic.layers = {{{2, 6, 6, 1}, {1, 8, 8, 2}, {1, 10, 10, 2}, {2, 12, 12, 2}}};
  models.push_back({"resnet_basic", CnnLayout::resnet, basic});
  ResNetConfig grouped;
  grouped.stem = 8, grouped.groups = 2;
  grouped.layers = {{{1, 6, 16, 1}, {2, 12, 32, 2}, {1, 18, 48, 2}, {1, 24, 64, 2}}};
  models.push_back({"resnet_grouped", CnnLayout::resnet, grouped});
  ResNetConfig first;
  first.stem = 8, first.stride_in_first = true;
  first.layers = {{{1, 4, 16, 1}, {2, 6, 24, 2}, {1, 8, 32, 2}, {1, 10, 40, 2}}};
  models.push_back({"resnet_hub_first", CnnLayout::resnet_hub, first});
  ResNetConfig hub_basic = basic;
  hub_basic.layers[0].stride = 2;
  hub_basic.layers[3].blocks = 1;
  models.push_back({"resnet_hub_basic", CnnLayout::resnet_hub, hub_basic});
  MobileNetV2Config mobile;
  mobile.stem = 8, mobile.last = 24;
  const int64_t widths[] = {8, 8, 8, 8, 16, 24, 40};
  for (size_t s = 0; s < 7; ++s) mobile.stages[s].channels = widths[s];
  models.push_back({"mobilenet", CnnLayout::mobilenet_torchvision, mobile});
  mobile.last = 16;
  const int64_t narrow[] = {8, 8, 8, 8, 16, 16, 32}, repeats[] = {1, 1, 2, 2, 2, 2, 1};
  for (size_t s = 0; s < 7; ++s)
    mobile.stages[s].channels = narrow[s], mobile.stages[s].blocks = repeats[s];
  models.push_back({"mobilenet_timm", CnnLayout::mobilenet_timm, mobile});
  VggConfig vgg;
  vgg.layers = {{6}, {8, 8}, {10}, {12, 10}, {8}};
  vgg.pooled = 2, vgg.hidden = {20, 18};
  models.push_back({"vgg", CnnLayout::vgg, vgg});
  vgg.batch_norm = true;
  models.push_back({"vgg_bn", CnnLayout::vgg, vgg});
  for (Tiny& t : models) sizes_of(t.config).classes = 7;
  return models;
}

// A checkpoint as PyTorch would save the golden model, loaded.
inline std::shared_ptr<const Model> golden_model(Tiny tiny, const nlohmann::json& about) {
  sizes_of(tiny.config).image_height = about.at("height");
  sizes_of(tiny.config).image_width = about.at("width");
  const std::filesystem::path folder = std::filesystem::path(testing::TempDir()) /
                                       fmt::format("whence_cnn_{}_{}", tiny.name, getpid());
  const Weights any = random_cnn_weights(tiny.config, 1);
  write_cnn_checkpoint(folder, tiny.config, any, tiny.layout);
  std::vector<OutputTensor> tensors = cnn_checkpoint_tensors(tiny.config, any, tiny.layout);
  for (OutputTensor& t : tensors)
    t = output_tensor(t.name,
                      Tensor::of(Shape(t.shape), values_of(t.name, t.shape, about.at("seed"))));
  write_safetensors(folder / "model.safetensors", tensors);
  const LoadedCnn loaded = load_cnn(folder);
  EXPECT_EQ(loaded.config, tiny.config);
  auto model = std::make_shared<Model>(load_model(folder));
  std::filesystem::remove_all(folder);
  return model;
}

inline Tensor golden_input(const std::string& name, const nlohmann::json& about) {
  const int64_t h = about.at("height"), w = about.at("width");
  std::vector<real> values;
  for (double z : draw("input." + name, about.at("seed"), size_t(2 * 3 * h * w)))
    values.push_back(real(static_cast<float>(z)));
  return Tensor::of({2, 3, h, w}, values);
}

}  // namespace whence
