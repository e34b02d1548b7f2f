// The balance of relevance passes: published totals, what biases absorb, and that nothing is
// counted twice or forgotten.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <numeric>

#include "models/load.h"
#include "models/vit/family.h"
#include "tests/unit/message_of.h"
#include "tests/unit/random_tensors.h"
#include "tests/unit/relevance_of_op.h"
#include "tests/unit/tiny_model.h"
#include "tests/unit/tiny_vit_relevance.h"

namespace whence {
namespace {

Tensor images(const Model& model, int64_t count, uint64_t seed = 3) {
  return random_tensor(
      {count, model.image_shape()[0], model.image_shape()[1], model.image_shape()[2]}, seed);
}

Request request(const std::string& method, const std::string& rules, std::vector<Target> targets) {
  Request r;
  r.method = method;
  if (!rules.empty()) r.options["rules"] = rules;
  r.targets = std::move(targets);
  return r;
}

const AuditRow& row_of(const Audit& audit, const std::string& name, const std::string& kind = "") {
  for (const AuditRow& row : audit.rows)
    if (row.name == name && (kind.empty() || row.kind == kind)) return row;
  ADD_FAILURE() << "no row " << name;
  static const AuditRow none;
  return none;
}

double largest_in(const Audit& audit) {
  double largest = std::abs(audit.seed);
  for (const AuditRow& row : audit.rows) largest = std::max(largest, std::abs(row.in));
  return largest;
}

// What is not at the input was lost by some step.
void expect_balance(const Audit& audit) {
  double lost = 0;
  for (const AuditRow& row : audit.rows) lost += row.lost();
  const double bound = sizeof(real) == 8 ? 1e-12 : 1e-4;
  EXPECT_NEAR(audit.seed - audit.input, lost, bound * largest_in(audit)) << audit.rules;
}

// The transformer with published relevance, as a model; its last norm has another epsilon.
std::shared_ptr<const Model> published_model() {
  ViTConfig c;
  c.image_height = c.image_width = 4;
  c.patch = 2, c.width = 8, c.depth = 3, c.heads = 2, c.mlp = 16, c.classes = 3;
  auto m = std::make_shared<Model>(model_of(std::make_shared<ViTNetwork>(c)));
  m->name = "published";
  auto& w = m->weights.tensors;
  const auto dense = [&](const std::string& name, uint32_t t, int64_t outputs, int64_t inputs) {
    w[name + ".weight"] = tiny_tensor(t, {outputs, inputs}, .5);
    w[name + ".bias"] = tiny_tensor(t + 1, {outputs}, .1);
  };
  const auto norm = [&](const std::string& name, uint32_t t) {
    w[name + ".weight"] = tiny_tensor(t, {8}, .1, 1);
    w[name + ".bias"] = tiny_tensor(t + 1, {8}, .1);
  };
  w["embed.cls"] = tiny_tensor(0, {1, 1, 8}, .5);
  w["embed.pos"] = tiny_tensor(1, {1, 5, 8}, .5);
  dense("embed.patch", 2, 8, 12);
  for (uint32_t b = 0; b < 3; ++b) {
    const std::string at = "blocks." + std::to_string(b) + ".";
    const uint32_t t = 4 + 12 * b;
    norm(at + "norm1", t);
    const Tensor weight = tiny_tensor(t + 2, {24, 8}, .5), bias = tiny_tensor(t + 3, {24}, .1);
    for (int64_t part = 0; part < 3; ++part) {
      const std::string name = at + "attn." + "qkv"[part];
      w[name + ".weight"] = weight.slice(8 * part, 8 * part + 8).clone();
      w[name + ".bias"] = bias.slice(8 * part, 8 * part + 8).clone();
    }
    dense(at + "attn.proj", t + 4, 8, 8);
    norm(at + "norm2", t + 6);
    dense(at + "mlp.fc1", t + 8, 16, 8);
    dense(at + "mlp.fc2", t + 10, 8, 16);
  }
  norm("norm", 40);
  dense("head", 42, 3, 8);
  return m;
}

TEST(Audit, of_a_tiny_transformer_has_the_published_totals) {
  Explainer explainer(published_model());
  const Tensor image = tiny_tensor(100, {1, 3, 4, 4}, 1);
  const Audit audit = explainer.audit(
      image, request("transformer-attribution", "chefer-stable", {Target{0, -1}}))[0][0];
  expect_balance(audit);
  EXPECT_EQ(audit.rules, "chefer-stable");
  EXPECT_EQ(audit.target, 0);
  EXPECT_EQ(audit.seed, 1);
  EXPECT_NEAR(audit.score, -.306861615, 1e-4);
  const double total[] = {.172613686, .073530927, .140438103};
  for (int b = 0; b < 3; ++b) {
    const AuditRow& row = row_of(audit, "blocks." + std::to_string(b) + ".attn.context");
    EXPECT_EQ(row.kind, "attention");
    EXPECT_EQ(row.rule, "Halves");
    ASSERT_TRUE(row.probabilities);
    EXPECT_NEAR(*row.probabilities, total[b], 2e-5);
    EXPECT_NEAR(*row.probabilities, row.in / 2, 1e-6) << "half to the probabilities";
  }
  const std::vector<double> pixels{.011736326,  .02927532,  -.007297284, -.008815945,
                                   .005376994,  .019169546, -.008253952, -.006391638,
                                   -.005355578, .004914634, .035681767,  .018068614,
                                   .023696473,  .006969782, .009291261,  .017819338};
  EXPECT_NEAR(audit.input, std::accumulate(pixels.begin(), pixels.end(), 0.0), 2e-5);
  EXPECT_EQ(row_of(audit, "embed.patches").rule, "ZBox");
  EXPECT_NEAR(row_of(audit, "embed.patches").lost(), 0, 1e-6) << "a box loses nothing";
  EXPECT_GT(std::abs(row_of(audit, "embed.out", "add").lost()), 1e-3)
      << "the positions have a share";
}

TEST(Audit, has_the_sums_of_the_relevance_itself) {
  TinyViT m(1, 1e-6);
  Values probs;
  for (const Attention& a : m.attention) probs.push_back(a.probs);
  const Value seed = m.graph.input("seed", m.logits.type(), Stage::seed);
  Values of = relevance(m.logits, seed, probs, chefer_classic());
  of.push_back(relevance(m.logits, seed, {m.image}, chefer_classic())[0]);
  of.push_back(m.logits);
  Plan plan(of);
  plan.bind(m.weights);
  const Tensor image = tiny_tensor(100, {1, 3, 4, 4}, 1);
  plan.set(m.image, image);
  plan.set(seed, Tensor::of({1, 3}, {0, 0, 1}));
  plan.forward();
  plan.backward();
  Explainer explainer(published_model());
  const Audit audit = explainer.audit(
      image, request("transformer-attribution", "chefer-classic", {Target{2, -1}}))[0][0];
  const auto total = [&](Value v) {
    const auto x = plan.view(v);
    return std::accumulate(x.begin(), x.end(), 0.0);
  };
  const double bound = sizeof(real) == 8 ? 1e-9 : 1e-3;
  for (size_t b = 0; b < 3; ++b) {
    const AuditRow& row = row_of(audit, "blocks." + std::to_string(b) + ".attn.context");
    EXPECT_NEAR(row.probabilities.value(), total(of[b]), bound * largest_in(audit));
  }
  EXPECT_NEAR(audit.input, total(of[3]), bound * largest_in(audit));
}

std::shared_ptr<const Model> plain_cnn(bool batch_norm) {
  VggConfig c;
  c.image_height = 12, c.image_width = 20;
  c.classes = 6;
  c.layers = {{4}, {5, 6}};
  c.batch_norm = batch_norm;
  c.pooled = 1;
  c.hidden = {8, 8};
  auto m = std::make_shared<Model>(random_model(c, 5));
  m->name = "tiny-cnn";
  return m;
}

TEST(Audit, of_a_network_without_branches_hands_on_from_step_to_step) {
  Explainer explainer(plain_cnn(false));
  const auto audits =
      explainer.audit(images(explainer.model(), 2),
                      request("lrp", "captum", {Target{}, Target{2, -1}, Target{1, 4}}));
  ASSERT_EQ(audits.size(), 2u);
  for (const auto& of_item : audits) {
    ASSERT_EQ(of_item.size(), 3u);
    for (const Audit& audit : of_item) {
      expect_balance(audit);
      EXPECT_NEAR(audit.seed, audit.score, 1e-5 * std::abs(audit.score));
      EXPECT_EQ(audit.rows.front().name, "logits");
      EXPECT_EQ(audit.rows.front().in, audit.seed);
      for (size_t i = 1; i < audit.rows.size(); ++i)
        EXPECT_EQ(audit.rows[i].in, audit.rows[i - 1].out) << audit.rows[i].name;
      EXPECT_EQ(audit.rows.back().out, audit.input);
    }
    EXPECT_EQ(of_item[2].target, 1);
    EXPECT_EQ(of_item[2].against, 4);
  }
}

// Every rule with a bias in its denominator loses what the bias has of it, and no more than that
// but for a small stabiliser.
TEST(Audit, tells_what_biases_absorb) {
  const auto folder = std::filesystem::temp_directory_path() / "whence-audit-test";
  std::filesystem::create_directories(folder);
  const std::string rules[] = {
      R"("Epsilon", "epsilon": 1e-12)",
      R"("Gamma", "epsilon": 1e-12)",
      R"("Gamma", "generalised": false, "epsilon": 1e-12)",
      R"("ZPlus", "epsilon": 1e-12)",
      R"("AlphaBeta", "alpha": 2, "joint": true, "bias": true, "epsilon": 1e-12,
         "stabiliser": "away")",
      R"("PositiveWeights", "epsilon": 1e-12)",
      R"("WSquare", "epsilon": 1e-12)",
  };
  for (const bool batch_norm : {false, true}) {
    Explainer explainer(plain_cnn(batch_norm));
    const Tensor image = images(explainer.model(), 1);
    for (const std::string& rule : rules)
      for (const bool merged : {false, true}) {
        const auto path = folder / "one.json";
        std::ofstream(path) << R"({"rows": [{"kinds": "conv2d|linear", "rule": )" << rule
                            << R"(}, {"kinds": "batch_norm", "rule": ")"
                            << (merged ? "Pass" : "Epsilon") << R"("},
              {"kinds": "average_pool|mean", "rule": "Norm"}, {"kinds": "fanout", "rule": "Sum"},
              {"kinds": "*", "rule": "Pass"}],
              "merge_norms": )"
                            << (merged ? "true" : "false") << "}";
        const Audit audit = explainer.audit(image, request("lrp", path, {Target{}}))[0][0];
        SCOPED_TRACE(rule + (batch_norm ? ", norms" : "") + (merged ? ", merged" : ""));
        expect_balance(audit);
        double absorbed = 0;
        for (const AuditRow& row : audit.rows) {
          const bool norm = row.kind == "batch_norm" && !merged;
          if (!norm && row.kind != "conv2d" && row.kind != "linear") continue;
          ASSERT_TRUE(row.absorbed) << row.name;
          absorbed += std::abs(*row.absorbed);
          EXPECT_NEAR(row.lost(), *row.absorbed,
                      (sizeof(real) == 8 ? 1e-8 : 2e-3) * largest_in(audit))
              << row.name;
        }
        EXPECT_GT(absorbed, 1e-3 * largest_in(audit)) << "nothing to be told apart";
      }
  }
  std::filesystem::remove_all(folder);
}

