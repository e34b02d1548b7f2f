// Rule tables by name and from JSON: what is read, what is refused and in which words.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "explain/rules/file.h"
#include "models/activations.h"
#include "tests/unit/message_of.h"
#include "tests/unit/tiny_model.h"
#include "whence/op.h"

namespace whence {
namespace {

RuleTable parse(const std::string& text) { return parse_rule_table(text, "t.json", "t"); }

// The only rule of a table with these members beside its kinds.
RelevanceRule rule_of(const std::string& members) {
  return parse("{\"rows\":[{\"kinds\":\"*\"," + members + "}]}").rows.at(0).rule;
}

TEST(RuleFile, a_table_is_read_whole) {
  const RuleTable table = parse(R"({"name": "mine", "merge_norms": true, "rows": [
      {"kinds": "conv2d|linear", "name": "layer4.*", "rule": "Epsilon", "epsilon": 0.25,
       "stabiliser": "shifted", "bias": false},
      {"kinds": "fanout", "rule": "Sum"},
      {"kinds": "*", "name": null, "rule": "Pass"}]})");
  EXPECT_EQ(table.name, "mine");
  EXPECT_TRUE(table.merge_norms);
  ASSERT_EQ(table.rows.size(), 2u);
  EXPECT_EQ(table.rows[0].kinds, "conv2d|linear");
  EXPECT_EQ(table.rows[0].name, "layer4.*");
  const auto& epsilon = std::get<rule::Epsilon>(table.rows[0].rule);
  EXPECT_EQ(epsilon.by.epsilon, 0.25);
  EXPECT_EQ(epsilon.by.kind, Stabiliser::shifted);
  EXPECT_FALSE(epsilon.bias);
  EXPECT_EQ(table.rows[1].kinds, "*");
  EXPECT_EQ(table.rows[1].name, "*");
  ASSERT_EQ(table.fanouts.size(), 1u);
  EXPECT_EQ(table.fanouts[0].name, "*");
  EXPECT_TRUE(std::holds_alternative<rule::Sum>(table.fanouts[0].rule));
  const RuleTable least = parse(R"({"rows": [{"kinds": "add", "rule": "Norm"}]})");
  EXPECT_EQ(least.name, "t");
  EXPECT_FALSE(least.merge_norms);
}

TEST(RuleFile, rules_have_the_defaults_and_the_fields_of_their_structs) {
  const auto ab = std::get<rule::AlphaBeta>(
      rule_of(R"("rule":"AlphaBeta","alpha":2,"beta":1,"joint":true,"bias":true,"epsilon":1e-3)"));
  EXPECT_EQ(ab.alpha, 2);
  EXPECT_EQ(ab.beta, 1);
  EXPECT_TRUE(ab.joint && ab.bias);
  EXPECT_EQ(ab.by.epsilon, 1e-3);
  EXPECT_EQ(ab.by.kind, rule::AlphaBeta{}.by.kind);
  // One of the two gives the other.
  EXPECT_EQ(std::get<rule::AlphaBeta>(rule_of(R"("rule":"AlphaBeta","alpha":3)")).beta, 2);
  EXPECT_EQ(std::get<rule::AlphaBeta>(rule_of(R"("rule":"AlphaBeta","beta":0.5)")).alpha, 1.5);
  EXPECT_EQ(std::get<rule::AlphaBeta>(rule_of(R"("rule":"AlphaBeta")")).alpha, 1);
  const auto plus = std::get<rule::AlphaBeta>(rule_of(R"("rule":"ZPlus","bias":false)"));
  EXPECT_EQ(plus.alpha - plus.beta, 1);
  EXPECT_TRUE(plus.joint && !plus.bias);
  EXPECT_EQ(plus.by.kind, Stabiliser::away);
  EXPECT_EQ(plus.by.epsilon, 1e-6);
  const auto gamma =
      std::get<rule::Gamma>(rule_of(R"("rule":"Gamma","gamma":0.1,)"
                                    R"("generalised":false,"stabiliser":"guarded")"));
  EXPECT_EQ(gamma.gamma, 0.1);
  EXPECT_FALSE(gamma.generalised);
  EXPECT_EQ(gamma.by.kind, Stabiliser::guarded);
  EXPECT_EQ(gamma.by.epsilon, rule::Gamma{}.by.epsilon);
  const auto box =
      std::get<rule::ZBox>(rule_of(R"("rule":"ZBox","low":[-1,-2,-3],"high":[1,2,3])"));
  EXPECT_EQ(box.low, (std::vector<double>{-1, -2, -3}));
  EXPECT_EQ(box.high, (std::vector<double>{1, 2, 3}));
  EXPECT_EQ(std::get<rule::ZBox>(rule_of(R"("rule":"ZBox","low":0,"high":1)")).high,
            std::vector<double>{1});
  EXPECT_TRUE(std::get<rule::ZBox>(rule_of(R"("rule":"ZBox")")).low.empty());
  EXPECT_TRUE(std::holds_alternative<rule::Pass>(rule_of(R"("rule":"Identity")")));
  for (const char* name : {"Pass", "Norm", "Halves", "Taylor", "ConstantProbabilities", "ByMass",
                           "PositiveWeights", "WSquare", "Flat"})
    EXPECT_EQ(to_string(rule_of("\"rule\":\"" + std::string(name) + "\"")), name);
  for (const char* kinds : {"fanout", "*"})
    for (const char* name : {"Sum", "Clone"}) {
      const RuleTable table =
          parse(R"({"rows":[{"kinds":")" + std::string(kinds) + R"(","rule":")" + name + "\"}]}");
      EXPECT_TRUE(table.rows.empty());
      EXPECT_EQ(to_string(table.fanouts.at(0).rule), name);
    }
}

