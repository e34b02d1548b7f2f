// score-cam against a loop over the channels: masks made on the host, one image a pass.
#include <algorithm>

#include "tests/unit/golden_file.h"
#include "tests/unit/random_tensors.h"
#include "tests/unit/tiny_model.h"
#include "whence/error.h"
#include "whence/picture.h"

namespace whence {
namespace {

constexpr double bound = sizeof(real) == 8 ? 1e-12 : 2e-5;

// Of the six channels of features.last number 2 is always zero and number 4 is the same everywhere.
std::shared_ptr<const Model> model_with_flat_channels() {
  auto m = tiny_cnn();
  Tensor shift = m->weights.tensors.at("layer2.2.norm.bias").clone();
  Tensor factor = m->weights.tensors.at("layer2.2.norm.weight").clone();
  for (const size_t c : {size_t(2), size_t(4)}) {
    factor.reals()[c] = 0;
    shift.reals()[c] = c == 2 ? real(-1) : real(0.7);
  }
  m->weights.tensors["layer2.2.norm.bias"] = shift;
  m->weights.tensors["layer2.2.norm.weight"] = factor;
  return m;
}

struct Form {
  bool relu, softmax, subtract;
  std::string gradient_of;
};

std::vector<double> scores(Explainer& explainer, const Tensor& image, const Target& t,
                           const Form& form) {
  const auto logits = explainer.logits(image);
  std::vector<double> y(logits.reals().begin(), logits.reals().end());
  double sum = 0;
  for (double v : y) sum += std::exp(v);
  if (form.gradient_of == "probability")
    for (double& v : y) v = std::exp(v) / sum;
  return {y[size_t(t.of)] - (t.against < 0 ? 0 : y[size_t(t.against)])};
}

// x [1, C, H, W]
std::vector<real> expected(Explainer& explainer, const Tensor& x, const std::string& layer,
                           const Target& t, const Form& form) {
  const Model& model = explainer.model();
  Request activation;
  activation.method = "layer-activation";
  activation.layer = layer;
  const Tensor f = explainer.explain(x, activation)[0][0].attribution;  // [C, h, w]
  const int64_t height = model.image_shape()[1], width = model.image_shape()[2], n = height * width;
  std::vector<double> weights;
  std::vector<Tensor> maps;
  for (int64_t c = 0; c < f.shape()[0]; ++c) {
    const Tensor small = f.slice(c, c + 1).reshaped({f.shape()[1], f.shape()[2]});
    maps.push_back(resize_bilinear(small, height, width));
    const auto [least, most] = std::ranges::minmax_element(small.reals());
    const Tensor mask = *least < *most ? min_max(maps.back()) : maps.back();
    Tensor masked = x.clone();
    for (size_t i = 0; i < masked.reals().size(); ++i)
      masked.reals()[i] *= mask.reals()[i % size_t(n)];
    weights.push_back(scores(explainer, masked, t, form)[0]);
    if (form.subtract) weights.back() -= scores(explainer, Tensor(x.type()), t, form)[0];
  }
  if (form.softmax) {
    double sum = 0;
    for (double& w : weights) sum += w = std::exp(w);
    for (double& w : weights) w /= sum;
  }
  std::vector<real> map;
  for (int64_t p = 0; p < n; ++p) {
    double sum = 0;
    for (size_t c = 0; c < maps.size(); ++c) sum += weights[c] * double(maps[c].reals()[size_t(p)]);
    map.push_back(real(form.relu ? std::max(sum, 0.0) : sum));
  }
  return map;
}

void expect_loop(const std::shared_ptr<const Model>& model, const std::string& layer) {
  const Tensor x = random_tensor({3, 3, 12, 20}, 31);
  for (const Form& form : {Form{false, false, false, "probability"},
                           {true, true, true, "logit"},
                           {false, true, false, "logit"},
                           {true, false, true, "probability"}}) {
    Request r;
    r.method = "score-cam";
    r.layer = layer;
    r.targets = {Target{1, -1}, Target{3, 0}};
    const auto text = [](bool b) { return b ? "true" : "false"; };
    r.options = {{"relu", text(form.relu)},
                 {"softmax_over_channels", text(form.softmax)},
                 {"subtract_baseline", text(form.subtract)},
                 {"gradient_of", form.gradient_of}};
    Explainer::Settings settings;
    settings.chunk = 4;  // of masks, so that images share a pass
    Explainer explainer(model, settings);
    const auto got = explainer.explain(x, r);
    for (int64_t i = 0; i < 3; ++i)
      for (size_t t = 0; t < 2; ++t) {
        const Tensor& map = got[size_t(i)][t].attribution;
        EXPECT_EQ(map.shape(), (Shape{12, 20}));
        expect_close(map.reals(), expected(explainer, x.slice(i, i + 1), layer, r.targets[t], form),
                     bound, layer + " " + form.gradient_of);
      }
  }
}

TEST(ScoreCam, is_the_sum_of_maps_weighted_by_the_score_of_what_they_leave) {
  expect_loop(model_with_flat_channels(), "features.last");
  expect_loop(tiny_cnn(), "layer1");
  expect_loop(tiny_cnn(), "image");  // no resize
}

TEST(ScoreCam, reads_the_patches_of_transformers) { expect_loop(tiny_model(2), "blocks.1.norm1"); }

TEST(ScoreCam, runs_one_pass_for_each_channel_that_is_not_zero) {
  const auto model = model_with_flat_channels();
  Explainer::Settings settings;
  settings.chunk = 1;
  int passes = 0;
  settings.progress = [&](double) { return ++passes > 0; };
  Explainer explainer(model, settings);
  Request r;
  r.method = "score-cam";
  explainer.explain(random_tensor({2, 3, 12, 20}, 31), r);
  EXPECT_EQ(passes, 2 * 5);
  passes = 0;
  r.options = {{"softmax_over_channels", "true"}};
  explainer.explain(random_tensor({2, 3, 12, 20}, 31), r);
  EXPECT_EQ(passes, 2 * 5 + 1);
}

TEST(ScoreCam, cancels_between_passes) {
  Explainer::Settings settings;
  settings.chunk = 2;
  int passes = 0;
  settings.progress = [&](double fraction) { return fraction < 0.5 && ++passes > 0; };
  Explainer explainer(tiny_cnn(), settings);
  Request r;
  r.method = "score-cam";
  EXPECT_THROW(explainer.explain(random_tensor({2, 3, 12, 20}, 1), r), Error);
  EXPECT_EQ(passes, 2);
}

}  // namespace
}  // namespace whence
