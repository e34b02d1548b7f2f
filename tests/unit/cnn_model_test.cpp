// Tiny convolutional classifiers against PyTorch (tests/golden/make_cnn.py), and methods on them.
// Weights and inputs are not stored: a name, a seed and an index determine every number.
#include <fmt/format.h>
#include <unistd.h>

#include "models/load.h"
#include "tests/unit/golden_file.h"
#include "weights/generate.h"
#include "whence/error.h"
#include "whence/explain.h"
#include "whence/ops.h"
#include "whence/plan.h"

namespace whence {
namespace {

namespace fs = std::filesystem;

// The reference's own float32 run differs from its float64 run by up to 2.9e-6 of the largest
// entry.
constexpr double bound = sizeof(real) == 8 ? 1e-9 : 1e-5;

// --- the numbers of make_cnn.py
// --------------------------------------------------------------------

uint64_t mixed(uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

std::vector<double> draw(const std::string& name, uint64_t seed, size_t count) {
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

std::vector<real> values_of(const std::string& name, const std::vector<int64_t>& shape,
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
std::vector<Tiny> tiny_models() {
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
std::shared_ptr<const Model> golden_model(Tiny tiny, const nlohmann::json& about) {
  sizes_of(tiny.config).image_height = about.at("height");
  sizes_of(tiny.config).image_width = about.at("width");
  const fs::path folder =
      fs::path(testing::TempDir()) / fmt::format("whence_cnn_{}_{}", tiny.name, getpid());
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
  fs::remove_all(folder);
  return model;
}

Tensor golden_input(const std::string& name, const nlohmann::json& about) {
  const int64_t h = about.at("height"), w = about.at("width");
  std::vector<real> values;
  for (double z : draw("input." + name, about.at("seed"), size_t(2 * 3 * h * w)))
    values.push_back(real(static_cast<float>(z)));
  return Tensor::of({2, 3, h, w}, values);
}

// [B, C, H, W] of the reference as [B, H, W, C].
std::vector<real> channels_last_values(const Tensor& x) {
  const Shape& s = x.shape();
  std::vector<real> y(x.reals().size());
  size_t from = 0;
  for (int64_t b = 0; b < s[0]; ++b)
    for (int64_t c = 0; c < s[1]; ++c)
      for (int64_t p = 0; p < s[2] * s[3]; ++p)
        y[size_t((b * s[2] * s[3] + p) * s[1] + c)] = x.reals()[from++];
  return y;
}

TEST(CnnModel, logits_features_and_gradients_are_those_of_pytorch) {
  const auto about = golden_json("cnn.json").at("tiny");
  const auto file = SafetensorsFile::open(golden_path("cnn.golden.safetensors"));
  for (const Tiny& tiny : tiny_models()) {
    SCOPED_TRACE(tiny.name);
    const auto model = golden_model(tiny, about.at(tiny.name));
    const Tensor x = golden_input(tiny.name, about.at(tiny.name));
    Graph g;
    const Value logits = model->build(g, 2);
    const Value seed = g.input("seed", logits.type(), Stage::seed);
    const Value dx = gradient(logits, seed, {g.at("image")})[0], last = g.at("features.last");
    EXPECT_EQ(last.shape()[1], model->grid_height);
    EXPECT_EQ(last.shape()[2], model->grid_width);
    Plan plan({logits, last, dx});
    plan.bind(model->weights);
    plan.set(g.at("image"), x);
    std::vector<real> chosen(14);
    for (size_t b = 0; b < 2; ++b) chosen[b * 7 + (2 * b + 1)] = 1;
    plan.set(seed, Tensor::of({2, 7}, chosen));
    plan.forward();
    plan.backward();
    const auto want = [&](const char* key) { return file.read(tiny.name + "." + key); };
    expect_close(plan.get(logits).reals(), want("logits").reals(), bound, "logits");
    expect_close(plan.get(last).reals(), channels_last_values(want("features")), bound, "features");
    const Tensor got = plan.get(dx);
    std::vector<real> sampled, dots(2);
    for (size_t i = 0; i < got.reals().size(); i += 7) sampled.push_back(got.reals()[i]);
    for (size_t i = 0; i < got.reals().size(); ++i)
      dots[i / (got.reals().size() / 2)] += got.reals()[i] * x.reals()[i];
    expect_close(sampled, want("gradient").reals(), bound, "gradient");
    expect_close(dots, want("gradient_dot_input").reals(), 10 * bound, "gradient . input");
  }
}

// A folder that transformers saved: its own config.json, and counters beside the statistics.
TEST(CnnModel, a_saved_folder_holds_the_same_model) {
  const auto about = golden_json("cnn.json").at("tiny").at("resnet_hub_first");
  const Tiny tiny = tiny_models()[2];
  ASSERT_EQ(tiny.name, "resnet_hub_first");
  const LoadedCnn saved = load_cnn(golden_path("cnn_resnet_hub"));
  EXPECT_EQ(saved.weights.digest, golden_model(tiny, about)->weights.digest);
  ResNetConfig want = std::get<ResNetConfig>(tiny.config);
  want.image_height = want.image_width = 224;
  EXPECT_EQ(saved.config, CnnConfig(want));
  EXPECT_EQ(saved.labels[6], "LABEL_6");
  EXPECT_EQ(saved.account.skipped.size(), 20u);
  for (const auto& skipped : saved.account.skipped)
    EXPECT_TRUE(skipped.stored.ends_with("num_batches_tracked")) << skipped.stored;
}

TEST(CnnModel, methods_of_any_model_run_and_those_of_transformers_refuse) {
  const auto about = golden_json("cnn.json").at("tiny");
  const auto file = SafetensorsFile::open(golden_path("cnn.golden.safetensors"));
  for (const Tiny& tiny : tiny_models()) {
    if (tiny.name != "resnet_basic" && tiny.name != "mobilenet_timm") continue;
    SCOPED_TRACE(tiny.name);
    const auto model = golden_model(tiny, about.at(tiny.name));
    const Tensor x = golden_input(tiny.name, about.at(tiny.name));
    Explainer::Settings settings;
    settings.threads = 1;
    Explainer explainer(model, settings);
    expect_close(explainer.logits(x).reals(), file.read(tiny.name + ".logits").reals(), bound,
                 "logits");
    const auto explain = [&](const Tensor& images, const char* method,
                             std::map<std::string, std::string> options = {}) {
      Request r;
      r.method = method;
      r.options = {options.begin(), options.end()};
      r.targets = {Target{1, -1}};
      return explainer.explain(images, r);
    };
    const Tensor want = file.read(tiny.name + ".gradient");
    const auto got = explain(x, "gradient", {{"gradient_of", "logit"}});
    std::vector<real> sampled, expected;
    const auto values = got[0][0].attribution.reals();
    for (size_t i = 0; i < values.size(); i += 7)
      sampled.push_back(values[i]), expected.push_back(want.reals()[i / 7]);
    expect_close(sampled, expected, bound, "gradient");
    // Sums of the gradient approach the difference of the scores; slowly, where it jumps.
    const Tensor first = x.slice(0, 1);
    const auto ig =
        explain(first, "integrated-gradients", {{"steps", "300"}, {"gradient_of", "logit"}});
    const Tensor logits = explainer.logits(first);
    const Tensor zero = explainer.logits(Tensor(first.type()));
    double sum = 0;
    for (real v : ig[0][0].attribution.reals()) sum += v;
    const double rise = logits.reals()[1] - zero.reals()[1];
    EXPECT_NEAR(sum, rise, 0.05 * std::abs(rise) + 0.02);
    for (const char* method : {"input-x-gradient", "smoothgrad"})
      EXPECT_EQ(explain(x, method)[1][0].attribution.shape(), model->input) << method;
    for (const char* method :
         {"attention-last", "attention-grad-cam", "rollout", "generic-attention", "tam"})
      EXPECT_THROW(explain(x, method), Error) << method;
  }
}

}  // namespace
}  // namespace whence
