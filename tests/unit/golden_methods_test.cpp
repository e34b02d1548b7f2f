// Every method against results of PyTorch implementations, on tiny models in every layout
// (tests/golden/README.md).
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "io/npy.h"
#include "tests/unit/golden_file.h"
#include "whence/explain.h"

namespace whence {
namespace {

// The reference's own float32 run differs from its float64 run by up to 2.8e-6 of the largest
// entry; the float build may differ by a few times that, the double build only by rounding.
constexpr double bound = sizeof(real) == 8 ? 1e-9 : 1e-5;

struct Golden {
  explicit Golden(const std::string& name)
      : facts(golden_json(name + ".json")),
        file(SafetensorsFile::open(golden_path(name + ".golden.safetensors"))) {}
  Tensor at(const std::string& key) const { return file.read(key); }
  nlohmann::json facts;
  SafetensorsFile file;
};

// A torchvision file has no config; the number of heads, which no shape tells, is stated beside a
// copy.
std::filesystem::path with_config(const std::filesystem::path& folder) {
  const auto copy = std::filesystem::path(testing::TempDir()) /
                    fmt::format("whence-golden-torchvision-{}", getpid());
  std::filesystem::remove_all(copy);
  std::filesystem::copy(folder, copy);
  std::ofstream(copy / "config.json")
      << R"({"model_type": "vit", "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 36,
             "image_size": 12, "patch_size": 3, "num_labels": 7, "layer_norm_eps": 1e-6, "hidden_act": "gelu"})";
  return copy;
}

std::shared_ptr<const Model> load(const std::string& folder) {
  const auto path = golden_path(folder);
  return std::make_shared<Model>(
      load_model(std::filesystem::exists(path / "config.json") ? path : with_config(path)));
}

// "integrated_gradients.riemann_left.steps6.tensor.logit.target" and its options as a request.
Request request_for(const std::string& key, const nlohmann::json& facts, const Golden& golden) {
  Request r;
  std::string id = key.substr(0, key.find('.'));
  std::replace(id.begin(), id.end(), '_', '-');
  r.method = id;
  const auto put = [&](const char* from, const char* to) {
    if (!facts.contains(from)) return;
    const auto& v = facts[from];
    r.options[to] = v.is_string() ? v.get<std::string>() : v.dump();
  };
  put("of", "gradient_of");
  put("rule", "rule");
  put("steps", "steps");
  put("start_layer", "start_layer");
  put("noise_amount", "noise_amount");
  put("n_samples", "n_samples");
  if (key.find(".raw.") != std::string::npos) r.options["normalise"] = "false";
  if (key.find(".no_integral.") != std::string::npos) r.options["with_integral"] = "false";
  if (key.find(".last_state.") != std::string::npos) r.options["last_state_only"] = "true";
  if (id == "smoothgrad") r.draws = golden.at("smoothgrad.draws");
  if (facts.value("baseline", "") == "trials") {
    r.options["baselines"] = "random";
    r.options["num_random_trials"] = "2";
    r.draws = golden.at("baseline.trials");
  }
  return r;
}

bool is_method(const std::string& key) {
  for (const char* prefix :
       {"gradient.", "input_x_gradient", "integrated_gradients", "smoothgrad.noise",
        "attention_last", "attention_grad_cam", "rollout", "generic_attention", "tam"})
    if (key.starts_with(prefix)) return !key.ends_with(".gap");
  return false;
}

// Samples have baselines of their own in the golden file; a request has one for all, so samples run
// one by one.
std::vector<std::vector<Result>> explain_each(Explainer& explainer, const Tensor& input,
                                              Request request, const Golden& golden) {
  std::vector<std::vector<Result>> results;
  const auto file = std::filesystem::path(testing::TempDir()) /
                    fmt::format("whence-golden-baseline-{}.npy", getpid());
  for (int64_t i = 0; i < input.shape()[0]; ++i) {
    const auto bytes = encode_npy(golden.at("baseline").slice(i, i + 1));
    std::ofstream(file, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), std::streamsize(bytes.size()));
    request.options["baselines"] = file.string();
    Explainer fresh(std::make_shared<Model>(explainer.model()));
    results.push_back(fresh.explain(input.slice(i, i + 1), request)[0]);
  }
  return results;
}

