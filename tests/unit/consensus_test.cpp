// Consensus of a transformer and a convolutional network, against their own explanations.
#include "tests/unit/message_of.h"
#include "tests/unit/random_tensors.h"
#include "tests/unit/tiny_model.h"
#include "whence/error.h"

namespace whence {
namespace {

using Results = std::vector<std::vector<Result>>;

std::shared_ptr<Model> other_normalisation() {
  auto m = std::make_shared<Model>(*tiny_cnn());
  m->preprocess.mean = {0.5, 0.4, 0.3};
  m->preprocess.std = {0.5, 0.25, 0.2};
  return m;
}

Request committee(const std::string& mode, const std::string& inner,
                  const std::shared_ptr<const Model>& second) {
  Request r;
  r.method = "consensus";
  r.options = {{"mode", mode}, {"method", inner}};
  r.targets = {Target{}, Target{2, -1}, Target{1, 4}};
  r.models = {second};
  return r;
}
Request alone(const std::string& inner) {
  Request r;
  r.method = inner;
  r.targets = {Target{}, Target{2, -1}, Target{1, 4}};
  return r;
}

// sum_c |E| or mean_c E^2 at each place, in double.
std::vector<double> magnitudes(const Tensor& e, bool squares) {
  const int64_t channels = e.shape()[0], area = e.shape().count(1, 3);
  std::vector<double> map(static_cast<size_t>(area));
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t p = 0; p < area; ++p) {
      const double v = double(e.reals()[size_t(c * area + p)]);
      map[size_t(p)] += squares ? v * v / double(channels) : std::abs(v);
    }
  return map;
}
std::vector<double> voted(const Tensor& e, const std::string& mode) {
  std::vector<double> map = magnitudes(e, mode == "mean-square");
  const auto [low, high] = std::minmax_element(map.begin(), map.end());
  const double least = *low, range = *high - *low;
  double total = 0;
  for (double v : map) total += v;
  for (double& v : map) v = mode == "minmax" ? (v - least) / range : mode == "l1" ? v / total : v;
  return map;
}
double cosine(const std::vector<double>& a, const std::vector<double>& b) {
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) ab += a[i] * b[i], aa += a[i] * a[i], bb += b[i] * b[i];
  return ab / std::sqrt(aa * bb);
}

TEST(Consensus, is_the_mean_of_what_each_model_says) {
  const auto vit = tiny_model(2), cnn = std::shared_ptr<const Model>(tiny_cnn());
  const Tensor x = random_tensor({2, 3, 12, 20}, 3);
  const Results a = Explainer(vit).explain(x, alone("gradient"));
  const Results b = Explainer(cnn).explain(x, alone("gradient"));
  for (const std::string mode : {"mean-abs", "minmax", "l1", "mean-square"}) {
    SCOPED_TRACE(mode);
    const Results both = Explainer(vit).explain(x, committee(mode, "gradient", cnn));
    for (size_t i = 0; i < 2; ++i)
      for (size_t t = 0; t < 3; ++t) {
        const auto first = voted(a[i][t].attribution, mode);
        const auto second = voted(b[i][t].attribution, mode);
        std::vector<double> want(first.size());
        for (size_t p = 0; p < want.size(); ++p) want[p] = (first[p] + second[p]) / 2;
        Tensor expected(Type{{12, 20}});
        std::copy(want.begin(), want.end(), expected.reals().begin());
        expect_near(both[i][t].attribution, expected, 1e-5);
        ASSERT_EQ(both[i][t].members.size(), 2u);
        EXPECT_EQ(both[i][t].members[0].model, "tiny");
        EXPECT_EQ(both[i][t].members[1].model, "tiny-cnn");
        EXPECT_EQ(both[i][t].members[0].target, a[i][t].target);
        EXPECT_EQ(both[i][t].members[1].target, b[i][t].target);
        EXPECT_EQ(both[i][t].members[1].probability, b[i][t].probability);
        EXPECT_NEAR(*both[i][t].members[1].agreement, cosine(second, want), 1e-5);
      }
  }
}