TEST(Audit, of_attn_lrp_shows_what_norms_and_products_lose) {
  Explainer explainer(tiny_model(2));
  const Audit audit =
      explainer.audit(images(explainer.model(), 1), request("lrp", "attn-lrp", {Target{}}))[0][0];
  expect_balance(audit);
  for (const char* name : {"blocks.1.norm2", "norm", "logits", "blocks.0.mlp.out"})
    EXPECT_TRUE(row_of(audit, name).absorbed) << name;
  EXPECT_FALSE(row_of(audit, "blocks.0.mlp.hidden").absorbed);
  EXPECT_NEAR(row_of(audit, "norm").lost(), *row_of(audit, "norm").absorbed,
              1e-3 * largest_in(audit));
  EXPECT_EQ(row_of(audit, "blocks.0.mlp.hidden").lost(), 0) << "activations pass";
  EXPECT_FALSE(row_of(audit, "blocks.0.attn.context").probabilities) << "lrp does not read them";
}

TEST(Audit, an_input_does_not_depend_on_its_neighbours_or_the_chunk) {
  const auto model = tiny_model(2);
  Explainer::Settings settings;
  settings.chunk = 1;
  Explainer three(model), one_by_one(model, settings);
  const Tensor all = images(*model, 3);
  const Request asked = request("full-lrp", "", {Target{}, Target{3, 1}});
  const auto batch = three.audit(all, asked), single = one_by_one.audit(all, asked);
  for (size_t i = 0; i < 3; ++i)
    for (size_t t = 0; t < 2; ++t) {
      const Audit &a = batch[i][t], &b = single[i][t];
      EXPECT_EQ(a.rules, "chefer-classic");
      EXPECT_EQ(a.seed, b.seed);
      EXPECT_EQ(a.input, b.input);
      ASSERT_EQ(a.rows.size(), b.rows.size());
      for (size_t n = 0; n < a.rows.size(); ++n) {
        EXPECT_EQ(a.rows[n].in, b.rows[n].in) << a.rows[n].name;
        EXPECT_EQ(a.rows[n].out, b.rows[n].out) << a.rows[n].name;
      }
    }
  EXPECT_EQ(batch[0][1].seed, 0) << "1 at one class and -1 at the other";
}