void check_model(const std::string& name, const std::string& folder) {
  const Golden golden(name);
  Explainer explainer(load(folder));
  const Tensor input = golden.at("input");
  expect_close(explainer.logits(input).reals(), golden.at("logits").reals(), bound,
               folder + " logits");
  int compared = 0;
  for (const auto& [key, facts] : golden.facts["results"].items()) {
    if (!is_method(key)) continue;
    SCOPED_TRACE(folder + " " + key);
    Request request = request_for(key, facts, golden);
    std::vector<int64_t> labels = golden.facts["labels"][facts.value("labels", "predicted")];
    const std::set<int64_t> distinct(labels.begin(), labels.end());
    request.targets.clear();
    for (int64_t label : distinct) request.targets.push_back({label, -1});
    const auto results = facts.value("baseline", "") == "tensor"
                             ? explain_each(explainer, input, request, golden)
                             : explainer.explain(input, request);
    const Tensor want = golden.at(key);
    Tensor got(want.type());
    Tensor gaps(Type{{want.shape()[0]}});
    for (size_t i = 0; i < labels.size(); ++i) {
      const auto index = size_t(std::distance(distinct.begin(), distinct.find(labels[i])));
      const Result& r = results[i][index];
      ASSERT_EQ(r.attribution.shape().count(), want.shape().count(1, want.shape().rank()));
      std::copy(r.attribution.reals().begin(), r.attribution.reals().end(),
                got.slice(int64_t(i), int64_t(i) + 1).reals().begin());
      if (r.gap) gaps.reals()[i] = real(*r.gap);
    }
    expect_close(got.reals(), want.reals(), bound, key);
    if (golden.facts["results"].contains(key + ".gap")) {
      // A gap is a small difference of large sums: its bound is the sums' bound.
      const Tensor expected = golden.at(key + ".gap");
      double sums = 1;
      for (real x : want.reals()) sums += std::abs(double(x));
      for (size_t i = 0; i < labels.size(); ++i)
        EXPECT_NEAR(gaps.reals()[i], expected.reals()[i], bound * sums) << key;
    }
    ++compared;
  }
  EXPECT_GT(compared, 10) << folder;
}

TEST(GoldenMethods, layouts_of_the_same_weights_give_equal_bits) {
  const Tensor input = Golden("vit_tiny").at("input");
  Explainer timm(load("vit_tiny"));
  for (const char* folder : {"vit_tiny_hf", "vit_tiny_torchvision"}) {
    Explainer other(load(folder));
    EXPECT_EQ(other.model().weights.digest, timm.model().weights.digest);
    const Tensor a = timm.logits(input), b = other.logits(input);
    EXPECT_EQ(0, std::memcmp(a.data(), b.data(), a.type().bytes())) << folder;
  }
}

TEST(GoldenMethods, vit_in_timm_layout) { check_model("vit_tiny", "vit_tiny"); }
TEST(GoldenMethods, vit_in_hub_layout) { check_model("vit_tiny", "vit_tiny_hf"); }
TEST(GoldenMethods, vit_in_torchvision_layout) { check_model("vit_tiny", "vit_tiny_torchvision"); }
TEST(GoldenMethods, distilled_vit) { check_model("vit_distilled", "vit_distilled"); }
TEST(GoldenMethods, distilled_vit_in_hub_layout) {
  check_model("vit_distilled", "vit_distilled_hf");
}
TEST(GoldenMethods, mean_pooled_vit) { check_model("vit_mean", "vit_mean"); }
TEST(GoldenMethods, mean_pooled_vit_without_class_token) {
  check_model("vit_mean_no_token", "vit_mean_no_token");
}
TEST(GoldenMethods, vit_with_registers_and_layer_scale) {
  check_model("vit_registers", "vit_registers");
}

}  // namespace
}  // namespace whence
