// Models whose outputs are labels by themselves, or values: scores, probabilities, maps.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/unit/message_of.h"
#include "tests/unit/random_tensors.h"
#include "tests/unit/tiny_model.h"

namespace whence {
namespace {

using Results = std::vector<std::vector<Result>>;

template <class M>
std::shared_ptr<const Model> with_outputs(const M& model, Outputs outputs) {
  auto other = std::make_shared<Model>(*model);
  other->outputs = outputs;
  return other;
}

Tensor images() { return random_tensor({2, 3, 12, 20}, 3, 2); }

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

double sum_of(const Tensor& t) {
  double sum = 0;
  for (const real x : t.reals()) sum += double(x);
  return sum;
}

Results explain(const std::shared_ptr<const Model>& model, const std::string& method,
                std::map<std::string, std::string> options) {
  Request r;
  r.method = method;
  r.options = std::move(options);
  r.targets = {Target{}, Target{2, -1}, Target{1, 4}};
  return Explainer(model).explain(images(), r);
}

// The gradient of f(x_k) is f'(x_k) times that of x_k; a contrast is a difference of such.
TEST(Outputs, of_labels_by_themselves_have_gradients_of_their_own) {
  const auto model = with_outputs(tiny_model(2), Outputs::multi_label);
  const Tensor logits = Explainer(model).logits(images());
  const auto of_class = [&](int64_t k) {
    Request r;
    r.method = "gradient";
    r.targets = {Target{k, -1}};
    return Explainer(model).explain(images(), r);
  };
  struct Kind {
    const char* name;
    double (*score)(double);
    double (*slope)(double);
  };
  const Kind kinds[] = {{"probability", sigmoid, [](double x) { return sigmoid(x) * sigmoid(-x); }},
                        {"loss", [](double x) { return std::log1p(std::exp(-x)); },
                         [](double x) { return -sigmoid(-x); }}};
  for (const Kind& kind : kinds) {
    const Results got = explain(model, "gradient", {{"gradient_of", kind.name}});
    for (size_t i = 0; i < 2; ++i)
      for (const Result& result : got[i]) {
        const auto logit = [&](int64_t k) {
          return double(logits.reals()[size_t(int64_t(i) * model->classes + k)]);
        };
        const double x = logit(result.target);
        EXPECT_NEAR(double(*result.probability), sigmoid(x), 1e-6);
        const bool contrast = result.against >= 0;
        const double y = contrast ? logit(result.against) : 0;
        EXPECT_NEAR(double(result.score), kind.score(x) - (contrast ? kind.score(y) : 0), 1e-6);
        Tensor want = of_class(result.target)[i][0].attribution.clone();
        for (real& g : want.reals()) g = real(double(g) * kind.slope(x));
        if (contrast) {
          const Tensor minus = of_class(result.against)[i][0].attribution;
          for (size_t p = 0; p < minus.reals().size(); ++p)
            want.reals()[p] -= real(double(minus.reals()[p]) * kind.slope(y));
        }
        expect_near(result.attribution, want, 2e-6);
      }
  }
}

TEST(Outputs, of_labels_by_themselves_are_shared_out_completely) {
  const auto cnn = with_outputs(tiny_cnn(), Outputs::multi_label);
  const auto vit = with_outputs(tiny_model(2), Outputs::multi_label);
  for (const auto& [model, method, options, bound] :
       {std::tuple(cnn, "deeplift",
                   std::map<std::string, std::string>{{"gradient_of", "probability"}}, 1e-5),
        {vit, "integrated-gradients", {{"steps", "200"}, {"rule", "gausslegendre"}}, 1e-4}}) {
    SCOPED_TRACE(method);
    const Tensor at = Explainer(model).logits(images());
    const Tensor zero = Explainer(model).logits(Tensor(images().type()));
    const Results got = explain(model, method, options);
    for (size_t i = 0; i < 2; ++i)
      for (const Result& result : got[i]) {
        const auto score = [&](const Tensor& logits, int64_t k) {
          return k < 0 ? 0.0
                       : sigmoid(double(logits.reals()[size_t(int64_t(i) * model->classes + k)]));
        };
        const double rise = score(at, result.target) - score(at, result.against) -
                            score(zero, result.target) + score(zero, result.against);
        EXPECT_NEAR(sum_of(result.attribution), rise, bound);
        ASSERT_TRUE(result.gap);
        EXPECT_NEAR(*result.gap, sum_of(result.attribution) - rise, 1e-6);
      }
  }
}

// Whatever a method explains by default, of values it is they themselves.
TEST(Outputs, that_are_values_have_no_probability) {
  for (const auto& model :
       {with_outputs(tiny_model(5), Outputs::values), with_outputs(tiny_cnn(), Outputs::values)}) {
    const Tensor logits = Explainer(model).logits(images());
    for (const MethodInfo& info : methods()) {
      if (!applies(info, *model) || info.takes_models) continue;
      SCOPED_TRACE(info.id);
      Request r = request_for(info.id);
      const Results usual = Explainer(model).explain(images(), r);
      const bool chooses = std::ranges::any_of(
          info.options, [](const OptionInfo& o) { return o.name == "gradient_of"; });
      if (chooses) r.options["gradient_of"] = "logit";
      const Results of_values = Explainer(model).explain(images(), r);
      for (size_t i = 0; i < 2; ++i)
        for (size_t t = 0; t < usual[i].size(); ++t) {
          const Result& result = usual[i][t];
          expect_same_bits(result.attribution, of_values[i][t].attribution);
          EXPECT_FALSE(result.probability);
          const auto logit = [&](int64_t k) {
            return k < 0 ? real(0) : logits.reals()[size_t(int64_t(i) * model->classes + k)];
          };
          // Where relevance reads a product before its norm, the last bits are others.
          EXPECT_NEAR(double(result.score),
                      double(logit(result.target)) - double(logit(result.against)), 1e-5);
        }
      if (!chooses) continue;
      r.options["gradient_of"] = "probability";
      EXPECT_EQ(message([&] { Explainer(model).explain(images(), r); }),
                "option gradient_of of method " + info.id + " is 'probability': '" + model->name +
                    "' answers with values, which have no probability; logit is the value itself");
    }
    EXPECT_EQ(message([&] {
                explain(model, "lrp", {{"seed", "probability"}});
              }),
              "option seed of method lrp is 'probability': '" + model->name +
                  "' answers with values, which have none");
  }
}

// A softmax of one is 1, and nothing changes it.
TEST(Outputs, a_single_value_is_explained) {
  VggConfig c;
  c.image_height = 12, c.image_width = 20, c.classes = 1;
  c.layers = {{4}, {5, 6}};
  c.pooled = 2;
  c.hidden = {8, 8};
  auto model = std::make_shared<Model>(random_model(c, 5));
  model->outputs = Outputs::values;
  Request r;
  r.method = "integrated-gradients";
  r.options = {{"steps", "100"}, {"rule", "gausslegendre"}};
  const Results got = Explainer(model).explain(images(), r);
  const Tensor at = Explainer(model).logits(images());
  const Tensor zero = Explainer(model).logits(Tensor(images().type()));
  for (size_t i = 0; i < 2; ++i) {
    const double rise = double(at.reals()[i]) - double(zero.reals()[i]);
    EXPECT_NE(rise, 0);
    ASSERT_TRUE(got[i][0].gap);
    EXPECT_NEAR(*got[i][0].gap, sum_of(got[i][0].attribution) - rise, 1e-5);
    EXPECT_LT(std::abs(*got[i][0].gap), 0.01 * std::abs(rise)) << "of the quadrature";
  }
}

}  // namespace
}  // namespace whence