TEST(Consensus, stacks_maps_as_they_are) {
  const auto vit = tiny_model(2), cnn = std::shared_ptr<const Model>(tiny_cnn());
  const Tensor x = random_tensor({2, 3, 12, 20}, 3);
  const Results both = Explainer(vit).explain(x, committee("stack", "smoothgrad", cnn));
  const Results a = Explainer(vit).explain(x, alone("smoothgrad"));
  Request second = alone("smoothgrad");
  second.seed = 1;  // the second member draws its own numbers
  const Results b = Explainer(cnn).explain(x, second);
  for (size_t i = 0; i < 2; ++i)
    for (size_t t = 0; t < 3; ++t) {
      const Tensor& all = both[i][t].attribution;
      ASSERT_EQ(all.shape(), (Shape{2, 3, 12, 20}));
      expect_same_bits(all.slice(0, 1).clone().reshaped({3, 12, 20}), a[i][t].attribution);
      expect_same_bits(all.slice(1, 2).clone().reshaped({3, 12, 20}), b[i][t].attribution);
      EXPECT_FALSE(both[i][t].members[0].agreement);
    }
}

TEST(Consensus, resizes_maps_of_other_sizes) {
  const auto vit = tiny_model(2), cnn = std::shared_ptr<const Model>(tiny_cnn());
  const Tensor x = random_tensor({2, 3, 12, 20}, 3);
  const Results both = Explainer(vit).explain(x, committee("mean-abs", "grad-cam", cnn));
  const Tensor a = Explainer(vit).explain(x, alone("grad-cam"))[1][1].attribution;
  const Tensor b = Explainer(cnn).explain(x, alone("grad-cam"))[1][1].attribution;
  ASSERT_NE(a.shape(), b.shape());
  Tensor want = resize_bilinear(a, 12, 20);
  const Tensor other = resize_bilinear(b, 12, 20);
  for (size_t p = 0; p < want.reals().size(); ++p)
    want.reals()[p] = (std::abs(want.reals()[p]) + std::abs(other.reals()[p])) / 2;
  expect_near(both[1][1].attribution, want, 1e-5);
}

TEST(Consensus, gives_every_model_the_pixels_in_its_own_normalisation) {
  const auto vit = tiny_model(2);
  const std::shared_ptr<const Model> cnn = other_normalisation();
  const Tensor x = random_tensor({2, 3, 12, 20}, 3);
  Tensor own = x.clone();
  const Preprocess &from = vit->preprocess, &to = cnn->preprocess;
  for (size_t i = 0; i < own.reals().size(); ++i) {
    const size_t c = i / 240 % 3;
    const double pixel = double(x.reals()[i]) * from.std[c] + from.mean[c];
    own.reals()[i] = real((pixel - to.mean[c]) / to.std[c]);
  }
  const Results both = Explainer(vit).explain(x, committee("stack", "gradient", cnn));
  const Results b = Explainer(cnn).explain(own, alone("gradient"));
  for (size_t i = 0; i < 2; ++i)
    expect_near(both[i][1].attribution.slice(1, 2).clone().reshaped({3, 12, 20}),
                b[i][1].attribution, 1e-4);
}

TEST(Consensus, takes_inputs_that_a_model_has_made_its_own) {
  const auto vit = tiny_model(2), cnn = std::shared_ptr<const Model>(tiny_cnn());
  const Tensor x = random_tensor({2, 3, 12, 20}, 3), y = random_tensor({2, 3, 12, 20}, 4);
  Request r = committee("stack", "gradient", cnn);
  r.model_inputs = {y};
  const Results both = Explainer(vit).explain(x, r);
  const Results b = Explainer(cnn).explain(y, alone("gradient"));
  for (size_t i = 0; i < 2; ++i)
    expect_same_bits(both[i][1].attribution.slice(1, 2).clone().reshaped({3, 12, 20}),
                     b[i][1].attribution);
  r.model_inputs = {y.slice(0, 1).clone()};
  EXPECT_EQ(message([&] { Explainer(vit).explain(x, r); }),
            "consensus: 2 inputs for 'tiny', 1 for 'tiny-cnn'");
  r.model_inputs = {y, y};
  EXPECT_EQ(message([&] { Explainer(vit).explain(x, r); }), "consensus: inputs for 2 of 1 models");
}