TEST(Audit, attentions_are_those_that_the_method_reads) {
  Explainer explainer(tiny_model(3));
  const Tensor image = images(explainer.model(), 1);
  const auto read = [&](const Request& asked) {
    std::string blocks;
    const Audit audit = explainer.audit(image, asked)[0][0];
    for (const AuditRow& row : audit.rows)
      if (row.probabilities) blocks += row.name.substr(7, 1);
    return blocks;
  };
  Request asked = request("transformer-attribution", "", {Target{}});
  EXPECT_EQ(read(asked), "210");
  asked.options["start_layer"] = "1";
  EXPECT_EQ(read(asked), "21");
  EXPECT_EQ(read(request("partial-lrp", "", {Target{}})), "2");
  EXPECT_EQ(read(request("full-lrp", "", {Target{}})), "");
}

TEST(Audit, has_the_gap_that_results_have) {
  Explainer explainer(tiny_model(3));
  const Tensor all = images(explainer.model(), 2);
  const auto compare = [&](const Request& asked, const std::string& end) {
    const auto results = explainer.explain(all, asked);
    const auto audits = explainer.audit(all, asked);
    for (size_t i = 0; i < 2; ++i)
      for (size_t t = 0; t < 2; ++t) {
        const Audit& audit = audits[i][t];
        const double arrived = end.empty() ? audit.input : row_of(audit, end, "add").in;
        ASSERT_TRUE(results[i][t].gap) << asked.method;
        EXPECT_NEAR(*results[i][t].gap, arrived - audit.seed,
                    (sizeof(real) == 8 ? 1e-12 : 1e-4) * largest_in(audit))
            << asked.method << end;
      }
  };
  const std::vector<Target> targets{Target{}, Target{3, 1}};
  Request asked = request("transformer-attribution", "", targets);
  compare(asked, "blocks.0.mid");
  asked.options["start_layer"] = "1";
  compare(asked, "blocks.1.mid");
  compare(request("partial-lrp", "chefer-classic", targets), "blocks.2.mid");
  compare(request("full-lrp", "", targets), "");
  compare(request("lrp", "", targets), "");
  EXPECT_GT(
      std::abs(*explainer.explain(all, request("partial-lrp", "attn-lrp", targets))[1][0].gap),
      1e-3)
      << "biases absorb";
}

TEST(Audit, refuses_what_it_cannot_follow) {
  Explainer explainer(tiny_model(2));
  const Tensor image = images(explainer.model(), 1);
  const auto said = [&](const Request& asked) {
    return message([&] { explainer.audit(image, asked); });
  };
  EXPECT_EQ(said(request("rollout", "", {Target{}})),
            "method rollout spreads no relevance; 'lrp', 'full-lrp', 'transformer-attribution', "
            "'partial-lrp' do");
  EXPECT_EQ(said(request("lrp", "", {Target{6, -1}})),
            "target 6 is out of range, 'tiny' has classes 0 to 5");
  EXPECT_EQ(said(request("lrp", "interpretdl", {Target{}})).substr(0, 56),
            "the relevance rules 'interpretdl' have none for layer_no");
  EXPECT_EQ(said(request("lrp", "what", {Target{}})).substr(0, 30),
            "rules 'what' are neither a tab");
  Explainer cnn(plain_cnn(false));
  EXPECT_EQ(message([&] { cnn.audit(image, request("full-lrp", "", {Target{}})); }),
            "method full-lrp needs a transformer, 'tiny-cnn' is not one");
}

}  // namespace
}  // namespace whence
