// Numbers that Captum's own tests assert for class activation maps and changed rectifiers, on
// networks small enough to check by hand.
#include "explain/methods/cam.h"
#include "tests/unit/golden_file.h"
#include "whence/explain.h"
#include "whence/plan.h"
#include "whence/rules.h"

namespace whence {
namespace {

// [1, 4, 4] -> 3 x 3 convolution to 2 channels -> relu1 -> dense to 4 -> rectified.
std::shared_ptr<const Model> conv_model() {
  auto m = std::make_shared<Model>();
  m->name = "conv";
  m->ports = {{"image", Type{{1, 4, 4}}, Port::Role::picture}};
  m->classes = 4;
  m->build = [](Graph& g, int64_t batch) {
    const Value image = g.input("image", Type{{batch, 1, 4, 4}});
    Value x = conv2d(channels_last(image), g.weight("conv1.weight", {2, 1, 3, 3}),
                     g.weight("conv1.bias", {2}));
    x = g.name(relu(g.name(x, "conv1")), "relu1");
    x = linear(reshape(x, {batch, 8}), g.weight("fc1.weight", {4, 8}));
    return g.name(relu(g.name(x, "fc1")), "logits");
  };
  auto& w = m->weights.tensors;
  w["conv1.weight"] = Tensor::of({2, 1, 3, 3}, std::vector<real>(18, 1));
  w["conv1.bias"] = Tensor::of({2}, {-50, -75});
  // Each row is 1 for the first channel's four values and the second's first, -1 for its others.
  std::vector<real> fc;
  for (int row = 0; row < 4; ++row)
    for (int position = 0; position < 4; ++position) {
      fc.push_back(1);
      fc.push_back(position == 0 ? 1 : -1);
    }
  w["fc1.weight"] = Tensor::of({4, 8}, fc);
  return m;
}

Tensor ramp() {
  std::vector<real> values;
  for (int i = 0; i < 16; ++i) values.push_back(real(i));
  return Tensor::of({1, 1, 4, 4}, values);
}

void expect_map(const std::string& method, const std::string& layer,
                std::map<std::string, std::string> options, const std::vector<real>& want,
                const Tensor& x = ramp()) {
  Request r;
  r.method = method;
  r.layer = layer;
  r.options = std::move(options);
  r.targets = {Target{0, -1}};
  Explainer explainer(conv_model());
  const auto got = explainer.explain(x, r);
  expect_close(got[0][0].attribution.reals(), want, 1e-6, method + " " + layer);
}

TEST(CamVectors, grad_cam) {
  for (const char* relu : {"true", "false"})
    expect_map("grad-cam", "conv1", {{"relu", relu}}, {11.25, 13.5, 20.25, 22.5});
  expect_map("grad-cam", "conv1", {{"relu", "false"}, {"reduce", "none"}},
             {-3.75, 3, 23.25, 30, 15, 10.5, -3, -7.5});
  Tensor x = ramp();
  x.reals()[5] = -4;
  std::vector<real> want;
  for (real v : x.reals()) want.push_back(real(0.5625) * v);
  expect_map("grad-cam", "image", {{"relu", "false"}}, want, x);
  want[5] = 0;
  expect_map("grad-cam", "image", {{"relu", "true"}}, want, x);
}

// A dense layer has one position: its gradient is its weight. 3 -> 3 (identity) -> 4 -> 2.
TEST(CamVectors, grad_cam_of_a_dense_layer) {
  Graph g;
  const Value x = g.input("x", Type{{1, 3}});
  const Value seed = g.input("seed", Type{{1, 2}}, Stage::seed);
  const Value lin1 = linear(x, g.weight("lin1", {4, 3}), g.weight("bias1", {4}));
  const Value y = linear(relu(lin1), g.weight("lin2", {2, 4}), g.weight("bias2", {2}));
  const Value dx = gradient(y, seed, {x})[0];
  const Value map = grad_cam(reshape(x, {1, 1, 3}), reshape(dx, {1, 1, 3}));
  Plan plan({map});
  Weights w;
  w.tensors["lin1"] = Tensor::of({4, 3}, std::vector<real>(12, 1));
  w.tensors["bias1"] = Tensor::of({4}, {-10, 1, 1, 1});
  w.tensors["lin2"] = Tensor::of({2, 4}, std::vector<real>(8, 1));
  w.tensors["bias2"] = Tensor::of({2}, {-1, 1});
  plan.bind(w);
  plan.set(x, Tensor::of({1, 3}, {0, 100, 0}));
  plan.set(seed, Tensor::of({1, 2}, {1, 0}));
  plan.forward();
  plan.backward();
  EXPECT_EQ(plan.view(map)[0], 400);
}

TEST(CamVectors, changed_rectifiers) {
  expect_map("guided-backprop", "", {}, {0, 1, 1, 1, 1, 3, 3, 2, 1, 3, 3, 2, 1, 2, 2, 1});
  expect_map("deconvolution", "", {}, {2, 3, 3, 1, 3, 5, 5, 2, 3, 5, 5, 2, 1, 2, 2, 1});
}

// Guided backpropagation from a neuron: unit 0 of fc1.
TEST(CamVectors, guided_backpropagation_from_a_neuron) {
  const auto model = conv_model();
  Graph g;
  model->build(g, 1);
  const Value fc1 = g.at("fc1"), seed = g.input("seed", fc1.type(), Stage::seed);
  const Value dx = gradient(fc1, seed, {g.at("image")}, {{"relu", "*", rule::Guided{}}})[0];
  Plan plan({dx});
  plan.bind(model->weights);
  plan.set(g.at("image"), ramp());
  plan.set(seed, Tensor::of({1, 4}, {1, 0, 0, 0}));
  plan.forward();
  plan.backward();
  const std::vector<real> want{0, 1, 1, 1, 1, 3, 3, 2, 1, 3, 3, 2, 1, 2, 2, 1};
  expect_close(plan.view(dx), want, 1e-6, "fc1");
}

TEST(CamVectors, guided_grad_cam) {
  expect_map("guided-grad-cam", "relu1", {},
             {0, 0, 4, 4, 0, 0, 12, 8, 28, 84, 97.5, 65, 28, 56, 65, 32.5});
  // Between the cells of [[a, b], [c, d]] = [[0, 4], [28, 32.5]] a quarter and three quarters.
  const double rows[4] = {0, 0.25, 0.75, 1};
  const double guided[16] = {0, 1, 1, 1, 1, 3, 3, 2, 1, 3, 3, 2, 1, 2, 2, 1};
  std::vector<real> want;
  for (int y = 0; y < 4; ++y)
    for (int x = 0; x < 4; ++x) {
      const double top = 4 * rows[x], bottom = 28 + 4.5 * rows[x];
      want.push_back(real(guided[4 * y + x] * (top + (bottom - top) * rows[y])));
    }
  expect_map("guided-grad-cam", "relu1", {{"interpolate_mode", "bilinear"}}, want);
}

}  // namespace
}  // namespace whence
