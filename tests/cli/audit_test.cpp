// `whence audit`: its table, its JSON lines, and what it says when something is wrong.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/cli/program.h"

namespace whence::cli_test {
namespace {

using nlohmann::json;

std::vector<json> records(const std::string& text) {
  std::vector<json> all;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) all.push_back(json::parse(line));
  return all;
}

TEST(CliAudit, json_lines_balance) {
  const Workplace place;
  const Finished done = place.run("whence audit -m model -t 2 -t 5-1 --json a.png b.jpg");
  EXPECT_EQ(done.code, 0) << done.err;
  EXPECT_EQ(done.err, "");
  const auto lines = records(done.out);
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[0]["id"], "a");
  EXPECT_EQ(lines[3]["id"], "b");
  EXPECT_EQ(lines[0]["method"], "lrp");
  EXPECT_EQ(lines[0]["rules"], "attn-lrp");
  EXPECT_EQ(lines[0]["target"], 2);
  EXPECT_FALSE(lines[0].contains("against"));
  EXPECT_EQ(lines[1]["target"], 5);
  EXPECT_EQ(lines[1]["against"], 1);
  for (const json& line : lines) {
    double lost = 0, largest = 0;
    for (const json& step : line["steps"]) {
      lost += step["lost"].get<double>();
      largest = std::max(largest, std::abs(step["in"].get<double>()));
      EXPECT_NEAR(step["in"].get<double>() - step["out"].get<double>(), step["lost"].get<double>(),
                  1e-5 * largest);
    }
    EXPECT_NEAR(line["gap"].get<double>(), -lost, 1e-4 * largest);
    EXPECT_NEAR(line["input_relevance"].get<double>() - line["seed_relevance"].get<double>(),
                line["gap"].get<double>(), 1e-5 * largest);
    const json& first = line["steps"][0];
    EXPECT_EQ(first["value"], "logits");
    EXPECT_EQ(first["op"], "linear");
    EXPECT_EQ(first["in"], line["seed_relevance"]);
    EXPECT_TRUE(first.contains("bias"));
    EXPECT_FALSE(first.contains("attention"));
  }
}

TEST(CliAudit, a_table_with_aligned_columns) {
  const Workplace place;
  const Finished done = place.run(
      "whence audit -m model --labels labels.txt --method partial-lrp -t dog a.png b.jpg");
  EXPECT_EQ(done.code, 0) << done.err;
  std::istringstream in(done.out);
  std::string line;
  std::getline(in, line);
  EXPECT_TRUE(line.starts_with("a: partial-lrp of dog, rules chefer-classic, score ")) << line;
  std::getline(in, line);
  EXPECT_EQ(line, "");
  std::getline(in, line);
  const size_t width = line.size();
  EXPECT_TRUE(line.starts_with("value ")) << line;
  EXPECT_TRUE(line.ends_with("attention")) << "the method reads it: " << line;
  size_t rows = 0, blocks = 0, attentions = 0;
  while (std::getline(in, line) && !line.starts_with("relevance")) {
    blocks += line.empty();
    if (line.empty()) continue;
    ++rows;
    attentions += !line.ends_with("-");
    EXPECT_EQ(line.size(), width) << line;
  }
  EXPECT_TRUE(line.starts_with("relevance of the output 1, of the input ")) << line;
  EXPECT_GT(rows, 30u);
  EXPECT_EQ(attentions, 1u) << "only the last block's";
  EXPECT_EQ(blocks, 5u) << "before each of 3 blocks, the embedding, and the sum";
  std::getline(in, line);
  EXPECT_EQ(line, "") << "between two inputs";
  std::getline(in, line);
  EXPECT_TRUE(line.starts_with("b: partial-lrp of dog")) << line;
  EXPECT_FALSE(fs::exists(place / "whence-out")) << "an audit writes no files";
}

