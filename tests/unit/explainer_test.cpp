// What holds for every method: independence of chunks, threads and neighbours; targets; memory;
// errors.
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <thread>

#include "tests/unit/random_tensors.h"
#include "tests/unit/tiny_model.h"
#include "whence/error.h"

namespace whence {
namespace {

Explainer explainer(const std::shared_ptr<const Model>& m, int64_t chunk, int threads) {
  Explainer::Settings s;
  s.chunk = chunk;
  s.threads = threads;
  return Explainer(m, s);
}

void expect_independent_results(const std::shared_ptr<const Model>& model) {
  const Tensor x = random_tensor({5, 3, 12, 20}, 21);
  for (const MethodInfo& info : methods()) {
    if (!applies(info, *model)) continue;
    SCOPED_TRACE(info.id);
    Request request = request_for(info.id);
    const auto whole = explainer(model, 0, 1).explain(x, request);
    for (const auto& [chunk, threads] : {std::pair<int64_t, int>{1, 1}, {3, 2}, {7, 2}, {64, 1}}) {
      const auto other = explainer(model, chunk, threads).explain(x, request);
      for (size_t i = 0; i < whole.size(); ++i)
        for (size_t t = 0; t < 3; ++t)
          expect_same_bits(other[i][t].attribution, whole[i][t].attribution);
    }
    for (int64_t i = 0; i < 5; ++i) {  // one item of a job equals the same item alone
      request.first_item = uint32_t(i);
      const auto alone = explainer(model, 0, 2).explain(x.slice(i, i + 1), request);
      for (size_t t = 0; t < 3; ++t) {
        expect_same_bits(alone[0][t].attribution, whole[size_t(i)][t].attribution);
        EXPECT_EQ(alone[0][t].score, whole[size_t(i)][t].score);
      }
    }
  }
}

TEST(Explainer, no_method_depends_on_chunk_threads_or_neighbours) {
  expect_independent_results(tiny_model());
}

TEST(Explainer, no_method_of_convolutional_networks_depends_on_chunk_threads_or_neighbours) {
  expect_independent_results(tiny_cnn());
}

TEST(Explainer, every_method_applies_to_a_kind_of_model) {
  const std::shared_ptr<const Model> transformer = tiny_model(), convolutional = tiny_cnn();
  const Tensor x = random_tensor({1, 3, 12, 20}, 3);
  for (const MethodInfo& info : methods()) {
    EXPECT_TRUE(applies(info, *transformer) || applies(info, *convolutional)) << info.id;
    for (const auto& model : {transformer, convolutional}) {
      if (applies(info, *model)) continue;
      try {
        Explainer(model).explain(x, request_for(info.id));
        FAIL() << info.id;
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::unsupported);
        EXPECT_EQ(std::string(error.what()),
                  "method " + info.id + " needs a " +
                      (!model->places.towers.empty() ? "convolutional network, 'tiny' is not one"
                                                     : "transformer, 'tiny-cnn' is not one"));
      }
    }
  }
}

TEST(Explainer, of_equal_logits_the_first_is_the_predicted_class) {
  const auto model = std::make_shared<Model>(*tiny_model());
  auto& tensors = model->weights.tensors;
  tensors.at("head.weight") = Tensor(tensors.at("head.weight").type());
  tensors.at("head.bias") = Tensor::of({6}, {0, 1, -1, 1, 0, 1});
  model->weights.derived = make_derived_cache();
  const Tensor x = random_tensor({2, 3, 12, 20}, 3);
  for (const auto& item : explainer(model, 0, 1).explain(x, request_for("gradient")))
    EXPECT_EQ(item.at(0).target, 1);
}

TEST(Explainer, random_baselines_depend_on_seed_and_item_alone) {
  const auto model = tiny_model();
  const Tensor x = random_tensor({3, 3, 12, 20}, 2);
  Request r{"integrated-gradients",
            {{"steps", "4"}, {"baselines", "random"}, {"num_random_trials", "3"}},
            {Target{}},
            1,
            {},
            0};
  const auto a = explainer(model, 2, 1).explain(x, r), b = explainer(model, 5, 2).explain(x, r);
  r.seed = 2;
  const auto c = explainer(model, 2, 1).explain(x, r);
  for (size_t i = 0; i < 3; ++i) {
    expect_same_bits(a[i][0].attribution, b[i][0].attribution);
    EXPECT_NE(a[i][0].attribution.reals()[0], c[i][0].attribution.reals()[0]);
  }
}

TEST(Explainer, several_targets_equal_separate_requests_and_contrasts_are_differences) {
  const auto model = tiny_model();
  const Tensor x = random_tensor({2, 3, 12, 20}, 8);
  Explainer e(model);
  Request r{"gradient", {}, {Target{1, 4}, Target{1, -1}, Target{4, -1}, Target{}}, 0, {}, 0};
  const auto results = e.explain(x, r);
  const Tensor logits = e.logits(x);
  for (size_t i = 0; i < 2; ++i) {
    Tensor difference = results[i][1].attribution.clone();
    for (size_t j = 0; j < difference.reals().size(); ++j)
      difference.reals()[j] -= results[i][2].attribution.reals()[j];
    expect_near(results[i][0].attribution, difference, 1e-5);
    EXPECT_NEAR(results[i][0].score, logits.reals()[i * 6 + 1] - logits.reals()[i * 6 + 4], 1e-6);
    const auto row = logits.reals().subspan(i * 6, 6);
    EXPECT_EQ(results[i][3].target, std::max_element(row.begin(), row.end()) - row.begin());
    r.targets = {Target{4, -1}};
    expect_same_bits(e.explain(x, r)[i][0].attribution, results[i][2].attribution);
  }
}

TEST(Explainer, gaps_shrink_with_steps) {
  const auto model = tiny_model();
  const Tensor x = random_tensor({2, 3, 12, 20}, 13);
  Explainer e(model);
  const auto gap = [&](const char* rule, const char* steps) {
    const auto r = e.explain(
        x, {"integrated-gradients", {{"rule", rule}, {"steps", steps}}, {Target{}}, 0, {}, 0});
    return std::max(std::abs(*r[0][0].gap), std::abs(*r[1][0].gap));
  };
  EXPECT_LT(gap("gausslegendre", "64"), 1e-4);
  EXPECT_LT(gap("trapezoid", "100"), 0.2 * gap("trapezoid", "10"));
}

TEST(Explainer, memory_does_not_depend_on_steps) {
  const auto model = tiny_model();
  Explainer e = explainer(model, 4, 1);
  for (const char* id : {"tam", "integrated-gradients"}) {
    const size_t few = e.bytes({id, {{"steps", "5"}}, {Target{}}, 0, {}, 0}, 2);
    EXPECT_EQ(e.bytes({id, {{"steps", "500"}}, {Target{}}, 0, {}, 0}, 2), few) << id;
    EXPECT_NE(e.describe({id, {}, {Target{}}, 0, {}, 0}, 2).find("activation bytes"),
              std::string::npos);
  }
}

TEST(Explainer, a_step_of_tam_has_no_backward_pass_below_the_last_block) {
  const auto model = tiny_model();
  Explainer e = explainer(model, 2, 1);
  const std::string text = e.describe({"tam", {}, {Target{}}, 0, {}, 0}, 2);
  const std::string step = text.substr(text.rfind("pass of"));
  const auto count = [&](const std::string& word) {
    int n = 0;
    for (size_t at = step.find(word); at != std::string::npos; at = step.find(word, at + 1)) ++n;
    return n;
  };
  EXPECT_EQ(count(" attention_bwd "), 0);
  EXPECT_EQ(count(" attention_bwd_row"), 1);
  EXPECT_EQ(count(" linear_bwd"), 4);      // head, fc2, fc1, proj
  EXPECT_EQ(count(" layer_norm_bwd"), 2);  // the final norm, norm2 of the last block
}

TEST(Explainer, refuses_what_it_cannot_explain) {
  const auto model = tiny_model();
  Explainer e(model);
  const Tensor x = random_tensor({2, 3, 12, 20}, 1);
  const auto message = [&](const Tensor& input, const Request& r) -> std::string {
    try {
      e.explain(input, r);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(message(x, {"gradiant", {}, {Target{}}, 0, {}, 0}).substr(0, 57),
            "there is no method 'gradiant'; the nearest are 'gradient'");
  EXPECT_EQ(message(x, {"tam", {{"step", "5"}}, {Target{}}, 0, {}, 0}),
            "method tam has no option 'step'; its options are 'start_layer', 'steps', "
            "'with_integral', 'last_state_only', "
            "'gradient_of'");
  EXPECT_EQ(message(x, {"tam", {{"start_layer", "5"}}, {Target{}}, 0, {}, 0}),
            "option start_layer of method tam is '5', a whole number from 0 to 4 is needed");
  EXPECT_EQ(message(x, {"tam", {{"steps", "-1"}}, {Target{}}, 0, {}, 0}),
            "option steps of method tam is '-1', a whole number from 1 to 100000 is needed");
  EXPECT_EQ(message(x, {"tam", {}, {Target{}}, 0, {}, 0, "norm"}),
            "method tam takes no layer, 'norm' was given");
  EXPECT_EQ(message(x, {"gradient", {}, {Target{6, -1}}, 0, {}, 0}),
            "target 6 is out of range, 'tiny' has classes 0 to 5");
  EXPECT_EQ(message(random_tensor({2, 3, 12, 12}, 1), {"gradient", {}, {Target{}}, 0, {}, 0}),
            "inputs have shape [2, 3, 12, 12], the model takes [N, 3, 12, 20]");
  Tensor bad = x.clone();
  bad.reals()[720 + 5] = std::numeric_limits<real>::quiet_NaN();
  EXPECT_EQ(message(bad, {"gradient", {}, {Target{}}, 0, {}, 0}),
            "item 1: input value 5 is nan, inputs must be finite");
  auto broken = std::make_shared<Model>(*model);
  Tensor w = broken->weights.tensors["blocks.2.mlp.fc1.weight"].clone();
  for (real& v : w.reals()) v = std::numeric_limits<real>::max() / 4;
  broken->weights.tensors["blocks.2.mlp.fc1.weight"] = w;
  broken->weights.derived = make_derived_cache();
  try {
    Explainer(broken).logits(x);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()),
              "item 0: the model's answer is not finite, first in 'blocks.2.mlp.pre'");
  }
}

TEST(Explainer, reads_a_file_again_that_has_changed) {
  const auto path = std::filesystem::temp_directory_path() /
                    fmt::format("whence-explainer-test-{}.json", getpid());
  const auto write = [&](const char* rule) {
    std::ofstream(path) << R"({"rows": [{"kinds": "linear", "rule": ")" << rule
                        << R"("}, {"kinds": "attention", "rule": "Halves"},
                        {"kinds": "add", "rule": "Norm"}, {"kinds": "fanout", "rule": "Sum"},
                        {"kinds": "*", "rule": "Pass"}]})";
  };
  const auto model = tiny_model();
  const Tensor x = random_tensor({2, 3, 12, 20}, 1);
  Explainer kept(model);
  Request request;
  request.method = "lrp";
  request.options["rules"] = path.string();
  for (const char* rule : {"ZPlus", "Epsilon", "PositiveWeights"}) {
    write(rule);
    expect_same_bits(kept.explain(x, request)[1][0].attribution,
                     Explainer(model).explain(x, request)[1][0].attribution);
  }
  std::filesystem::remove(path);
}