TEST(Consensus, may_explain_one_class_with_all_models) {
  const auto vit = tiny_model(2), cnn = std::shared_ptr<const Model>(tiny_cnn());
  const Tensor x = random_tensor({6, 3, 12, 20}, 8, 2);
  const Results a = Explainer(vit).explain(x, alone("gradient"));
  const Results b = Explainer(cnn).explain(x, alone("gradient"));
  size_t differ = 0;
  for (const std::string labels : {"own", "first", "majority"}) {
    Request r = committee("mean-abs", "gradient", cnn);
    r.options["labels"] = labels;
    const Results both = Explainer(vit).explain(x, r);
    for (size_t i = 0; i < 6; ++i) {
      const auto& members = both[i][0].members;
      EXPECT_EQ(members[0].target, a[i][0].target);  // with two voters the first one decides
      EXPECT_EQ(members[1].target, labels == "own" ? b[i][0].target : a[i][0].target);
      EXPECT_EQ(both[i][1].members[1].target, 2);
      differ += labels == "own" && members[0].target != members[1].target;
    }
  }
  EXPECT_GT(differ, 0u) << "the models must disagree for the labels to matter";
  // Two of three.
  Request r = committee("mean-abs", "gradient", cnn);
  r.options["labels"] = "majority";
  r.models.push_back(cnn);
  const Results three = Explainer(vit).explain(x, r);
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(three[i][0].target, b[i][0].target);
}

// What a recipe says of three channels says nothing of a fourth.
TEST(Consensus, renormalises_pictures_of_three_channels_alone) {
  VggConfig config;
  config.image_height = 12, config.image_width = 20, config.channels = 5, config.classes = 6;
  config.layers = {{4}, {5, 6}};
  config.pooled = 2;
  config.hidden = {8, 8};
  const auto first = std::make_shared<Model>(random_model(config, 5));
  const auto same = std::make_shared<Model>(random_model(config, 6));
  const auto other = std::make_shared<Model>(*same);
  other->preprocess.mean = {0.5, 0.4, 0.3};
  const Tensor x = random_tensor({2, 5, 12, 20}, 3);
  EXPECT_EQ(Explainer(first).explain(x, committee("l1", "gradient", same)).size(), 2u);
  EXPECT_EQ(message([&] { Explainer(first).explain(x, committee("l1", "gradient", other)); }),
            "consensus: the models normalise in different ways, which are known for pictures of 3 "
            "channels, not 5");
}

TEST(Consensus, of_one_model_or_of_models_that_do_not_fit_is_refused) {
  const auto vit = tiny_model(2);
  const Tensor x = random_tensor({2, 3, 12, 20}, 3);
  const auto refusal = [&](const Request& r) {
    return message([&] { Explainer(vit).explain(x, r); });
  };
  Request one = committee("mean-abs", "gradient", nullptr);
  one.models.clear();
  EXPECT_EQ(refusal(one), "consensus: of one model, 'tiny'; name others in option models");
  auto small = std::make_shared<Model>(*tiny_cnn());
  small->classes = 5;
  EXPECT_EQ(refusal(committee("l1", "gradient", small)),
            "consensus: 'tiny' has 6 classes, 'tiny-cnn' has 5");
  auto wide = std::make_shared<Model>(*tiny_cnn());
  wide->ports[0].item.shape = {3, 12, 24};
  EXPECT_EQ(refusal(committee("l1", "gradient", wide)),
            "consensus: 'tiny' takes inputs of [3, 12, 20], 'tiny-cnn' of [3, 12, 24]: each needs "
            "its own");
  const std::shared_ptr<const Model> cnn = tiny_cnn();
  EXPECT_EQ(refusal(committee("l1", "consensus", cnn)),
            "consensus: of consensus; option method names another one");
  EXPECT_EQ(refusal(committee("stack", "grad-cam", cnn)),
            "consensus: maps of shapes [3, 5] and [6, 10] do not stack; another mode resizes them");
  EXPECT_NE(refusal(committee("l1", "rollout", cnn)).find("needs a transformer"),
            std::string::npos);
  Request options = committee("l1", "gradient", cnn);
  options.options["options"] = "abs";
  EXPECT_EQ(refusal(options), "option options of method consensus: 'abs' is not NAME=VALUE");
  options.options["options"] = "steps=3";
  EXPECT_NE(refusal(options).find("has no option 'steps'"), std::string::npos);
}

}  // namespace
}  // namespace whence