TEST(CliAudit, rules_from_a_file) {
  const Workplace place;
  place.write("mine.json",
              R"({"rows": [{"kinds": "linear", "name": "blocks.1.*", "rule": "Gamma"},
                           {"kinds": "linear", "rule": "Epsilon", "epsilon": 0.5},
                           {"kinds": "attention", "rule": "Taylor"},
                           {"kinds": "add", "rule": "Norm"}, {"kinds": "fanout", "rule": "Sum"},
                           {"kinds": "*", "rule": "Pass"}]})");
  const Finished done = place.run("whence audit -m model -p rules=mine.json --json a.png");
  EXPECT_EQ(done.code, 0) << done.err;
  const json line = records(done.out).at(0);
  EXPECT_EQ(line["rules"], "mine");
  EXPECT_EQ(line["options"]["rules"], "mine.json");
  for (const json& step : line["steps"])
    if (step["op"] == "linear") {
      const bool grown = step["value"].get<std::string>().starts_with("blocks.1.");
      EXPECT_EQ(step["rule"], grown ? "Gamma(0.25)" : "Epsilon(0.5)") << step["value"];
    }
  // Other methods take the same files.
  for (const char* method : {"lrp", "full-lrp", "transformer-attribution", "partial-lrp"})
    EXPECT_EQ(place
                  .run(std::string("whence explain -m model -p rules=mine.json --method ") +
                       method + " a.png")
                  .code,
              0)
        << method;
}

TEST(CliAudit, says_what_is_wrong) {
  const Workplace place;
  place.write("bad.json", R"({"rows": [{"kinds": "linear", "rule": "Epsilom"}]})");
  place.write("few.json", R"({"rows": [{"kinds": "linear", "rule": "Epsilon"}]})");
  struct Call {
    const char* line;
    int code;
    const char* err;
  };
  const Call calls[] = {
      {"whence audit a.png", 2,
       "a model is needed: -m FOLDER, -m FILE.safetensors or -m demo-vit\n"},
      {"whence audit -m model", 2, "an input is needed: images, folders or .npy files\n"},
      {"whence audit -m model --method tam a.png", 2,
       "method tam spreads no relevance; 'lrp', 'full-lrp', 'transformer-attribution', "
       "'partial-lrp' do\n"},
      {"whence audit -m model --method lrpp a.png", 2, "there is no method 'lrpp'; the nearest*"},
      {"whence audit -m model -p rulez=x a.png", 2, "-p rulez: no such option; lrp has *"},
      {"whence audit -m model -p rules=epsilon a.png", 2,
       "rules 'epsilon' are neither a table nor a .json file; the nearest are *"},
      {"whence audit -m model -p rules=bad.json a.png", 2,
       "bad.json: row 0: 'rule' is 'Epsilom', which is none; the nearest are 'Epsilon', *"},
      {"whence audit -m model -p rules=few.json a.png", 2,
       "the relevance rules 'few' have none for reshape ''\n"},
      {"whence explain -m model --method full-lrp -p rules=nowhere.json a.png", 2,
       "nowhere.json: no such file\n"},
      {"whence audit -m model -t 9 a.png", 2,
       "--target 9: out of range, the model has classes 0 to 6\n"},
      {"whence audit -m model fake.jpg", 1,
       "fake.jpg: not a JPEG, PNG or BMP image\nwhence: 1 of 1 inputs failed\n"},
      {"whence audit -m model --mem 1K a.png", 5, "one item needs *"},
      {"whence audit -m model --resume a.png", 2, "unknown option '--resume' of whence audit; *"},
  };
  for (const Call& call : calls) {
    SCOPED_TRACE(call.line);
    const Finished done = place.run(call.line);
    EXPECT_EQ(done.code, call.code);
    std::string wanted = std::string("whence: ") + call.err, found = done.err;
    if (wanted.ends_with('*')) {
      wanted.pop_back();
      EXPECT_EQ(found.find('\n'), found.size() - 1) << "not one line: " << found;
      found = found.substr(0, wanted.size());
    }
    EXPECT_EQ(found, wanted);
    EXPECT_EQ(done.out, "");
  }
  // One broken input does not spoil the others.
  const Finished mixed = place.run("whence audit -m model --json a.png fake.jpg b.jpg");
  EXPECT_EQ(mixed.code, 1);
  const auto lines = records(mixed.out);
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_TRUE(lines[0].contains("steps"));
  EXPECT_EQ(lines[1]["error"], "fake.jpg: not a JPEG, PNG or BMP image");
  EXPECT_TRUE(lines[2].contains("steps"));
}

}  // namespace
}  // namespace whence::cli_test
