// deeplift and deeplift-shap: against Captum (tests/golden/make_deeplift.py), complete where they
// can be, and what their gap says where not.
#include <fstream>
#include <numeric>

#include "io/npy.h"
#include "tests/unit/golden_cnn.h"
#include "tests/unit/message_of.h"
#include "tests/unit/random_tensors.h"
#include "tests/unit/tiny_model.h"

namespace whence {
namespace {

using Options = std::map<std::string, std::string>;

// A .npy file that exists as long as this.
class NpyFile {
 public:
  explicit NpyFile(const Tensor& values, const std::string& name = "baselines")
      : path_(std::filesystem::path(testing::TempDir()) /
              fmt::format("whence_{}_{}.npy", name, getpid())) {
    const auto bytes = encode_npy(values);
    std::ofstream(path_, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), std::streamsize(bytes.size()));
  }
  ~NpyFile() { std::filesystem::remove(path_); }
  NpyFile(const NpyFile&) = delete;
  NpyFile& operator=(const NpyFile&) = delete;
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

Explainer explainer(const std::shared_ptr<const Model>& m, int64_t chunk = 0) {
  Explainer::Settings s;
  s.chunk = chunk;
  s.threads = 1;
  return Explainer(m, s);
}

std::vector<std::vector<Result>> explain(const std::shared_ptr<const Model>& m, const Tensor& x,
                                         const std::string& method, Options options = {},
                                         std::vector<Target> targets = {Target{1, -1}}) {
  Request r;
  r.method = method;
  r.options = std::move(options);
  r.targets = std::move(targets);
  return explainer(m).explain(x, r);
}

// As a file stores them, which is in float.
Tensor stored_tensor(Shape shape, uint64_t seed) {
  Tensor t = random_tensor(shape, seed);
  for (real& v : t.reals()) v = real(static_cast<float>(v));
  return t;
}

Tensor baselines_of(const std::string& name, const nlohmann::json& about) {
  const int64_t h = about.at("height"), w = about.at("width");
  std::vector<real> values;
  for (double z : draw("baseline." + name, about.at("seed"), size_t(3 * 3 * h * w)))
    values.push_back(real(static_cast<float>(z)));
  return Tensor::of({3, 3, h, w}, values);
}

TEST(DeepLift, is_captums_on_a_network_of_rectifiers_and_pools) {
  const auto about = golden_json("cnn.json").at("tiny");
  const auto file = SafetensorsFile::open(golden_path("deeplift.golden.safetensors"));
  for (const Tiny& tiny : tiny_models()) {
    if (!tiny.name.starts_with("vgg")) continue;
    const auto model = golden_model(tiny, about.at(tiny.name));
    const Tensor x = golden_input(tiny.name, about.at(tiny.name));
    const Tensor all = baselines_of(tiny.name, about.at(tiny.name));
    const NpyFile several(all, "several"), one(all.slice(0, 1), "one");
    const auto expect = [&](const std::string& key, const std::string& method, Options options,
                            double bound) {
      const auto got = explain(model, x, method, std::move(options), {{1, -1}, {3, -1}});
      std::vector<real> values, sampled;
      for (size_t b = 0; b < 2; ++b) {
        const auto e = got[b][b].attribution.reals();
        values.insert(values.end(), e.begin(), e.end());
      }
      for (size_t i = 0; i < values.size(); i += 23) sampled.push_back(values[i]);
      expect_close(sampled, file.read(tiny.name + "." + key).reals(),
                   sizeof(real) == 8 ? 1e-9 : bound, tiny.name + " " + key);
    };
    // The reference's own float32 run is off by up to 4e-6, and 2.3e-5 for the probability.
    expect("zero", "deeplift", {}, 2e-5);
    expect("baseline", "deeplift", {{"baselines", one.path()}}, 2e-5);
    expect("multipliers", "deeplift", {{"baselines", one.path()}, {"multiply_by_inputs", "false"}},
           2e-5);
    expect("probability", "deeplift", {{"baselines", one.path()}, {"gradient_of", "probability"}},
           1e-4);
    expect("shap", "deeplift-shap", {{"baselines", several.path()}}, 2e-5);
  }
}

// Every residual sum, overlapping pool and clipped rectifier of these is covered.
TEST(DeepLift, attributions_add_up_to_the_rise_of_the_score) {
  const auto about = golden_json("cnn.json").at("tiny");
  for (const Tiny& tiny : tiny_models()) {
    SCOPED_TRACE(tiny.name);
    const auto model = golden_model(tiny, about.at(tiny.name));
    const Tensor x = golden_input(tiny.name, about.at(tiny.name));
    for (const char* score : {"logit", "probability"})
      for (const Options& options :
           {Options{{"gradient_of", score}},
            Options{{"gradient_of", score}, {"baselines", "random"}, {"num_random_trials", "2"}}}) {
        const std::string method = options.size() > 1 ? "deeplift-shap" : "deeplift";
        const auto got = explain(model, x, method, options, {{}, {1, 4}});
        for (const auto& of_item : got)
          for (const Result& r : of_item) {
            double sum = 0, magnitude = 0;
            for (real e : r.attribution.reals()) sum += e, magnitude += std::abs(double(e));
            ASSERT_TRUE(r.gap);
            EXPECT_GT(magnitude, std::abs(r.score) / 100);
            EXPECT_LT(std::abs(*r.gap), 200 * std::numeric_limits<real>::epsilon() * magnitude)
                << score << ", a sum of " << sum;
          }
      }
  }
}

TEST(DeepLift, the_gap_is_what_attention_and_norms_leave_out) {
  const auto model = tiny_model(2);
  const Tensor x = random_tensor({2, 3, 12, 20}, 21), b = stored_tensor({1, 3, 12, 20}, 4);
  const NpyFile file(b);
  const auto got = explain(model, x, "deeplift", {{"baselines", file.path()}});
  Explainer e = explainer(model);
  const Tensor after = e.logits(x), before = e.logits(b);
  for (size_t i = 0; i < 2; ++i) {
    const auto values = got[i][0].attribution.reals();
    const double sum = std::accumulate(values.begin(), values.end(), 0.0);
    const double rise = double(after.reals()[6 * i + 1]) - before.reals()[1];
    EXPECT_EQ(got[i][0].score, after.reals()[6 * i + 1]);
    EXPECT_NEAR(*got[i][0].gap, sum - rise, 1e-6);
    EXPECT_GT(std::abs(*got[i][0].gap), 1e-3);
  }
  EXPECT_FALSE(explain(model, x, "deeplift", {{"multiply_by_inputs", "false"}})[0][0].gap);
}

TEST(DeepLift, multipliers_times_differences_are_the_attribution) {
  const auto model = tiny_cnn();
  const Tensor x = random_tensor({2, 3, 12, 20}, 21), b = stored_tensor({1, 3, 12, 20}, 4);
  const NpyFile file(b);
  const auto on = explain(model, x, "deeplift", {{"baselines", file.path()}});
  const auto off =
      explain(model, x, "deeplift", {{"baselines", file.path()}, {"multiply_by_inputs", "false"}});
  for (size_t i = 0; i < 2; ++i)
    for (size_t j = 0; j < b.reals().size(); ++j)
      EXPECT_EQ(
          on[i][0].attribution.reals()[j],
          off[i][0].attribution.reals()[j] * (x.reals()[i * b.reals().size() + j] - b.reals()[j]));
}

TEST(DeepLift, shap_is_the_mean_over_the_baselines) {
  const auto model = tiny_cnn();
  const Tensor x = random_tensor({3, 3, 12, 20}, 21), all = stored_tensor({3, 3, 12, 20}, 4);
  const NpyFile file(all);
  const std::vector<Target> targets{Target{}, Target{2, 0}};
  const auto mean = explain(model, x, "deeplift-shap", {{"baselines", file.path()}}, targets);
  std::vector<std::vector<Tensor>> sums(3);
  for (auto& of_item : sums)
    for (int t = 0; t < 2; ++t) of_item.emplace_back(Type{model->image_shape()});
  for (int64_t m = 0; m < 3; ++m) {
    const NpyFile one(all.slice(m, m + 1), "one");
    const auto part = explain(model, x, "deeplift", {{"baselines", one.path()}}, targets);
    for (size_t i = 0; i < 3; ++i)
      for (size_t t = 0; t < 2; ++t)
        for (size_t j = 0; j < sums[i][t].reals().size(); ++j)
          sums[i][t].reals()[j] += part[i][t].attribution.reals()[j] / 3;
  }
  for (size_t i = 0; i < 3; ++i)
    for (size_t t = 0; t < 2; ++t) expect_near(mean[i][t].attribution, sums[i][t], 1e-6);
}

TEST(DeepLift, random_baselines_are_the_draws_or_those_of_seed_and_item) {
  const auto model = tiny_cnn();
  const Tensor x = random_tensor({3, 3, 12, 20}, 21), all = stored_tensor({2, 3, 12, 20}, 4);
  const NpyFile file(all);
  const auto want = explain(model, x, "deeplift-shap", {{"baselines", file.path()}});
  Request r{"deeplift-shap", {{"num_random_trials", "2"}}, {Target{1, -1}}, 1, {}, 0};
  r.draws = Tensor(Type{{2, 4, 3, 12, 20}});  // one item more than are asked for
  const size_t n = 3 * 12 * 20;
  for (size_t trial = 0; trial < 2; ++trial)
    for (size_t item = 0; item < 4; ++item)
      std::ranges::copy(all.reals().subspan(trial * n, n),
                        r.draws.reals().begin() + int64_t((trial * 4 + item) * n));
  const auto got = explainer(model).explain(x, r);
  for (size_t i = 0; i < 3; ++i) expect_same_bits(got[i][0].attribution, want[i][0].attribution);
  r.draws = Tensor(Type{{2, 2, 3, 12, 20}});
  EXPECT_EQ(message([&] { explainer(model).explain(x, r); }),
            "the draws have shape [2, 2, 3, 12, 20], [2, items, 3, 12, 20] is needed");
  r.draws = Tensor(Type{{2, 4, 3, 12, 20}, Dtype::i32});
  EXPECT_EQ(message([&] { explainer(model).explain(x, r); }),
            "the draws are integers, reals are needed");
  r.draws = {};
  const auto seeded = explainer(model, 2).explain(x, r), again = explainer(model, 6).explain(x, r);
  r.seed = 2;
  const auto other = explainer(model).explain(x, r);
  for (size_t i = 0; i < 3; ++i) {
    expect_same_bits(seeded[i][0].attribution, again[i][0].attribution);
    EXPECT_NE(seeded[i][0].attribution.reals()[0], other[i][0].attribution.reals()[0]);
  }
}

TEST(DeepLift, memory_does_not_depend_on_the_number_of_baselines) {
  Explainer e = explainer(tiny_cnn(), 4);
  const auto bytes = [&](const char* trials) {
    return e.bytes({"deeplift-shap", {{"num_random_trials", trials}}, {Target{}}, 0, {}, 0}, 3);
  };
  EXPECT_EQ(bytes("2"), bytes("200"));
  for (const auto& work : e.work({"deeplift-shap", {}, {Target{}}, 0, {}, 0}, 3))
    EXPECT_EQ(work.rows, 4);
}

TEST(DeepLift, refuses_baselines_that_do_not_fit) {
  const auto model = tiny_cnn();
  const Tensor x = random_tensor({2, 3, 12, 20}, 21);
  const auto answer = [&](const char* method, const std::string& baselines) {
    return message([&] { explain(model, x, method, {{"baselines", baselines}}); });
  };
  const NpyFile narrow(random_tensor({2, 3, 12, 12}, 1), "narrow");
  const NpyFile two(random_tensor({2, 3, 12, 20}, 1), "two");
  const NpyFile one(random_tensor({1, 3, 12, 20}, 1), "one");
  const NpyFile plain(random_tensor({3, 12, 20}, 1), "plain");
  EXPECT_EQ(answer("deeplift", narrow.path()),
            narrow.path() +
                ": a baseline of shape [2, 3, 12, 12] was given, the model's input is [3, 12, 20]");
  EXPECT_EQ(answer("deeplift", two.path()),
            two.path() +
                ": a baseline of shape [2, 3, 12, 20] was given, the model's input is [3, 12, 20]");
  for (const auto& [file, shape] :
       {std::pair(&narrow, "[2, 3, 12, 12]"), {&one, "[1, 3, 12, 20]"}, {&plain, "[3, 12, 20]"}})
    EXPECT_EQ(answer("deeplift-shap", file->path()),
              file->path() + ": baselines of shape " + shape +
                  " were given, two or more of the model's input [3, 12, 20] are needed");
  const NpyFile integers(Tensor(Type{{2, 3, 12, 20}, Dtype::i32}), "integers");
  const NpyFile bytes(Tensor(Type{{3, 12, 20}, Dtype::u8}), "bytes");
  for (const char* method : {"deeplift", "deeplift-shap"})
    for (const NpyFile* file : {&integers, &bytes})
      EXPECT_EQ(answer(method, file->path()),
                file->path() + ": integers are given, a baseline has reals");
  EXPECT_EQ(answer("deeplift", plain.path()), "accepted");
  for (const auto& [method, word] : {std::pair("deeplift", "random"), {"deeplift-shap", "zero"}})
    EXPECT_NE(answer(method, word), "accepted");
  EXPECT_EQ(message([&] {
              explain(model, x, "deeplift-shap", {{"num_random_trials", "1"}});
            }),
            "option num_random_trials of method deeplift-shap is '1', a whole number from 2 to "
            "10000 is needed");
  EXPECT_EQ(message([&] {
              explain(model, x, "deeplift", {{"gradient_of", "loss"}});
            }),
            "option gradient_of of method deeplift is 'loss', one of 'logit', 'probability' is "
            "needed");
}

}  // namespace
}  // namespace whence
