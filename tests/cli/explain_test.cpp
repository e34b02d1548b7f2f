// What `explain` and `predict` write: names, contents, agreement with the library.
#include "whence/explain.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "io/files.h"
#include "io/npy.h"
#include "tests/cli/program.h"

namespace whence::cli_test {
namespace {

using nlohmann::json;
using Names = std::vector<std::string>;

// N samples of [3, 12, 12], all different, within the range of normalised pixels.
Tensor samples(int64_t n) {
  Tensor x(Type{{n, 3, 12, 12}});
  uint32_t state = 12345;
  for (real& value : x.reals()) {
    state = state * 1664525u + 1013904223u;
    value = real(double(state >> 8) / double(1 << 24) * 2 - 1);
  }
  return x;
}

TEST(CliExplain, writes_the_files_of_the_contract) {
  const Workplace place;
  const Finished done =
      place.run("whence explain -m model --method tam -p steps=3 --save png,npy,logits a.png");
  ASSERT_EQ(done.code, 0) << done.err;
  EXPECT_EQ(done.err, "");
  EXPECT_EQ(place.files("whence-out"),
            (Names{"a.logits.npy", "a.tam.npy", "a.tam.png", "results.jsonl"}));
  EXPECT_EQ(read_npy(place / "whence-out/a.tam.npy").shape(), (Shape{4, 4}));
  EXPECT_EQ(read_npy(place / "whence-out/a.logits.npy").shape(), (Shape{7}));
  const Image original = read_image(place / "a.png");
  const Image picture = read_image(place / "whence-out/a.tam.png");
  EXPECT_EQ(picture.width, original.width);
  EXPECT_GE(picture.height, original.height);  // the legend is below
  const auto lines = place.lines("whence-out/results.jsonl");
  ASSERT_EQ(lines.size(), 1u);
  const json line = json::parse(lines[0]);
  for (const char* key :
       {"id", "input", "model", "method", "options", "seed", "target", "target_name", "score",
        "probability", "top", "shape", "files", "milliseconds"})
    EXPECT_TRUE(line.contains(key)) << key;
  EXPECT_EQ(line["id"], "a");
  EXPECT_EQ(line["input"], "a.png");
  EXPECT_EQ(line["options"]["steps"], 3);
  EXPECT_EQ(line["shape"], (std::vector<int>{4, 4}));
  EXPECT_EQ(line["files"], (Names{"a.tam.png", "a.tam.npy", "a.logits.npy"}));
  EXPECT_EQ(line["top"].size(), 5u);
  EXPECT_EQ(line["top"][0]["index"], line["target"]);
  EXPECT_EQ(line["top"][0]["probability"], line["probability"]);
}

TEST(CliExplain, arrays_are_inputs_as_they_are_and_results_equal_the_library) {
  const Workplace place;
  const Tensor x = samples(3);
  write_file_atomically(place / "x.npy", encode_npy(x));
  const Finished done = place.run(
      "whence explain -m model --method integrated-gradients -p steps=4 -t 2 --save npy,png x.npy");
  ASSERT_EQ(done.code, 0) << done.err;
  EXPECT_EQ(
      place.files("whence-out"),
      (Names{"results.jsonl", "x-0000.integrated-gradients.npy", "x-0000.integrated-gradients.png",
             "x-0001.integrated-gradients.npy", "x-0001.integrated-gradients.png",
             "x-0002.integrated-gradients.npy", "x-0002.integrated-gradients.png"}));
  Explainer explainer(std::make_shared<const Model>(load_model(place / "model")));
  Request request;
  request.method = "integrated-gradients";
  request.options["steps"] = "4";
  request.targets = {{2, -1}};
  const auto results = explainer.explain(x, request);
  for (int64_t i = 0; i < 3; ++i) {
    const Tensor written =
        read_npy(place / ("whence-out/x-000" + std::to_string(i) + ".integrated-gradients.npy"));
    const Tensor& expected = results[size_t(i)][0].attribution;
    ASSERT_EQ(written.shape(), expected.shape());
    for (size_t k = 0; k < written.reals().size(); ++k)
      EXPECT_EQ(float(written.reals()[k]), float(expected.reals()[k])) << i << ", " << k;
    const json line = json::parse(place.lines("whence-out/results.jsonl")[size_t(i)]);
    EXPECT_NEAR(line["gap"].get<double>(), *results[size_t(i)][0].gap, 1e-9);
    EXPECT_EQ(line["target"], 2);
  }
}

TEST(CliExplain, arrays_of_the_wrong_kind_are_failed_inputs) {
  const Workplace place;
  write_file_atomically(place / "small.npy", encode_npy(Tensor(Type{{3, 11, 12}})));
  write_file_atomically(place / "ids.npy", encode_npy(Tensor(Type{{2, 5}, Dtype::i32})));
  Tensor bad = samples(2);
  bad.reals()[3 * 144 + 7] = std::numeric_limits<real>::quiet_NaN();
  write_file_atomically(place / "bad.npy", encode_npy(bad));
  place.write("text.npy", "not an array");
  const Finished done = place.run(
      "whence explain -m model --method gradient --save npy small.npy ids.npy bad.npy text.npy");
  EXPECT_EQ(done.code, 1);
  EXPECT_EQ(place.files("whence-out"), (Names{"bad-0000.gradient.npy", "results.jsonl"}));
  const auto lines = place.lines("whence-out/results.jsonl");
  ASSERT_EQ(lines.size(), 5u);
  EXPECT_EQ(json::parse(lines[0])["error"],
            "small.npy: shape [3, 11, 12], the model takes [3, 12, 12] or [N, 3, 12, 12] as it is");
  EXPECT_EQ(json::parse(lines[1])["error"],
            "ids.npy: integers, token ids for a language model; this model takes floating-point "
            "images");
  EXPECT_FALSE(json::parse(lines[2]).contains("error"));
  EXPECT_EQ(json::parse(lines[3])["id"], "bad-0001");
  EXPECT_NE(json::parse(lines[3])["error"].get<std::string>().find("bad.npy [1]"),
            std::string::npos);
  EXPECT_TRUE(json::parse(lines[4]).contains("error"));
}

TEST(CliExplain, targets_name_the_files_where_there_are_several) {
  const Workplace place;
  const Finished done = place.run(
      "whence explain -m model --labels labels.txt --method attention-grad-cam --save npy -t "
      "predicted -t 3 -t ant-eater -t bee-dog a.png");
  ASSERT_EQ(done.code, 0) << done.err;
  EXPECT_EQ(place.files("whence-out"),
            (Names{"a.attention-grad-cam.3.npy", "a.attention-grad-cam.ant-eater.npy",
                   "a.attention-grad-cam.bee-dog.npy", "a.attention-grad-cam.predicted.npy",
                   "results.jsonl"}));
  const auto lines = place.lines("whence-out/results.jsonl");
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(json::parse(lines[1])["target_name"], "dog");
  EXPECT_EQ(json::parse(lines[2])["target"], 4);  // a whole name before a contrast
  EXPECT_EQ(json::parse(lines[3])["target"], 1);
  EXPECT_EQ(json::parse(lines[3])["against"], 3);
  EXPECT_EQ(json::parse(lines[3])["target_name"], "bee - dog");
}

TEST(CliExplain, a_failing_input_stops_nothing) {
  const Workplace place;
  const Finished done =
      place.run("whence explain -m model --method rollout a.png fake.jpg cut.jpg b.jpg none.png");
  EXPECT_EQ(done.code, 1);
  EXPECT_EQ(place.files("whence-out"), (Names{"a.rollout.png", "b.rollout.png", "results.jsonl"}));
  const auto lines = place.lines("whence-out/results.jsonl");
  ASSERT_EQ(lines.size(), 5u);
  const Names ids{"a", "fake", "cut", "b", "none"};
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(json::parse(lines[i])["id"], ids[i]);
    EXPECT_EQ(json::parse(lines[i]).contains("error"), i != 0 && i != 3);
  }
  EXPECT_NE(done.err.find("whence: 3 of 5 inputs failed, see whence-out/results.jsonl\n"),
            std::string::npos);
}

TEST(CliExplain, folders_are_sorted_and_names_that_collide_grow) {
  const Workplace place;
  const std::string png = place.read("a.png");
  for (const char* name : {"f/z.png", "f/B.PNG", "f/a.png", "f/.hidden.png", "f/in/deep.png",
                           "g/a.png", "g/a.bmp", "f/notes.txt"})
    place.write(name, png);
  const Finished done = place.run("whence explain -m model --method rollout f g --json");
  ASSERT_EQ(done.code, 0) << done.err;
  Names ids;
  for (const std::string& line : place.lines("whence-out/results.jsonl"))
    ids.push_back(json::parse(line)["id"]);
  EXPECT_EQ(ids, (Names{"B", "f-a.png", "z", "a.bmp", "g-a.png"}));
  EXPECT_EQ(done.out, place.read("whence-out/results.jsonl"));
  EXPECT_NE(done.err.find("whence: f: left out 1 of 4 images: they are in folders inside\n"),
            std::string::npos);
}

TEST(CliExplain, shards_together_are_the_whole) {
  const Workplace place;
  write_file_atomically(place / "x.npy", encode_npy(samples(5)));
  const std::string call =
      "whence explain -m model --method smoothgrad -p n_samples=3 --save npy x.npy";
  ASSERT_EQ(place.run(call + " -o whole").code, 0);
  ASSERT_EQ(place.run(call + " -o parts --shard 2/2").code, 0);
  EXPECT_EQ(place.lines("parts/results.jsonl").size(), 2u);
  ASSERT_EQ(place.run(call + " -o parts --shard 1/2").code, 0);
  EXPECT_EQ(place.files("parts"), place.files("whole"));
  for (int i = 0; i < 5; ++i) {
    const std::string name = "x-000" + std::to_string(i) + ".smoothgrad.npy";
    const Tensor a = read_npy(place / ("whole/" + name)), b = read_npy(place / ("parts/" + name));
    // The same noise; products of other batch sizes may round differently.
    for (size_t k = 0; k < a.reals().size(); ++k)
      EXPECT_NEAR(a.reals()[k], b.reals()[k], 1e-5) << name;
  }
}

TEST(CliExplain, draws_replace_the_generator) {
  const Workplace place;
  write_file_atomically(place / "x.npy", encode_npy(samples(2)));
  // Variates of zero: the mean over noisy copies is the gradient itself.
  write_file_atomically(place / "z.npy", encode_npy(Tensor(Type{{3, 2, 3, 12, 12}})));
  write_file_atomically(place / "few.npy", encode_npy(Tensor(Type{{2, 2, 3, 12, 12}})));
  const std::string call = "whence explain -m model -p gradient_of=logit --save npy x.npy ";
  ASSERT_EQ(place.run(call + "--method smoothgrad -p n_samples=3 --draws z.npy").code, 0);
  ASSERT_EQ(place.run(call + "--method gradient").code, 0);
  for (const char* id : {"x-0000", "x-0001"}) {
    const std::string stem = std::string("whence-out/") + id;
    const Tensor a = read_npy(place / (stem + ".smoothgrad.npy"));
    const Tensor b = read_npy(place / (stem + ".gradient.npy"));
    for (size_t k = 0; k < a.reals().size(); ++k)
      EXPECT_NEAR(a.reals()[k], b.reals()[k], 1e-5);  // rounding of one sum and division
  }
  const Finished few =
      place.run(call + "--method smoothgrad -p n_samples=3 --draws few.npy -o other");
  EXPECT_EQ(few.code, 2);
  const Finished unused = place.run(call + "--method gradient --draws z.npy");
  EXPECT_EQ(unused.code, 2);
  EXPECT_EQ(unused.err, "whence: --draws z.npy: nothing is drawn by these methods and options\n");
}

TEST(CliExplain, awkward_names_are_names) {
  const Workplace place;
  for (const char* name : {"[a,b]/x.png", "-m.png", "caf\xC3\xA9 1.png", "a\nb.png"})
    place.write(name, place.read("a.png"));
  const Finished done = place.run(
      "whence explain -m model --method rollout --save npy '[a,b]' -- -m.png *1.png a?b.png");
  ASSERT_EQ(done.code, 0) << done.err;
  EXPECT_EQ(place.files("whence-out"),
            (Names{"-m.rollout.npy", "a%0Ab.rollout.npy", "caf\xC3\xA9 1.rollout.npy",
                   "results.jsonl", "x.rollout.npy"}));
}

TEST(CliExplain, a_layer_is_read_recorded_and_part_of_what_a_result_is) {
  const Workplace place;
  const std::string call =
      "whence explain -m model --method grad-cam --method score-cam --save png,npy --resume a.png";
  ASSERT_EQ(place.run(call + " --layer embed.patches").code, 0);
  const Tensor first = read_npy(place / "whence-out/a.grad-cam.npy");
  EXPECT_EQ(first.shape(), (Shape{4, 4}));
  EXPECT_EQ(read_npy(place / "whence-out/a.score-cam.npy").shape(), (Shape{12, 12}));
  const json line = json::parse(place.lines("whence-out/results.jsonl")[0]);
  EXPECT_EQ(line["options"]["layer"], "embed.patches");
  EXPECT_EQ(line["options"]["reduce"], "sum");

  const Finished again = place.run(call + " --layer embed.patches");
  EXPECT_NE(again.err.find("nothing to do"), std::string::npos) << again.err;
  const Finished other = place.run(call);
  EXPECT_EQ(other.code, 0);
  EXPECT_NE(other.err.find("layer embed.patches, now auto"), std::string::npos) << other.err;
  const Tensor second = read_npy(place / "whence-out/a.grad-cam.npy");
  EXPECT_EQ(second.shape(), (Shape{4, 4}));
  EXPECT_FALSE(std::equal(first.reals().begin(), first.reals().end(), second.reals().begin()));
  EXPECT_EQ(place.lines("whence-out/results.jsonl").size(), 2u);
}

TEST(CliPredict, lists_the_top_classes) {
  const Workplace place;
  const Finished done =
      place.run("whence predict -m model --labels labels.txt --top 2 --json a.png b.jpg");
  ASSERT_EQ(done.code, 0) << done.err;
  const json first = json::parse(done.out.substr(0, done.out.find('\n')));
  EXPECT_EQ(first["id"], "a");
  ASSERT_EQ(first["top"].size(), 2u);
  EXPECT_EQ(first["top"][0]["index"], 6);
  EXPECT_EQ(first["top"][0]["name"], "cat fish");
  EXPECT_GT(first["top"][0]["probability"], first["top"][1]["probability"]);
  EXPECT_FALSE(fs::exists(place / "whence-out")) << "predict writes only what it is told to";
  const Finished table = place.run("whence predict -m model --labels labels.txt --top 1 a.png");
  EXPECT_EQ(table.out, "input  probability  index  class\na           0.4185      6  cat fish\n");
}

// The same network whose configuration says what its outputs mean.
TEST(CliPredict, shows_what_outputs_mean) {
  const Workplace place;
  const auto say = [&](const char* type) {
    json config = json::parse(place.read("model/config.json"));
    config["problem_type"] = type;
    place.write("model/config.json", config.dump());
  };
  say("multi_label_classification");
  const Finished own = place.run("whence predict -m model --top 1 a.png");
  EXPECT_EQ(own.out.substr(0, own.out.find('\n')), "input  probability  index  class");
  say("regression");
  const Finished values = place.run("whence predict -m model --top 1 a.png");
  EXPECT_EQ(values.out.substr(0, values.out.find('\n')), "input  value  index  class");
  const double value = std::stod(values.out.substr(values.out.find("\na") + 2));
  const double probability = std::stod(own.out.substr(own.out.find("\na") + 2));
  EXPECT_NEAR(probability, 1 / (1 + std::exp(-value)), 1e-4);
  const Finished json_line = place.run("whence predict -m model --top 1 --json a.png");
  const json top = json::parse(json_line.out)["top"][0];
  EXPECT_NEAR(top["value"].get<double>(), value, 1e-4);
  EXPECT_FALSE(top.contains("probability"));
  const Finished inspected = place.run("whence inspect -m model");
  EXPECT_NE(inspected.out.find("outputs        values, without probabilities\n"),
            std::string::npos);
  EXPECT_EQ(json::parse(place.run("whence inspect -m model --json").out)["outputs"], "values");
  const Finished explained = place.run("whence explain -m model --method generic-attention a.png");
  EXPECT_EQ(explained.code, 0) << explained.err;
  EXPECT_NE(explained.out.find(" - "), std::string::npos) << explained.out;
  const Finished refused =
      place.run("whence explain -m model --method tam -p gradient_of=probability a.png");
  EXPECT_EQ(refused.code, 2) << refused.err;
  EXPECT_EQ(refused.err,
            "whence: option gradient_of of method tam is 'probability': 'model' answers with "
            "values, which have no probability; logit is the value itself\n");
}

TEST(CliInspect, names_everything) {
  const Workplace place;
  const Finished done = place.run("whence inspect -m model --json");
  ASSERT_EQ(done.code, 0) << done.err;
  const json model = json::parse(done.out);
  EXPECT_EQ(model["input"], (std::vector<int>{3, 12, 12}));
  EXPECT_EQ(model["classes"].size(), 7u);
  EXPECT_EQ(model["digest"].get<std::string>().size(), 16u);
  EXPECT_FALSE(model["bound"].empty());
  bool probs = false;
  for (const json& name : model["names"])
    probs |=
        name["name"] == "blocks.2.attn.probs" && name["shape"] == std::vector<int>{1, 3, 17, 17};
  EXPECT_TRUE(probs);
  const Finished plan = place.run("whence inspect -m model --plan gradient");
  EXPECT_EQ(plan.code, 0);
  EXPECT_NE(plan.out.find("blocks.2.attn"), std::string::npos);
}

TEST(CliMethods, agree_with_the_library) {
  const Workplace place;
  const Finished done = place.run("whence methods --json");
  ASSERT_EQ(done.code, 0);
  std::string rest = done.out;
  for (const MethodInfo& method : methods()) {
    const json line = json::parse(rest.substr(0, rest.find('\n')));
    rest.erase(0, rest.find('\n') + 1);
    EXPECT_EQ(line["id"], method.id);
    EXPECT_EQ(line["options"].size(), method.options.size());
    EXPECT_EQ(line["takes_layer"], method.takes_layer);
  }
  EXPECT_EQ(rest, "");
}

TEST(CliExplain, consensus_asks_every_model_in_its_own_size) {
  const Workplace place;
  const Finished done = place.run(
      "whence explain -m demo-vit --method consensus -p models=demo-resnet,demo-vit -p "
      "method=gradient --save npy,png,json -t predicted -t 1 a.png b.jpg");
  EXPECT_EQ(done.code, 0) << done.err;
  const auto lines = place.lines("whence-out/results.jsonl");
  ASSERT_EQ(lines.size(), 4u);
  const json first = json::parse(lines[0]);
  EXPECT_EQ(first["shape"], (std::vector<int64_t>{96, 96}));
  ASSERT_EQ(first["members"].size(), 3u);
  EXPECT_EQ(first["members"][1]["model"], "demo-resnet");
  EXPECT_EQ(first["members"][0]["agreement"], first["members"][2]["agreement"]);
  EXPECT_EQ(first["options"]["models"].size(), 2u);
  const Finished none = place.run("whence explain -m demo-vit --method consensus a.png");
  EXPECT_EQ(none.code, 2);
  EXPECT_EQ(none.err,
            "whence: consensus: of one model, 'demo-vit'; name others in option models\n");
  const Finished missing =
      place.run("whence explain -m demo-vit --method consensus -p models=nomodel a.png");
  EXPECT_EQ(missing.code, 3);
}

}  // namespace
}  // namespace whence::cli_test