TEST(RuleFile, says_what_is_wrong_and_where) {
  const auto row = [](const std::string& members) {
    return R"({"rows":[{"kinds":"add","rule":"Norm"},{)" + members + "}]}";
  };
  struct Refused {
    std::string text, expected;
  };
  const Refused cases[] = {
      {"", "t.json: not valid JSON at byte 0: expected '[', '{', or a literal"},
      {"[1]", "t.json: an object is expected, found a list"},
      {"{}", "t.json: 'rows' is missing, a list of {\"kinds\", \"rule\"}"},
      {R"({"rows":{}})", "t.json: 'rows' is an object, a list is expected"},
      {R"({"rows":[]})", "t.json: 'rows' has 0 rows, 1 to 1000 are expected"},
      {R"({"rows":[{}],"rules":1})",
       "t.json: there is no key 'rules'; a table has 'name', 'merge_norms', 'rows'"},
      {R"({"rows":[{}],"merge_norms":1})",
       "t.json: 'merge_norms' is a whole number, true or false is expected"},
      {R"({"rows":[{}],"name":[]})", "t.json: 'name' is a list, a string is expected"},
      {R"({"rows":[7]})", "t.json: row 0: an object is expected, found a whole number"},
      {row(""), "t.json: row 1: 'kinds' is missing"},
      {row(R"("kinds":"add")"), "t.json: row 1: 'rule' is missing"},
      {row(R"("kinds":"","rule":"Norm")"),
       "t.json: row 1: 'kinds' has 0 bytes, 1 to 1000 are expected"},
      {row(R"("kinds":"add|conv2","rule":"Norm")"),
       "t.json: row 1: 'kinds' has 'conv2', no kind of operator; the nearest are 'conv2d', "
       "'concat', 'move'"},
      {row(R"("kinds":"add|","rule":"Norm")"),
       "t.json: row 1: 'kinds' has '', no kind of operator; the nearest are '*', 'add', 'sub'"},
      {row(R"("kinds":"add","rule":"Epsilom")"),
       "t.json: row 1: 'rule' is 'Epsilom', which is none; the nearest are 'Epsilon', "
       "'Taylor', 'Pass'"},
      {row(R"("kinds":"add","rule":"A\nB")"),
       "t.json: row 1: 'rule' is 'A\\x0AB', which is none; the nearest are 'Sum', 'Pass', 'Norm'"},
      {row(R"("kinds":"relu","rule":"Guided")"),
       "t.json: row 1: rule Guided is one for gradients, not for relevance"},
      {row(R"("kinds":"relu","rule":"Rescale")"),
       "t.json: row 1: rule Rescale is one for gradients, not for relevance"},
      {row(R"("kinds":"*|add","rule":"Clone")"),
       "t.json: row 1: rule Clone is one for a fanout, 'kinds' has 'add'"},
      {row(R"("kinds":"add|fanout","rule":"Norm")"),
       "t.json: row 1: rule Norm is not one for a fanout (Sum or Clone)"},
      {row(R"("kinds":"add","rule":"Pass","epsilon":1)"),
       "t.json: row 1: rule Pass has no parameter 'epsilon'; it has none"},
      {row(R"("kinds":"linear","rule":"Epsilon","gamma":1)"),
       "t.json: row 1: rule Epsilon has no parameter 'gamma'; it has 'epsilon', 'stabiliser', "
       "'bias'"},
      {row(R"("kinds":"linear","rule":"ZPlus","alpha":1)"),
       "t.json: row 1: rule ZPlus has no parameter 'alpha'; it has 'epsilon', 'stabiliser', "
       "'bias'"},
      {row(R"("kinds":"linear","rule":"Epsilon","epsilon":-1e-6)"),
       "t.json: row 1: 'epsilon' is -1e-06, it must lie between 0 and 1e+30"},
      {row(R"("kinds":"linear","rule":"Epsilon","epsilon":1e300)"),
       "t.json: row 1: 'epsilon' is 1e+300, it must lie between 0 and 1e+30"},
      {row(R"("kinds":"linear","rule":"Epsilon","epsilon":"small")"),
       "t.json: row 1: 'epsilon' is a string, a number is expected"},
      {row(R"("kinds":"linear","rule":"Epsilon","stabiliser":"Away")"),
       "t.json: row 1: 'stabiliser' is 'Away', one of 'guarded', 'away', 'shifted' is expected"},
      {row(R"("kinds":"linear","rule":"Gamma","gamma":-0.5)"),
       "t.json: row 1: 'gamma' is -0.5, it must lie between 0 and 1e+30"},
      {row(R"("kinds":"linear","rule":"AlphaBeta","alpha":2,"beta":2)"),
       "t.json: row 1: 'alpha' 2 and 'beta' 2: alpha - beta must be 1"},
      {row(R"("kinds":"linear","rule":"AlphaBeta","alpha":0.5)"),
       "t.json: row 1: 'alpha' is 0.5, it must lie between 1 and 1000000"},
      {row(R"("kinds":"linear","rule":"AlphaBeta","bias":true)"),
       "t.json: row 1: 'bias' is true: it contributes only where 'joint' is true"},
      {row(R"("kinds":"linear","rule":"ZBox","low":[0,0],"high":[1,1,1])"),
       "t.json: row 1: 'low' has 2 numbers and 'high' has 3: one each for a channel, one for all, "
       "or "
       "none"},
      {row(R"("kinds":"linear","rule":"ZBox","low":0)"),
       "t.json: row 1: 'low' has 1 numbers and 'high' has 0: one each for a channel, one for all, "
       "or "
       "none"},
      {row(R"("kinds":"linear","rule":"ZBox","low":[],"high":[])"),
       "t.json: row 1: 'low' has 0 numbers, 1 to 4096 are expected"},
      {row(R"("kinds":"linear","rule":"ZBox","low":[0,1],"high":[1,1])"),
       "t.json: row 1: 'low' 1 is not below 'high' 1"},
      {row(R"("kinds":"linear","rule":"ZBox","low":["0"],"high":[1])"),
       "t.json: row 1: 'low[0]' is a string, a number is expected"},
  };
  for (const Refused& c : cases) EXPECT_EQ(message([&] { parse(c.text); }), c.expected) << c.text;
}

