// Tiny convolutional classifiers against PyTorch (tests/golden/make_cnn.py), and methods on them.
#include "tests/unit/golden_cnn.h"
#include "whence/error.h"
#include "whence/explain.h"
#include "whence/ops.h"
#include "whence/plan.h"

namespace whence {
namespace {

// The reference's own float32 run differs from its float64 run by up to 2.9e-6 of the largest
// entry.
constexpr double bound = sizeof(real) == 8 ? 1e-9 : 1e-5;

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
      EXPECT_EQ(explain(x, method)[1][0].attribution.shape(), model->image_shape()) << method;
    for (const char* method :
         {"attention-last", "attention-grad-cam", "rollout", "generic-attention", "tam"})
      EXPECT_THROW(explain(x, method), Error) << method;
  }
}

}  // namespace
}  // namespace whence
