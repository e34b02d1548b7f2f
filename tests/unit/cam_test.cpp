// Class activation maps against their formulas in double, evaluated from a layer's values and
// gradients; which layers they can read.
#include <algorithm>

#include "tests/unit/golden_file.h"
#include "tests/unit/message_of.h"
#include "tests/unit/random_tensors.h"
#include "tests/unit/tiny_model.h"
#include "whence/ops.h"
#include "whence/plan.h"

namespace whence {
namespace {

// Float sums of a few dozen terms of mixed signs.
constexpr double bound = sizeof(real) == 8 ? 1e-12 : 1e-5;

constexpr int64_t target = 2, other = 4;  // what is explained: logit 2 minus logit 4

// A layer's values and its gradients at H*W positions of C channels, of one image.
struct Cells {
  int64_t height, width, channels;
  std::vector<double> f, g;  // [H*W, C]
  int64_t count() const { return height * width; }
};

// `prefix`: of tokens; -1 for [B, H, W, C], -2 for [B, C, H, W].
std::vector<Cells> cells(const Model& model, const std::string& layer, const Tensor& x,
                         int64_t prefix) {
  Graph graph;
  const int64_t batch = x.shape()[0];
  const Value logits = model.build(graph, batch);
  const Value seed = graph.input("seed", logits.type(), Stage::seed);
  const Value f = graph.at(layer), g = gradient(logits, seed, {f})[0];
  Plan plan({f, g});
  plan.bind(model.weights);
  plan.set(graph.at("image"), x);
  for (int64_t b = 0; b < batch; ++b) {
    plan.input(seed)[size_t(b * model.classes + target)] = 1;
    plan.input(seed)[size_t(b * model.classes + other)] = -1;
  }
  plan.forward();
  plan.backward();
  const Shape& s = f.shape();
  std::vector<Cells> all;
  for (int64_t b = 0; b < batch; ++b) {
    Cells c =
        prefix == -1 ? Cells{s[1], s[2], s[3], {}, {}}
        : prefix == -2
            ? Cells{s[2], s[3], s[1], {}, {}}
            : Cells{model.places.towers[0].rows, model.places.towers[0].columns, s[2], {}, {}};
    for (int64_t p = 0; p < c.count(); ++p)
      for (int64_t k = 0; k < c.channels; ++k) {
        const int64_t n = s.count(1, s.rank());
        const int64_t at =
            b * n + (prefix == -2 ? k * c.count() + p
                                  : (p + std::max<int64_t>(prefix, 0)) * c.channels + k);
        c.f.push_back(double(plan.view(f)[size_t(at)]));
        c.g.push_back(double(plan.view(g)[size_t(at)]));
      }
    all.push_back(std::move(c));
  }
  return all;
}

std::vector<double> weights_of(const std::string& method, const Cells& c) {
  std::vector<double> w(size_t(c.channels), 0);
  for (int64_t k = 0; k < c.channels; ++k) {
    double total = 0;
    for (int64_t p = 0; p < c.count(); ++p) total += c.f[size_t(p * c.channels + k)];
    for (int64_t p = 0; p < c.count(); ++p) {
      const double g = c.g[size_t(p * c.channels + k)];
      if (method == "grad-cam") {
        w[size_t(k)] += g / double(c.count());
      } else if (g > 0) {
        const double share = g * g / (2 * g * g + total * g * g * g);
        w[size_t(k)] += share * g;
      }
    }
  }
  return w;
}

// How much Grad-CAM++ magnifies roundings: where a channel's total is negative its shares have a
// denominator that cancels.
double magnification(const Cells& c) {
  double most = 1;
  for (int64_t k = 0; k < c.channels; ++k) {
    double total = 0;
    for (int64_t p = 0; p < c.count(); ++p) total += c.f[size_t(p * c.channels + k)];
    for (int64_t p = 0; p < c.count(); ++p) {
      const double product = std::max(c.g[size_t(p * c.channels + k)], 0.0) * total;
      most = std::max(most, (2 + std::abs(product)) / std::abs(2 + product));
    }
  }
  return most;
}

std::vector<real> map_of(const std::string& method, const Cells& c, bool positive,
                         double factor = 1) {
  std::vector<double> w;
  if (method != "layer-cam") w = weights_of(method, c);
  std::vector<real> map;
  for (int64_t p = 0; p < c.count(); ++p) {
    double sum = 0;
    for (int64_t k = 0; k < c.channels; ++k) {
      const size_t at = size_t(p * c.channels + k);
      sum += (w.empty() ? std::max(c.g[at], 0.0) : w[size_t(k)]) * c.f[at];
    }
    map.push_back(real(positive ? std::max(sum * factor, 0.0) : sum * factor));
  }
  return map;
}

std::vector<std::vector<Result>> explain(const std::shared_ptr<const Model>& model,
                                         const std::string& method, const Tensor& x,
                                         const std::string& layer,
                                         std::map<std::string, std::string> options = {}) {
  Request request;
  request.method = method;
  request.options = std::move(options);
  request.targets = {Target{target, other}};
  request.layer = layer;
  return Explainer(model).explain(x, request);
}

void expect_formulas(const std::shared_ptr<const Model>& model, const std::string& layer,
                     int64_t prefix) {
  SCOPED_TRACE(model->name + " " + layer);
  const Tensor x = random_tensor(
      {2, model->image_shape()[0], model->image_shape()[1], model->image_shape()[2]}, 17);
  const auto want = cells(*model, layer, x, prefix);
  for (const char* method : {"grad-cam", "grad-cam-pp", "layer-cam"})
    for (const bool positive : {false, true}) {
      const auto got = explain(model, method, x, layer, {{"relu", positive ? "true" : "false"}});
      for (size_t i = 0; i < 2; ++i) {
        EXPECT_EQ(got[i][0].attribution.shape(), (Shape{want[i].height, want[i].width}));
        const bool shares = std::string(method) == "grad-cam-pp";
        expect_close(got[i][0].attribution.reals(), map_of(method, want[i], positive),
                     bound * (shares ? magnification(want[i]) : 1), method);
      }
    }
  const auto mean = explain(model, "grad-cam", x, layer, {{"reduce", "mean"}});
  const auto each = explain(model, "grad-cam", x, layer, {{"reduce", "none"}, {"relu", "false"}});
  const auto values = explain(model, "layer-activation", x, layer);
  for (size_t i = 0; i < 2; ++i) {
    const Cells& c = want[i];
    expect_close(mean[i][0].attribution.reals(),
                 map_of("grad-cam", c, true, 1 / double(c.channels)), bound, "mean");
    const auto w = weights_of("grad-cam", c);
    std::vector<real> channels, f;
    for (int64_t k = 0; k < c.channels; ++k)
      for (int64_t p = 0; p < c.count(); ++p) {
        f.push_back(real(c.f[size_t(p * c.channels + k)]));
        channels.push_back(real(w[size_t(k)] * c.f[size_t(p * c.channels + k)]));
      }
    const Shape shape{c.channels, c.height, c.width};
    EXPECT_EQ(each[i][0].attribution.shape(), shape);
    expect_close(each[i][0].attribution.reals(), channels, bound, "none");
    expect_same_bits(values[i][0].attribution, Tensor::of(shape, f));
  }
}

TEST(Cam, maps_of_convolutional_networks_are_their_formulas) {
  const auto model = tiny_cnn();
  for (const char* layer :
       {"features.last", "layer1", "layer1.1", "layer2.1.norm", "layer2.2.conv", "pool"})
    expect_formulas(model, layer, -1);
  expect_formulas(model, "image", -2);
}

std::shared_ptr<const Model> vit_with(const char* name, const std::function<void(ViTConfig&)>& f) {
  ViTConfig c;
  c.image_height = 8;
  c.image_width = 12;
  c.patch = 4;
  c.width = 10;
  c.depth = 2;
  c.heads = 2;
  c.mlp = 14;
  c.classes = 5;
  f(c);
  auto m = std::make_shared<Model>(random_model(c, 3));
  m->name = name;
  return m;
}

TEST(Cam, maps_of_transformers_are_their_formulas_on_the_patches) {
  const std::shared_ptr<const Model> models[] = {
      vit_with("one token", [](ViTConfig&) {}),
      vit_with("distilled", [](ViTConfig& c) { c.distilled = true; }),
      vit_with("registers", [](ViTConfig& c) { c.registers = 2; }),
      vit_with("no token",
               [](ViTConfig& c) {
                 c.class_token = false;
                 c.pooling = ViTConfig::Pooling::mean;
               }),
  };
  for (const auto& model : models) {
    for (const char* layer : {"blocks.1.norm1", "blocks.0.out", "blocks.1.attn.v", "embed.out"})
      expect_formulas(model, layer, model->places.towers[0].prefix_tokens);
    expect_formulas(model, "embed.patches", 0);
  }
  expect_formulas(models[0], "blocks.0.mlp.hidden", 1);
  expect_formulas(models[0], "image", -2);
}

TEST(Cam, without_a_layer_the_last_one_with_a_place_on_the_image_is_read) {
  for (const auto& [model, layer] :
       {std::pair<std::shared_ptr<const Model>, const char*>{tiny_model(3), "blocks.2.norm1"},
        {tiny_cnn(), "features.last"}}) {
    const Tensor x = random_tensor({1, 3, 12, 20}, 4);
    for (const char* id : {"grad-cam", "grad-cam-pp", "layer-cam", "score-cam", "layer-activation",
                           "guided-grad-cam"}) {
      EXPECT_TRUE(method(id).takes_layer);
      if (!applies(method(id), *model)) continue;
      expect_same_bits(explain(model, id, x, "")[0][0].attribution,
                       explain(model, id, x, layer)[0][0].attribution);
    }
  }
}

// Behind the last attention only the token that is read has a gradient.
TEST(Cam, a_layer_that_reaches_the_answer_through_no_patch_gives_a_flat_map) {
  const Tensor x = random_tensor({1, 3, 12, 20}, 4);
  const Result result = explain(tiny_model(2), "grad-cam", x, "norm")[0][0];
  EXPECT_TRUE(result.flat);
  for (real e : result.attribution.reals()) EXPECT_EQ(e, 0);
}

TEST(Cam, places_that_are_no_layers_are_refused) {
  const Tensor x = random_tensor({1, 3, 12, 20}, 4);
  const std::shared_ptr<const Model> cnn = tiny_cnn(), vit = tiny_model(2);
  const auto refusal = [&](const std::shared_ptr<const Model>& model, const char* layer) {
    return message([&] { explain(model, "grad-cam", x, layer); });
  };
  EXPECT_EQ(refusal(cnn, "feature.last"),
            "method grad-cam: 'tiny-cnn' has no layer 'feature.last'; the nearest are "
            "'features.last', 'layer1.1', 'layer2.1'");
  EXPECT_EQ(refusal(cnn, "layer2.1.conv.weight"),
            "method grad-cam: layer 'layer2.1.conv.weight' is a weight, a feature map [H, W, C] is "
            "needed; the nearest are 'layer2.1.conv', 'layer1.1.conv', 'layer2.2.conv'");
  EXPECT_EQ(refusal(cnn, "fc1.act"),
            "method grad-cam: layer 'fc1.act' has shape [8], a feature map [H, W, C] is needed; "
            "the nearest are 'image', 'layer1', 'layer2'");
  EXPECT_EQ(refusal(vit, "blocks.1.attn.probs").substr(0, 102),
            "method grad-cam: layer 'blocks.1.attn.probs' has shape [3, 16, 16], tokens [16 or 15, "
            "C] is needed; th");
  EXPECT_EQ(refusal(vit, "blocks.1.attn.probs_mean").substr(0, 84),
            "method grad-cam: layer 'blocks.1.attn.probs_mean' has shape [16, 16], tokens [16 or ");
  EXPECT_NE(refusal(vit, "selector").find("'selector' has shape [6]"), std::string::npos);
  auto plain = std::make_shared<Model>(*cnn);
  plain->build = [](Graph& g, int64_t batch) {
    const Value image = g.input("image", Type{{batch, 3, 12, 20}});
    return g.name(linear(reshape(image, {batch, 720}), g.weight("w", {6, 720})), "logits");
  };
  EXPECT_EQ(refusal(plain, ""),
            "method grad-cam: 'tiny-cnn' has no layer 'features.last'; the nearest are 'image'");
  EXPECT_EQ(message([&] {
              Request r;
              r.method = "guided-backprop";
              Explainer(plain).explain(x, r);
            }),
            "method guided-backprop changes the gradient of rectifiers, 'tiny-cnn' has none");
}

}  // namespace
}  // namespace whence
