// Numbers of InterpretDL 0.8.0 on one tiny transformer, and its aggregation rules on random maps.
#include "models/load.h"
#include "models/vit/family.h"
#include "tests/unit/golden_file.h"
#include "tests/unit/random_tensors.h"
#include "whence/explain.h"
#include "whence/ops.h"
#include "whence/plan.h"

namespace whence {
namespace {

// The reference computed in float32; its interpreters agree with a double evaluation to 2e-7
// relative.
constexpr double bound = 1e-5;

// The golden model: linear weights are stored [in, out], q, k and v fused.
std::shared_ptr<Model> golden_model(const nlohmann::json& vit) {
  ViTConfig c;
  c.image_height = c.image_width = 28;
  c.patch = 2;
  c.width = 8;
  c.depth = 3;
  c.heads = 2;
  c.mlp = 16;
  c.classes = 6;
  c.norm_epsilon = real(1e-5);
  auto m = std::make_shared<Model>(model_of(std::make_shared<ViTNetwork>(c)));
  m->name = "golden";
  auto& w = m->weights.tensors;
  for (const auto& [name, array] : vit.at("params").items()) {
    const Tensor t = json_tensor(array);
    const size_t qkv = name.find("qkv.");
    if (qkv != std::string::npos) {
      const Tensor rows = t.shape().rank() == 2 ? transposed(t) : t;
      const char* parts[] = {"q", "k", "v"};
      for (int64_t i = 0; i < 3; ++i)
        w[name.substr(0, qkv) + parts[i] + name.substr(qkv + 3)] =
            rows.slice(8 * i, 8 * i + 8).clone();
    } else if (name == "pos_embed") {
      w["embed.pos"] = t;
    } else if (name == "cls_token") {
      w["embed.cls"] = t;
    } else if (name.starts_with("patch_embed.proj")) {
      w["embed.patch" + name.substr(16)] = t.shape().rank() == 4 ? t.reshaped({8, 12}) : t;
    } else {
      w[name] = t.shape().rank() == 2 ? transposed(t) : t;
    }
  }
  return m;
}

Tensor golden_images(const Model& m, const nlohmann::json& vit) {
  const std::vector<int> u8 = vit.at("images_u8").at("data");
  Tensor x(Type{{2, 3, 28, 28}});
  const size_t n = 28 * 28 * 3;
  for (size_t i = 0; i < 2; ++i) {
    Image image{28, 28,
                std::vector<uint8_t>(u8.begin() + long(i * n), u8.begin() + long((i + 1) * n))};
    const Tensor one = m.preprocess.normalise(image);
    std::copy(one.reals().begin(), one.reals().end(), x.reals().begin() + long(i * n));
  }
  return x;
}

TEST(GoldenInterpreters, transformer_methods) {
  const auto vit = golden_json("interpreters_vit.json").at("vit");
  const auto model = golden_model(vit);
  const Tensor x = golden_images(*model, vit);
  Explainer explainer(model);
  expect_close(explainer.logits(x).reals(), json_tensor(vit.at("logits")).reals(), bound, "logits");
  const auto check = [&](const char* key, Request request) {
    const auto& golden = vit.at(key);
    request.options["start_layer"] = golden.at("start_layer").dump();
    if (golden.contains("steps")) request.options["steps"] = golden.at("steps").dump();
    const Tensor want = json_tensor(golden.at("expected"));
    const auto results = explainer.explain(x, request);
    for (int64_t i = 0; i < want.shape()[0]; ++i)
      expect_close(results[size_t(i)][0].attribution.reals(), want.slice(i, i + 1).reals(), bound,
                   key);
  };
  check("tam", {"tam", {}, {Target{}}, 0, {}, 0});
  check("rollout", {"rollout", {}, {Target{}}, 0, {}, 0});
  check("gacv_probability", {"generic-attention", {}, {Target{}}, 0, {}, 0});
  check("gacv_logit", {"generic-attention", {{"gradient_of", "logit"}}, {Target{}}, 0, {}, 0});
  check("ga_paper_probability", {"generic-attention", {{"rule", "paper"}}, {Target{}}, 0, {}, 0});
}

// The recursions on given maps: rows of the products that the methods form as vector chains.
TEST(GoldenInterpreters, aggregation) {
  const auto golden = golden_json("interpreters_vit.json").at("aggregation");
  const Tensor a = json_tensor(golden.at("A")),
               dp = json_tensor(golden.at("grad"));  // [L, 1, H, S, S]
  Graph g;
  Values A, G;
  for (int l = 0; l < 3; ++l) {
    A.push_back(g.input("A" + std::to_string(l), Type{{1, 2, 5, 5}}));
    G.push_back(g.input("G" + std::to_string(l), Type{{1, 2, 5, 5}}));
  }
  const auto chain = [&](Value r, const Values& maps, int from) {
    for (int l = 2; l >= from; --l) r = add(r, einsum(r, maps[size_t(l)], "bi,bij->bj"));
    return r;
  };
  Values means, paper, coded;
  for (int l = 0; l < 3; ++l) {
    means.push_back(mean(A[size_t(l)], {1}));
    paper.push_back(mean(relu(mul(A[size_t(l)], G[size_t(l)])), {1}));
    coded.push_back(relu(mul(means.back(), mean(G[size_t(l)], {1}))));
  }
  const Value first = unit_row(g, 1, 5, 0);
  Value roll = first;
  for (int l = 2; l >= 0; --l)
    roll = scale(add(roll, einsum(roll, means[size_t(l)], "bi,bij->bj")), real(0.5));
  const Value last = einsum(first, means[2], "bi,bij->bj");
  const Value state = add(last, einsum(last, means[1], "bi,bij->bj"));
  const Values keep{chain(first, paper, 1), chain(first, coded, 1), roll, state};
  Plan plan(keep);
  plan.bind({});
  for (int l = 0; l < 3; ++l) {
    plan.set(A[size_t(l)], a.slice(l, l + 1).reshaped({1, 2, 5, 5}));
    if (l > 0) plan.set(G[size_t(l)], dp.slice(l, l + 1).reshaped({1, 2, 5, 5}));
  }
  plan.forward();
  // The numbers are stored with twelve significant digits.
  const double tight = sizeof(real) == 8 ? 1e-11 : 1e-6;
  const auto row0 = [&](const char* key) { return json_tensor(golden.at(key)).slice(0, 1); };
  expect_close(plan.view(keep[0]), row0("ga_paper_R").reals(), tight, "ga_paper_R");
  expect_close(plan.view(keep[1]), row0("ga_interpretdl_R").reals(), tight, "ga_interpretdl_R");
  expect_close(plan.view(keep[2]), row0("rollout_J").reals(), tight, "rollout_J");
  expect_close(plan.view(keep[3]), json_tensor(golden.at("tam_state")).reals(), tight, "tam_state");
}

}  // namespace
}  // namespace whence