TEST(RuleFile, no_text_does_harm) {
  const std::string whole = R"({"name":"m","merge_norms":false,"rows":[{"kinds":"conv2d|linear",)"
                            R"("rule":"ZBox","low":[-1.5],"high":[2e0],"epsilon":1e-9},)"
                            R"({"kinds":"*","name":"a*","rule":"Pass"}]})";
  ASSERT_EQ(message([&] { parse(whole); }), "accepted");
  const auto attempt = [&](const std::string& text) {
    const std::string said = message([&] { parse(text); });
    EXPECT_EQ(said.find('\n'), said.npos) << said;
    EXPECT_TRUE(said == "accepted" || said.starts_with("t.json: ")) << said;
    return said;
  };
  for (size_t n = 0; n < whole.size(); ++n) EXPECT_NE(attempt(whole.substr(0, n)), "accepted") << n;
  for (size_t n = 0; n < whole.size(); ++n)
    for (const char c : {'\0', '"', '}', ']', ',', '9', '-', '|', '\xFF', '\n'}) {
      std::string bad = whole;
      bad[n] = c;
      attempt(bad);
    }
  std::string many = R"({"rows":[)";
  for (int i = 0; i < 1001; ++i)
    many += std::string(i ? "," : "") + R"({"kinds":"*","rule":"Pass"})";
  EXPECT_EQ(attempt(many + "]}"), "t.json: 'rows' has 1001 rows, 1 to 1000 are expected");
  EXPECT_EQ(attempt("{\"rows\":" + std::string(9, '[') + std::string(9, ']') + "}"),
            "t.json: JSON is nested deeper than 8 levels");
  EXPECT_EQ(attempt(std::string((size_t(1) << 20) + 1, ' ')),
            "t.json: 1048577 bytes, the limit is 1048576");
  EXPECT_EQ(attempt(R"({"rows":[{"kinds":")" + std::string(5000, 'a') + R"(","rule":"Pass"}]})"),
            "t.json: row 0: 'kinds' has 5000 bytes, 1 to 1000 are expected");
}

