// Published test vectors of gradient methods on tiny networks (Captum's own tests), built by hand
// from the operators: plain gradients, gradient x input, integrated gradients (Sundararajan, Taly
// and Yan 2017).
#include <gtest/gtest.h>

#include "explain/methods/quadrature.h"
#include "tests/unit/random_tensors.h"
#include "whence/ops.h"
#include "whence/plan.h"

namespace whence {
namespace {

constexpr double exact = sizeof(real) == 4 ? 1e-5 : 1e-12;

void expect_all(const Tensor& got, const std::vector<double>& want, double tolerance) {
  ASSERT_EQ(got.reals().size(), want.size());
  for (size_t i = 0; i < want.size(); ++i)
    ASSERT_NEAR(got.reals()[i], want[i], tolerance) << "element " << i;
}

Tensor of(Shape shape, const std::vector<double>& values) {
  return Tensor::of(shape, std::span<const real>(std::vector<real>(values.begin(), values.end())));
}

// A network of some inputs with a score for every sample, [B].
struct Net {
  Graph g;
  Values inputs;
  Value score;
  Value input(Shape s) {
    inputs.push_back(g.input("x" + std::to_string(inputs.size()), Type{s}));
    return inputs.back();
  }
  Weights weights;
  Value weight(const std::string& name, Shape s, const std::vector<double>& values) {
    weights.tensors[name] = of(s, values);
    return g.weight(name, s);
  }
};

// The element that a target names: column `target` of [B, K], or of a tensor's trailing axes laid
// flat.
Value column(Value y, int64_t target) {
  const int64_t batch = y.shape()[0], width = y.shape().count() / batch;
  return reshape(slice(reshape(y, {batch, width}), 1, target, target + 1), {batch});
}

struct Gradients {
  Plan plan;
  Values inputs, wrt, d;
  Value score;
  explicit Gradients(Net& net, Values by = {})
      : plan({net.score}),
        inputs(net.inputs),
        wrt(by.empty() ? net.inputs : std::move(by)),
        score(net.score) {
    const Value seed = net.g.input("seed", score.type(), Stage::seed);
    d = gradient(score, seed, wrt);
    Values keep = d;
    keep.push_back(score);
    keep.insert(keep.end(), wrt.begin(), wrt.end());
    plan = Plan(keep);
    plan.bind(net.weights);
    std::fill(plan.input(seed).begin(), plan.input(seed).end(), real(1));
  }
  void run(const std::vector<Tensor>& x) {
    for (size_t i = 0; i < x.size(); ++i) plan.set(inputs[i], x[i]);
    plan.forward();
    plan.backward();
  }
};

// Mean gradient along the straight line from `base` to `x`, by a quadrature rule; one tensor a
// gradient.
std::vector<Tensor> mean_gradient(Gradients& net, const std::vector<Tensor>& x,
                                  const std::vector<Tensor>& base, std::string_view rule, int n) {
  const Quadrature q = quadrature(rule, n);
  std::vector<std::vector<double>> sums;
  for (Value d : net.d) sums.emplace_back(size_t(d.shape().count()), 0.0);
  for (size_t k = 0; k < q.alpha.size(); ++k) {
    std::vector<Tensor> at;
    for (size_t i = 0; i < x.size(); ++i) {
      at.push_back(x[i].clone());
      for (size_t j = 0; j < at[i].reals().size(); ++j) {
        const double b = base[i].reals()[j];
        at[i].reals()[j] = real(b + q.alpha[k] * (double(x[i].reals()[j]) - b));
      }
    }
    net.run(at);
    for (size_t i = 0; i < sums.size(); ++i)
      for (size_t j = 0; j < sums[i].size(); ++j)
        sums[i][j] += q.weight[k] * double(net.plan.view(net.d[i])[j]);
  }
  std::vector<Tensor> result;
  for (size_t i = 0; i < sums.size(); ++i) result.push_back(of(net.d[i].shape(), sums[i]));
  return result;
}

Tensor times_difference(const Tensor& g, const Tensor& x, const Tensor& base) {
  Tensor t = g.clone();
  for (size_t j = 0; j < t.reals().size(); ++j) t.reals()[j] *= x.reals()[j] - base.reals()[j];
  return t;
}

// y = relu(relu(x1) - 1 - relu(x2)), element by element; the score is element `target`.
struct Gap : Net {
  explicit Gap(int64_t width, int64_t target) {
    const Value a = input({1, width}), b = input({1, width});
    score = column(relu(sub(affine(relu(a), 1, -1), relu(b))), target);
  }
};

// y = relu(relu(x1 - 1) - relu(x2)): the same function
struct Gap2 : Net {
  Gap2() {
    const Value a = input({1, 1}), b = input({1, 1});
    score = column(relu(sub(relu(affine(a, 1, -1)), relu(b))), 0);
  }
};

// 3 -> 3 identity, 3 -> 4 of ones with bias (-10, 1, 1, 1), relu, 4 -> 2 of ones with bias (-1, 1).
struct Mlp : Net {
  Value lin1, lin2;
  Value layers(Value x) {
    const Value lin0 = linear(x, weight("lin0.weight", {3, 3}, {1, 0, 0, 0, 1, 0, 0, 0, 1}));
    lin1 = linear(lin0, weight("lin1.weight", {4, 3}, std::vector<double>(12, 1)),
                  weight("lin1.bias", {4}, {-10, 1, 1, 1}));
    return lin2 = linear(relu(lin1), weight("lin2.weight", {2, 4}, std::vector<double>(8, 1)),
                         weight("lin2.bias", {2}, {-1, 1}));
  }
};

// y = 1 - relu(1 - x)
struct Clip : Net {
  Clip() {
    const Value x = input({1, 6});
    score = sum(affine(relu(affine(x, -1, 1)), -1, 1), {1});  // element i depends on input i alone
  }
};

TEST(Vectors, gradient_of_a_gap_for_two_targets) {
  const std::vector<Tensor> x{of({1, 2}, {4, -1}), of({1, 2}, {2, 5})};
  const std::vector<double> want[2][2] = {{{1, 0}, {-1, 0}}, {{0, 0}, {0, 0}}};
  for (int64_t target : {0, 1}) {
    Gap net(2, target);
    Gradients g(net);
    g.run(x);
    for (size_t i = 0; i < 2; ++i) expect_all(g.plan.get(g.d[i]), want[target][i], exact);
  }
}

TEST(Vectors, gradient_and_value_at_layers) {
  Mlp net;
  net.score = column(net.layers(net.input({1, 3})), 1);
  Gradients g(net, {net.lin1, net.lin2});
  g.run({of({1, 3}, {5, 2, 1})});
  expect_all(g.plan.get(g.d[0]), {0, 1, 1, 1}, exact);
  expect_all(g.plan.get(net.lin1), {-2, 9, 9, 9}, exact);
  expect_all(g.plan.get(g.d[1]), {0, 1}, exact);
  expect_all(g.plan.get(net.lin2), {26, 28}, exact);
}

TEST(Vectors, positions_and_weights_of_riemann_sums) {
  const auto expect_rule = [](const char* rule, const std::vector<double>& alpha,
                              const std::vector<double>& weight) {
    const Quadrature q = quadrature(rule, int(alpha.size()));
    ASSERT_EQ(q.alpha.size(), alpha.size()) << rule;
    ASSERT_EQ(q.weight.size(), weight.size()) << rule;
    for (size_t i = 0; i < alpha.size(); ++i) {
      EXPECT_NEAR(q.alpha[i], alpha[i], 1e-15) << rule << i;
      EXPECT_NEAR(q.weight[i], weight[i], 1e-15) << rule << i;
    }
  };
  expect_rule("riemann_left", {0, .5}, {.5, .5});
  expect_rule("riemann_right", {.5, 1}, {.5, .5});
  expect_rule("riemann_middle", {.25, .75}, {.5, .5});
  expect_rule("riemann_trapezoid", {0, 1}, {.25, .25});
  const double third = 1.0 / 3, sixth = 1.0 / 6;
  expect_rule("riemann_left", {0, third, 2 * third}, {third, third, third});
  expect_rule("riemann_right", {third, 2 * third, 1}, {third, third, third});
  expect_rule("riemann_middle", {sixth, .5, 5 * sixth}, {third, third, third});
  expect_rule("riemann_trapezoid", {0, .5, 1}, {sixth, third, sixth});
}

// The kink lies at a third of the path, between nodes 166 and 167 of 500: the right rule is off by
// up to 2e-3.
TEST(Vectors, integrated_gradients_of_two_forms_of_one_function) {
  const std::vector<Tensor> x{of({1, 1}, {3}), of({1, 1}, {1})},
      zero{of({1, 1}, {0}), of({1, 1}, {0})};
  Gap first(1, 0);
  Gap2 second;
  double total[2] = {0, 0};
  Net* nets[] = {&first, &second};
  for (size_t n = 0; n < 2; ++n) {
    Gradients g(*nets[n]);
    const auto mean = mean_gradient(g, x, zero, "riemann_right", 500);
    const double want[] = {1.5, -0.5};
    for (size_t i = 0; i < 2; ++i) {
      const Tensor a = times_difference(mean[i], x[i], zero[i]);
      expect_all(a, {want[i]}, 5e-3);
      total[n] += double(a.reals()[0]);
    }
    if (n == 0) {  // without the factor of the input
      expect_all(mean[0], {0.5}, 2e-3);
      expect_all(mean[1], {-0.5}, 2e-3);
    }
  }
  EXPECT_NEAR(total[0], total[1], 5e-3);
  EXPECT_NEAR(total[0], 1, 5e-3);  // the value at x less the value at 0
}

// out[b, i, j, k] = y[b, i] (1, 2)[j] (1, 4)[k], the input is x added to itself, and the line
// starts at ones.
TEST(Vectors, convergence_deltas_of_a_network_with_two_inputs) {
  const int64_t outputs[] = {0, 0, 1, 0};  // i; the target has (j, k) = (1, 1)
  const double want[] = {0.10686, 0, 0, 0};
  for (int64_t b = 0; b < 4; ++b) {
    const double first = 3 * double(b) + 1;
    Mlp net;
    const Value x = net.input({1, 3}), extra = net.input({1, 3});
    const Value y = reshape(net.layers(add(x, extra)), {1, 2, 1, 1});
    const Value cube =
        mul(mul(y, net.weight("rows", {2, 1}, {1, 2})), net.weight("cols", {2}, {1, 4}));
    net.score = column(cube, outputs[b] * 4 + 3);
    Gradients g(net, {x});
    const std::vector<double> values{first, first + 1, first + 2};
    const Tensor at = of({1, 3}, values), ones = of({1, 3}, {1, 1, 1});
    // `extra` stays at x: it is not attributed.
    const auto mean = mean_gradient(g, {at, at}, {ones, at}, "gausslegendre", 50);
    const Tensor a = times_difference(mean[0], at, ones);
    double delta = 0;
    for (real v : a.reals()) delta += double(v);
    g.run({at, at});
    delta -= double(g.plan.view(g.score)[0]);
    g.run({ones, at});
    delta += double(g.plan.view(g.score)[0]);
    EXPECT_NEAR(delta * delta, want[b], 1e-3) << b;
    if (b == 0) expect_all(a, {0, 29.22437, 58.44873}, 1e-3);
  }
}

TEST(Vectors, saliency_and_gradient_times_input_of_a_clip) {
  Clip net;
  Gradients g(net);
  const Tensor x = of({1, 6}, {1, 2, 3, 0, -1, 7});
  g.run({x});
  expect_all(g.plan.get(g.d[0]), {0, 0, 0, 1, 1, 0}, exact);
  expect_all(times_difference(g.plan.get(g.d[0]), x, of({1, 6}, {0, 0, 0, 0, 0, 0})),
             {0, 0, 0, 0, -1, 0}, exact);
}

}  // namespace
}  // namespace whence