// While one call runs, another thread's is refused before it has read or moved anything.
TEST(Explainer, does_one_thing_at_a_time) {
  const auto model = tiny_model(2);
  const Tensor x = random_tensor({2, 3, 12, 20}, 3);
  const Request r = request_for("gradient"), lrp = request_for("lrp");
  Explainer* busy = nullptr;
  std::map<std::string, int> refused;
  const auto expect_busy = [&](const char* call, const std::function<void()>& f) {
    try {
      f();
      ADD_FAILURE() << call << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::busy) << call;
      ++refused[call];
    }
  };
  Explainer::Settings settings;
  settings.chunk = 1;
  settings.progress = [&](double) {
    std::thread([&] {
      expect_busy("logits", [&] { busy->logits(x); });
      expect_busy("explain", [&] { busy->explain(x, r); });
      expect_busy("explain all", [&] { busy->explain(x, std::span(&r, 1)); });
      expect_busy("audit", [&] { busy->audit(x, lrp); });
      expect_busy("describe", [&] { busy->describe(r, 2); });
      expect_busy("bytes", [&] { busy->bytes(r, 2); });
      expect_busy("bytes of all", [&] { busy->bytes(std::span(&r, 1), 2); });
      expect_busy("derived bytes", [&] { busy->derived_bytes(r, 2); });
      expect_busy("work", [&] { busy->work(r, 2); });
    }).join();
    return true;
  };
  Explainer explainer(model, settings);
  busy = &explainer;
  const auto alone = Explainer(model).explain(x, r);
  const auto disturbed = explainer.explain(x, r);
  for (size_t i = 0; i < 2; ++i)
    for (size_t t = 0; t < alone[i].size(); ++t)
      expect_same_bits(disturbed[i][t].attribution, alone[i][t].attribution);
  EXPECT_EQ(refused.size(), 9u);
  EXPECT_EQ(explainer.logits(x).shape(), (Shape{2, 6})) << "free again";
}

TEST(Explainer, cancels_at_the_next_chunk) {
  const auto model = tiny_model();
  Explainer::Settings s;
  s.chunk = 2;
  int calls = 0;
  s.progress = [&](double) { return ++calls < 3; };
  Explainer e(model, s);
  EXPECT_THROW(
      e.explain(random_tensor({2, 3, 12, 20}, 1), {"smoothgrad", {}, {Target{}}, 0, {}, 0}), Error);
  EXPECT_EQ(calls, 3);
}

}  // namespace
}  // namespace whence