TEST(RuleFile, names_and_paths) {
  const auto model = tiny_cnn();
  for (const std::string& name : rule_table_names()) {
    const RuleTable table = rule_table(name, *model);
    EXPECT_EQ(table.name, name);
    // A file may say whatever the tables of the literature say.
    for (const RelevanceRow& row : table.rows)
      EXPECT_EQ(message([&] {
                  parse("{\"rows\":[{\"kinds\":\"" + row.kinds + "\",\"rule\":\"Pass\"}]}");
                }),
                "accepted");
  }
  EXPECT_EQ(rule_table_names().size(), 11u);
  EXPECT_EQ(message([&] { rule_table("epsilon-pluss", *model); }),
            "rules 'epsilon-pluss' are neither a table nor a .json file; the nearest are "
            "'epsilon-plus', 'epsilon-plus-flat', 'epsilon-gamma-box'");
  EXPECT_EQ(message([&] { rule_table("nowhere/mine.json", *model); }),
            "nowhere/mine.json: no such file");
  const auto folder = std::filesystem::temp_directory_path() / "whence-rule-file-test";
  std::filesystem::create_directories(folder / "folder.json");
  std::ofstream(folder / "mine.json") << R"({"rows":[{"kinds":"*","rule":"Pass"}]})";
  EXPECT_EQ(rule_table(folder / "mine.json", *model).name, "mine");
  EXPECT_NE(message([&] { rule_table(folder / "folder.json", *model); }), "accepted");
  std::ofstream(folder / "bad.json") << "{";
  EXPECT_EQ(message([&] { rule_table(folder / "bad.json", *model); }),
            (folder / "bad.json").string() + ": not valid JSON at byte 1: expected string literal");
  std::filesystem::remove_all(folder);
}

TEST(RuleFile, the_box_is_the_range_of_normalised_pixels) {
  const auto model = tiny_cnn();
  model->preprocess.mean = {0.5, 0.25, 0};
  model->preprocess.std = {0.5, 0.25, 2};
  const RuleTable table = rule_table("epsilon-gamma-box", *model);
  const auto& box = std::get<rule::ZBox>(table.rows.at(0).rule);
  EXPECT_EQ(table.rows[0].kinds, "first");
  EXPECT_EQ(box.low, (std::vector<double>{-1, -1, 0}));
  EXPECT_EQ(box.high, (std::vector<double>{1, 3, 0.5}));
  model->ports[0].item.shape = {1, 12, 20};
  EXPECT_EQ(message([&] { rule_table("epsilon-gamma-box", *model); }),
            "rules epsilon-gamma-box: 'tiny-cnn' has inputs of [1, 12, 20], bounds are known for "
            "images of 3 channels");
}

void expect_known_kinds(const Graph& graph, std::set<std::string>& seen) {
  const auto& known = rule_kinds();
  for (int n = 0; n < graph.size(); ++n) {
    if (!graph.node(n).op) continue;
    const std::string kind(graph.node(n).op->kind());
    EXPECT_TRUE(std::find(known.begin(), known.end(), kind) != known.end()) << kind;
    seen.insert(kind);
  }
}

TEST(RuleFile, every_kind_of_operator_in_a_model_may_be_named) {
  std::set<std::string> seen;
  const auto vit = [&](auto&& change) {
    ViTConfig c;
    c.image_height = c.image_width = 8;
    c.patch = 4, c.width = 8, c.depth = 1, c.heads = 2, c.mlp = 8, c.classes = 3;
    change(c);
    Graph graph;
    build_vit(graph, c, 2);
    expect_known_kinds(graph, seen);
  };
  for (const ActivationName& name : activation_names())
    vit([&](ViTConfig& c) { c.activation = name.function; });
  vit([](ViTConfig& c) { c.distilled = true, c.registers = 2, c.layer_scale = true; });
  vit([](ViTConfig& c) { c.pooling = ViTConfig::Pooling::mean, c.pre_norm = true; });
  vit([](ViTConfig& c) { c.class_token = false, c.pooling = ViTConfig::Pooling::mean; });
  vit([](ViTConfig& c) { c.position_skips_prefix = true, c.qkv_bias = false; });
  const auto cnn = [&](auto config) {
    config.image_height = config.image_width = 64;
    Graph graph;
    build_cnn(graph, config, 1);
    expect_known_kinds(graph, seen);
  };
  ResNetConfig basic;
  basic.bottleneck = false;
  cnn(basic);
  cnn(ResNetConfig{});
  cnn(MobileNetV2Config{});
  VggConfig normed;
  normed.batch_norm = true;
  cnn(normed);
  cnn(VggConfig{});
  for (const char* kind : {"attention", "conv2d", "batch_norm", "relu6", "gelu_quick", "max_pool",
                           "patchify", "mul", "mean", "slice"})
    EXPECT_TRUE(seen.contains(kind)) << kind << " is in no model that was walked";
}

}  // namespace
}  // namespace whence
