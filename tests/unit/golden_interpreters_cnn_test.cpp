// Numbers of InterpretDL 0.8.0 on one tiny convolutional network.
#include "tests/unit/golden_file.h"
#include "whence/explain.h"
#include "whence/ops.h"

namespace whence {
namespace {

// The reference computed in float32.
constexpr double bound = 1e-5;

std::shared_ptr<Model> golden_model(const nlohmann::json& params) {
  auto m = std::make_shared<Model>();
  m->name = "golden";
  m->ports = {{"image", Type{{3, 12, 12}}, Port::Role::picture}};
  m->places.features = "features.last";
  m->classes = 5;
  m->build = [](Graph& g, int64_t batch) {
    const Value image = g.has("image") ? g.at("image") : g.input("image", Type{{batch, 3, 12, 12}});
    const auto weight = [&](const char* name, Shape shape) { return g.weight(name, shape); };
    Value x = relu(conv2d(channels_last(image), weight("c1.weight", {4, 3, 3, 3}),
                          weight("c1.bias", {4}), {.stride = 1, .pad = 1}));
    x = relu(conv2d(x, weight("c2.weight", {6, 4, 3, 3}), weight("c2.bias", {6}),
                    {.stride = 2, .pad = 1}));
    x = mean(g.name(x, "features.last"), {1, 2});
    x = linear(x, weight("fc.weight", {5, 6}), weight("fc.bias", {5}));
    return g.name(scale(x, 3), "logits");
  };
  for (const auto& [name, array] : params.items()) m->weights.tensors[name] = json_tensor(array);
  const Tensor in_out = m->weights.tensors["fc.weight"];
  Tensor out_in(Type{{5, 6}});
  for (size_t i = 0; i < 6; ++i)
    for (size_t o = 0; o < 5; ++o) out_in.reals()[o * 6 + i] = in_out.reals()[i * 5 + o];
  m->weights.tensors["fc.weight"] = out_in;
  return m;
}

Tensor golden_images(const Model& m, const nlohmann::json& golden) {
  const std::vector<int> u8 = golden.at("images_u8").at("data");
  Tensor x(Type{{2, 3, 12, 12}});
  const size_t n = 12 * 12 * 3;
  for (size_t i = 0; i < 2; ++i) {
    const Image image{12, 12, {u8.begin() + long(i * n), u8.begin() + long((i + 1) * n)}};
    const Tensor one = m.preprocess.normalise(image);
    std::copy(one.reals().begin(), one.reals().end(), x.reals().begin() + long(i * n));
  }
  return x;
}

TEST(GoldenInterpreters, methods_of_convolutional_networks) {
  const auto golden = golden_json("interpreters_cnn.json");
  const auto model = golden_model(golden.at("params"));
  const Tensor x = golden_images(*model, golden);
  Explainer explainer(model);
  expect_close(explainer.logits(x).reals(), json_tensor(golden.at("logits")).reals(), bound,
               "logits");
  const auto check = [&](const char* key, const char* method,
                         std::map<std::string, std::string> options, Tensor draws = {}) {
    Request request;
    request.method = method;
    request.options = std::move(options);
    request.draws = std::move(draws);
    const Tensor want = json_tensor(golden.at(key).at("expected"));
    const auto results = explainer.explain(x, request);
    for (int64_t i = 0; i < 2; ++i)
      expect_close(results[size_t(i)][0].attribution.reals(), want.slice(i, i + 1).reals(), bound,
                   key);
  };
  check("gradcam", "grad-cam", {{"reduce", "mean"}, {"gradient_of", "probability"}});
  check("scorecam", "score-cam", {});
  const Tensor z = json_tensor(golden.at("smoothgrad").at("z"));
  check("smoothgrad", "smoothgrad", {{"n_samples", "2"}}, z);
  check("smoothgrad_logit", "smoothgrad", {{"n_samples", "2"}, {"gradient_of", "logit"}}, z);
  check("smoothgrad_loss", "smoothgrad", {{"n_samples", "2"}, {"gradient_of", "loss"}}, z);
  check("intgrad_zero", "integrated-gradients", {{"steps", "4"}});
  check("intgrad_random", "integrated-gradients",
        {{"steps", "3"}, {"baselines", "random"}, {"num_random_trials", "2"}},
        json_tensor(golden.at("intgrad_random").at("baselines")));
}

}  // namespace
}  // namespace whence
