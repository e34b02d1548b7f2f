// Requests that are answered together: the bits of each alone, and one pass over the inputs for
// all.
#include <gtest/gtest.h>

#include "tests/unit/message_of.h"
#include "tests/unit/random_tensors.h"
#include "tests/unit/tiny_model.h"
#include "whence/ops.h"

namespace whence {
namespace {

// A network whose norms can be parts of the convolutions before them, or not.
std::shared_ptr<Model> cnn_with_norms() {
  ResNetConfig c;
  c.image_height = 12;
  c.image_width = 20;
  c.classes = 6;
  c.stem = 4;
  c.layers = {{{1, 3, 6, 1}, {1, 3, 8, 2}, {1, 3, 8, 1}, {1, 3, 8, 1}}};
  auto m = std::make_shared<Model>(random_model(c, 5));
  m->name = "norms";
  return m;
}

std::vector<Request> every_method(const Model& model) {
  std::vector<Request> all;
  for (const MethodInfo& info : methods())
    if (applies(info, model)) all.push_back(request_for(info.id));
  return all;
}

void expect_same(const Result& a, const Result& b) {
  expect_same_bits(a.attribution, b.attribution);
  EXPECT_EQ(a.target, b.target);
  EXPECT_EQ(a.against, b.against);
  EXPECT_EQ(a.score, b.score);
  EXPECT_EQ(a.probability, b.probability);
  EXPECT_EQ(a.gap, b.gap);
  EXPECT_EQ(a.flat, b.flat);
}

void expect_the_same_alone(const std::shared_ptr<const Model>& model,
                           const std::vector<Request>& requests,
                           const Explainer::Settings& settings = {}) {
  const Tensor x = random_tensor({3, 3, 12, 20}, 21);
  const Answers together = Explainer(model, settings).explain(x, requests);
  expect_same_bits(together.logits, Explainer(model).logits(x));
  ASSERT_EQ(together.results.size(), requests.size());
  for (size_t r = 0; r < requests.size(); ++r) {
    SCOPED_TRACE(model->name + " " + requests[r].method);
    const auto alone = Explainer(model).explain(x, requests[r]);
    for (size_t i = 0; i < alone.size(); ++i)
      for (size_t t = 0; t < alone[i].size(); ++t)
        expect_same(together.results[r][i][t], alone[i][t]);
  }
}

TEST(Together, every_method_has_the_bits_that_it_has_alone) {
  for (const std::shared_ptr<const Model>& model :
       {tiny_model(), std::shared_ptr<const Model>(tiny_cnn()),
        std::shared_ptr<const Model>(cnn_with_norms())})
    expect_the_same_alone(model, every_method(*model));
}

TEST(Together, kinds_of_scores_and_of_targets_do_not_mix) {
  std::vector<Request> requests;
  for (const char* kind : {"logit", "probability", "loss"})
    for (const char* id : {"gradient", "grad-cam", "generic-attention", "tam"}) {
      requests.push_back(request_for(id));
      requests.back().options["gradient_of"] = kind;
      if (requests.size() % 2) requests.back().targets = {Target{3, -1}};
    }
  expect_the_same_alone(tiny_model(), requests);
}

TEST(Together, what_does_not_fit_the_memory_is_computed_apart) {
  const auto model = tiny_model(12);  // what they keep is more than what kernels need meanwhile
  std::vector<Request> requests;
  size_t most = 0;
  for (const char* id : {"gradient", "rollout", "generic-attention"}) {
    requests.push_back(request_for(id));
    most = std::max(most, Explainer(model).bytes(requests.back(), 1));
  }
  Explainer::Settings settings;
  settings.memory = most;
  expect_the_same_alone(model, requests, settings);
  const Tensor x = random_tensor({1, 3, 12, 20}, 21);
  Explainer tight(model, settings), wide(model);
  tight.explain(x, requests);
  wide.explain(x, requests);
  EXPECT_EQ(wide.runs().forward, 1);
  EXPECT_EQ(tight.runs().forward, 4);
}

TEST(Together, five_methods_cost_one_pass_over_the_input) {
  const Tensor x = random_tensor({1, 3, 12, 20}, 21);
  const auto passes = [&](const std::shared_ptr<const Model>& model,
                          const std::vector<const char*>& ids) {
    std::vector<Request> requests;
    for (const char* id : ids) requests.push_back(request_for(id));
    Explainer e(model);
    e.explain(x, requests);
    return std::pair(e.runs().forward, e.runs().backward);
  };
  EXPECT_EQ(passes(tiny_model(),
                   {"gradient", "rollout", "generic-attention", "grad-cam", "attention-grad-cam"}),
            (std::pair<int64_t, int64_t>(1, 3)))
      << "and one backward pass a target";
  EXPECT_EQ(passes(tiny_cnn(),
                   {"gradient", "grad-cam", "layer-cam", "guided-backprop", "input-x-gradient"})
                .first,
            1);
  // The points of two paths, 6 and 7 of them in one chunk each, and the score of the baseline.
  EXPECT_EQ(passes(tiny_model(), {"gradient", "rollout", "generic-attention",
                                  "integrated-gradients", "smoothgrad"})
                .first,
            1 + 1 + 1 + 1);
}

TEST(Together, a_baseline_of_all_items_is_scored_once) {
  const auto model = tiny_model();
  Explainer::Settings settings;
  settings.chunk = 1;
  const auto forward = [&](const char* baselines) {
    Explainer e(model, settings);
    Request r = request_for("integrated-gradients");
    r.options["baselines"] = baselines;
    r.options["num_random_trials"] = "1";
    e.explain(random_tensor({3, 3, 12, 20}, 21), r);
    return e.runs().forward;
  };
  EXPECT_EQ(forward("zero"), 3 + 1 + 3 * 6);
  EXPECT_EQ(forward("random"), 3 + 3 + 3 * 6);
}

// [B, 4] integers become [B, 5] reals, as an embedding does, and two classes.
std::shared_ptr<const Model> model_of_integers() {
  auto m = std::make_shared<Model>();
  m->name = "integers";
  m->ports = {{"ids", {{4}, Dtype::i32}, Port::Role::token_ids}};
  m->places.entry = "embed";
  m->classes = 2;
  m->build = [](Graph& g, int64_t batch) {
    const Value ids = g.input("ids", {{batch, 4}, Dtype::i32});
    const Value embedded = g.name(random_normal(ids, {batch, 5}), "embed");
    return g.name(linear(embedded, g.weight("w", {2, 5})), "logits");
  };
  m->weights.tensors["w"] = random_tensor({2, 5}, 1);
  return m;
}

TEST(Inputs, may_be_integers_and_attributions_of_what_becomes_of_them) {
  const auto model = model_of_integers();
  const std::vector<int32_t> values{1, 2, 3, 4, -5, 6, 7, 8, 9, 10, -11, 12};
  const Tensor ids = Tensor::of({3, 4}, values);
  Explainer::Settings settings;
  settings.chunk = 2;
  Explainer e(model, settings);
  const Tensor logits = e.logits(ids), w = model->weights.tensors.at("w");
  Request request;
  request.method = "gradient";
  request.targets = {Target{1, -1}};
  const auto gradient = e.explain(ids, request);
  request.method = "input-x-gradient";
  const auto product = e.explain(ids, request);
  for (size_t i = 0; i < 3; ++i) {
    expect_same_bits(gradient[i][0].attribution, w.slice(1, 2).reshaped({5}));
    double sum = 0;
    for (real p : product[i][0].attribution.reals()) sum += double(p);
    EXPECT_NEAR(sum, logits.reals()[i * 2 + 1], 1e-5) << "the model is linear behind the entry";
  }
  EXPECT_NE(logits.reals()[0], logits.reals()[2]);
  EXPECT_EQ(message([&] { e.logits(random_tensor({3, 4}, 1)); }).empty(), false);
  EXPECT_EQ(message([&] {
              e.logits(Tensor::of({1, 3}, std::vector<int32_t>{1, 2, 3}));
            }),
            "inputs have shape [1, 3], the model takes [N, 4]");
  request.method = "smoothgrad";
  EXPECT_EQ(message([&] { e.explain(ids, request); }),
            "smoothgrad: computes with one input of real numbers, 'integers' is explained by "
            "'embed'");
  EXPECT_EQ(message([&] {
              e.logits(std::vector<Tensor>{ids, ids});
            }),
            "2 tensors are given, 'integers' has 1 inputs");
}

TEST(Inputs, of_two_ports_are_two_tensors) {
  auto m = std::make_shared<Model>();
  m->name = "pair";
  m->ports = {{"a", Type{{3}}}, {"b", Type{{3}}}};
  m->places.entry = "a";
  m->classes = 3;
  m->build = [](Graph& g, int64_t batch) {
    return mul(g.input("a", Type{{batch, 3}}), g.input("b", Type{{batch, 3}}));
  };
  const std::shared_ptr<const Model> model = m;
  const Tensor a = random_tensor({2, 3}, 1), b = random_tensor({2, 3}, 2);
  Request request;
  request.method = "gradient";
  request.targets = {Target{2, -1}};
  const auto results = Explainer(model).explain(std::vector<Tensor>{a, b}, request);
  for (size_t i = 0; i < 2; ++i)
    expect_near(results[i][0].attribution, Tensor::of({3}, {0, 0, b.reals()[i * 3 + 2]}), 0);
  EXPECT_EQ(message([&] {
              Explainer(model).logits(std::vector<Tensor>{a, b.slice(0, 1)});
            }),
            "'pair' has 2 inputs at 'a', 1 at 'b'");
}

TEST(Methods, tell_whether_they_draw_random_numbers) {
  std::vector<std::string> drawing;
  for (const MethodInfo& info : methods())
    if (draws(info, {})) drawing.push_back(info.id);
  EXPECT_EQ(drawing, (std::vector<std::string>{"smoothgrad", "deeplift-shap"}));
  EXPECT_TRUE(draws(method("integrated-gradients"), {{"baselines", "random"}}));
  EXPECT_FALSE(draws(method("deeplift-shap"), {{"baselines", "some.npy"}}));
}

TEST(Methods, have_defaults_that_their_options_take) {
  for (const auto& model : {tiny_model(), std::shared_ptr<const Model>(tiny_cnn())})
    for (const MethodInfo& info : methods()) {
      if (!applies(info, *model)) continue;
      Request request = request_for(info.id);
      for (const OptionInfo& option : info.options) {
        if (option.kind != OptionInfo::Kind::text) request.options[option.name] = option.fallback;
        if (option.kind == OptionInfo::Kind::whole)
          request.options[option.name] =
              std::to_string(std::max<int64_t>(2, int64_t(option.least)));
      }
      SCOPED_TRACE(info.id);
      EXPECT_EQ(message([&] {
                  Explainer(model).explain(random_tensor({1, 3, 12, 20}, 21), request);
                }),
                "accepted");
    }
}

}  // namespace
}  // namespace whence
