// Jobs as a program runs them that is no command line: nothing is printed, nothing ends the
// process, what fails is said by errors and lines.
#include "jobs/job.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>

#include "io/files.h"
#include "io/npy.h"
#include "models/cnn/cnn.h"
#include "tests/checkpoints/checkpoints.h"

namespace whence::jobs {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Names = std::vector<std::string>;

const fs::path golden = fs::path(WHENCE_TEST_DATA) / "golden";

std::string text_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A picture, a file that is none, and an array of ten of which the fourth has a NaN: two groups.
class JobTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "whence-job-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    place_ = pattern;
    fs::copy_file(golden / "images" / "rgb8_filters.png", place_ / "a.png");
    write_file_atomically(place_ / "fake.jpg", std::string_view("this is text\n"));
    Tensor x(Type{{10, 3, 12, 12}});
    uint32_t state = 7;
    for (real& value : x.reals()) {
      state = state * 1664525u + 1013904223u;
      value = real(double(state >> 8) / double(1 << 24) * 2 - 1);
    }
    x.reals()[3 * 432 + 5] = std::numeric_limits<real>::quiet_NaN();
    write_file_atomically(place_ / "x.npy", encode_npy(x));
    model_ = std::make_shared<const Model>(load_model(golden / "vit_tiny"));
  }
  void TearDown() override { fs::remove_all(place_); }

  Settings settings(const std::string& folder) const {
    Settings s;
    for (const char* name : {"fake.jpg", "a.png", "x.npy"}) s.inputs.push_back(place_ / name);
    s.methods = choose_methods({"smoothgrad", "rollout"}, {"n_samples=2"});
    s.targets = {"predicted", "2"};
    s.folder = place_ / folder;
    s.save = {.png = true, .npy = true, .logits = true};
    return s;
  }
  Summary run(const Settings& s, Watch watch = {}) const {
    return Job(model_, s, {}, std::move(watch)).run();
  }
  std::vector<json> lines(const std::string& folder) const {
    std::vector<json> all;
    std::ifstream file(place_ / folder / "results.jsonl");
    for (std::string line; std::getline(file, line);) {
      all.push_back(json::parse(line));
      all.back().erase("milliseconds");
    }
    return all;
  }
  Names files(const std::string& folder) const {
    Names names;
    for (const auto& entry : fs::directory_iterator(place_ / folder))
      names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }
  void expect_equal(const std::string& a, const std::string& b) const {
    ASSERT_EQ(files(a), files(b));
    for (const std::string& name : files(a)) {
      if (name == "results.jsonl") continue;
      EXPECT_TRUE(text_of(place_ / a / name) == text_of(place_ / b / name)) << name;
    }
    EXPECT_EQ(lines(a), lines(b));
  }

  fs::path place_;
  std::shared_ptr<const Model> model_;
};

TEST_F(JobTest, what_fails_is_a_line_and_stops_nothing) {
  std::vector<GroupReport> reports;
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  const Summary done =
      run(settings("out"), {.group = [&](const GroupReport& report) {
            for (const Results::Line& line : report.lines)
              EXPECT_NE(text_of(place_ / "out/results.jsonl").find(line.text), std::string::npos)
                  << "told before it was on disk";
            reports.push_back(report);
          }});
  EXPECT_EQ(::testing::internal::GetCapturedStdout(), "");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  EXPECT_EQ(done.inputs, 12u);
  EXPECT_EQ(done.done, 12u);
  EXPECT_EQ(done.failed, 2u);
  EXPECT_EQ(done.written, 10u * 2 * 2);
  ASSERT_EQ(reports.size(), 2u);
  EXPECT_EQ(reports[0].errors,
            (Names{(place_ / "fake.jpg").string() + ": not a JPEG, PNG or BMP image",
                   (place_ / "x.npy").string() +
                       " [3]: 1 NaN and 0 infinite values, first at [0, 0, 5]"}));
  EXPECT_EQ(reports[1].results[0].id, "x-0006");
  EXPECT_EQ(reports[1].results[0].method, "smoothgrad");
  EXPECT_EQ(reports[1].results[1].stem, "x-0006.smoothgrad.2");

  const std::vector<json> all = lines("out");
  ASSERT_EQ(all.size(), 42u);
  EXPECT_EQ(all[0]["id"], "fake");
  EXPECT_EQ(all[0]["error"], reports[0].errors[0]);
  EXPECT_EQ(all[1]["id"], "a");
  EXPECT_EQ(all[1]["files"],
            (Names{"a.smoothgrad.predicted.png", "a.smoothgrad.predicted.npy", "a.logits.npy"}));
  EXPECT_EQ(all[1]["options"]["n_samples"], 2);
  EXPECT_EQ(all[2]["target"], 2);
  EXPECT_EQ(all[17]["id"], "x-0003");
  EXPECT_TRUE(all[17].contains("error"));
  for (const json& line : all) {
    if (line.contains("error")) continue;
    for (const std::string name : line["files"]) EXPECT_TRUE(fs::exists(place_ / "out" / name));
  }
}

// Of three methods the second cannot be computed for one of three inputs: the draws hold a NaN.
TEST_F(JobTest, a_method_that_fails_leaves_those_before_it_and_its_neighbours) {
  Settings s = settings("out");
  const Tensor x = read_npy(place_ / "x.npy").slice(0, 3);
  write_file_atomically(place_ / "three.npy", encode_npy(x));
  Tensor draws(Type{{2, 3, 3, 12, 12}});  // of each copy and input
  draws.reals()[3 * 432 + 432 + 100] = std::numeric_limits<real>::quiet_NaN();
  write_file_atomically(place_ / "draws.npy", encode_npy(draws));
  s.inputs = {place_ / "three.npy"};
  s.draws = place_ / "draws.npy";
  s.methods = choose_methods({"rollout", "smoothgrad", "gradient"}, {"n_samples=2"});
  s.targets = {};
  const Summary done = run(s);
  EXPECT_EQ(done.failed, 1u);
  EXPECT_EQ(done.written, 7u);
  Names found;
  for (const json& line : lines("out"))
    found.push_back(line["id"].get<std::string>() + " " + line["method"].get<std::string>() +
                    (line.contains("error") ? ": " + line["error"].get<std::string>() : ""));
  EXPECT_EQ(found, (Names{"three-0000 rollout", "three-0000 smoothgrad", "three-0000 gradient",
                          "three-0001 rollout",
                          "three-0001 smoothgrad: " + s.inputs[0] +
                              ": 432 of 432 values of its smoothgrad attribution are not finite",
                          "three-0002 rollout", "three-0002 smoothgrad", "three-0002 gradient"}));
}

TEST_F(JobTest, an_interrupted_job_resumes_to_the_same_bytes) {
  run(settings("whole"));
  Settings s = settings("cut");
  int groups = 0;
  const Summary cut = run(s, {.interrupted = [&] { return groups == 1; },
                              .group = [&](const GroupReport&) { ++groups; }});
  EXPECT_EQ(cut.done, group_size);
  EXPECT_EQ(lines("cut").size(), 26u);
  s.resume = true;
  const Summary rest = run(s);
  EXPECT_EQ(rest.done, 12u);
  EXPECT_EQ(rest.written, 4u * 4) << "of the second group; failed inputs are tried again";
  EXPECT_EQ(rest.failed, 2u);
  expect_equal("whole", "cut");

  // In the middle of a group: nothing of it is left.
  int asked = 0;
  const Summary none = run(settings("none"), {.interrupted = [&] { return ++asked > 2; }});
  EXPECT_EQ(none.done, 0u);
  EXPECT_EQ(files("none"), Names{});
}

TEST_F(JobTest, resumes_what_was_mended_and_what_differs) {
  Settings s = settings("out");
  run(s);
  s.resume = true;
  fs::copy_file(golden / "images" / "444.jpg", place_ / "fake.jpg",
                fs::copy_options::overwrite_existing);
  const Summary mended = run(s);
  EXPECT_EQ(mended.written, 4u);
  EXPECT_EQ(mended.failed, 1u);
  Names notes;
  s.methods = choose_methods({"smoothgrad", "rollout"}, {"n_samples=3"});
  const Summary other = run(s, {.note = [&](const std::string& note) { notes.push_back(note); }});
  EXPECT_EQ(other.written, 11u * 2) << "one method is another";
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_NE(notes[0].find("n_samples 2, now 3"), std::string::npos) << notes[0];
}

// Recipes know three channels; arrays may have any number.
TEST_F(JobTest, arrays_of_any_number_of_channels_are_drawn) {
  for (const int64_t channels : {1, 2, 3, 6}) {
    SCOPED_TRACE(channels);
    VggConfig config;
    config.image_height = 12, config.image_width = 20, config.channels = channels;
    config.classes = 6;
    config.layers = {{4}, {5, 6}};
    config.pooled = 2;
    config.hidden = {8, 8};
    Model model = random_model(config, 5);
    model.labels = {"a", "b", "c", "d", "e", "f"};
    model_ = std::make_shared<const Model>(std::move(model));
    Tensor x(Type{{2, channels, 12, 20}});
    for (size_t i = 0; i < x.reals().size(); ++i) x.reals()[i] = real(i % 7) / 3 - 1;
    write_file_atomically(place_ / "channels.npy", encode_npy(x));
    const std::string folder = "of" + std::to_string(channels);
    Settings s = settings(folder);
    s.inputs = {place_ / "channels.npy"};
    s.methods = choose_methods({"input-x-gradient", "grad-cam"}, {});
    const Summary done = run(s);
    EXPECT_EQ(done.failed, 0u);
    EXPECT_EQ(done.written, 2u * 2 * 2);
    // The array's values, as they were before the model's recipe.
    std::vector<real> values(size_t(channels) * 240);
    InputReader reader(*model_);
    const Picture picture =
        reader.read(list_inputs({s.inputs}, model_->image_shape()).items[1], values);
    for (size_t i = 0; i < 240; ++i)
      for (size_t shown = 0; shown < 3; ++shown) {
        const size_t c = channels < 3 ? 0 : shown;
        const double value =
            double(values[c * 240 + i]) * model_->preprocess.std[c] + model_->preprocess.mean[c];
        ASSERT_EQ(picture.image.rgb[i * 3 + shown],
                  uint8_t(std::lround(std::clamp(value, 0.0, 1.0) * 255)));
      }
  }
}

TEST_F(JobTest, records_say_what_outputs_mean) {
  Settings s = settings("classes");
  s.inputs = {place_ / "a.png"};
  s.methods = choose_methods({"generic-attention"}, {});
  const auto record = [&](Outputs outputs, const char* folder) {
    auto model = std::make_shared<Model>(*model_);
    model->outputs = outputs;
    s.folder = place_ / folder;
    EXPECT_EQ(Job(model, s, {}).run().failed, 0u);
    return lines(folder).at(0);
  };
  const json one = record(Outputs::single_label, "one"), own = record(Outputs::multi_label, "own");
  const json values = record(Outputs::values, "values");
  EXPECT_EQ(one["options"]["gradient_of"], "probability");
  EXPECT_EQ(own["options"]["gradient_of"], "probability");
  EXPECT_EQ(own["score"], own["probability"]);
  EXPECT_NE(own["probability"], one["probability"]);
  EXPECT_EQ(values["options"]["gradient_of"], "logit");
  EXPECT_FALSE(values.contains("probability"));
  EXPECT_EQ(values["top"][0]["value"], values["score"]);
  EXPECT_FALSE(values["top"][0].contains("probability"));
  const auto score = [](const json& r) { return r["score"].get<double>(); };
  EXPECT_NEAR(score(own), 1 / (1 + std::exp(-score(values))), 1e-6);
  // Another meaning is another result.
  s.resume = true;
  s.folder = place_ / "values";
  EXPECT_EQ(Job(model_, s, {}).run().written, 2u);
}

// One result that cannot be written is one input's affair.
TEST_F(JobTest, outputs_that_are_impossible_spoil_no_other_input) {
  Settings s = settings("out");
  const std::string name(244, 'n');  // and ".rollout.png"
  fs::copy_file(place_ / "a.png", place_ / (name + ".png"));
  fs::copy_file(place_ / "a.png", place_ / (name.substr(1) + ".png"));
  fs::copy_file(place_ / "a.png", place_ / "b.png");
  fs::create_directories(place_ / "out" / "b.rollout.npy");
  s.inputs = {place_ / (name + ".png"), place_ / (name.substr(1) + ".png"), place_ / "b.png",
              place_ / "a.png"};
  s.methods = choose_methods({"rollout"}, {});
  s.targets = {};
  s.save.logits = false;
  Names errors;
  const Summary done =
      run(s, {.group = [&](const GroupReport& report) {
            errors.insert(errors.end(), report.errors.begin(), report.errors.end());
          }});
  EXPECT_EQ(done.failed, 2u);
  EXPECT_EQ(done.written, 2u);
  ASSERT_EQ(errors.size(), 2u);
  EXPECT_TRUE(errors[0].ends_with(": its results would have names of 256 bytes, 255 are possible"))
      << errors[0];
  EXPECT_EQ(errors[1],
            (place_ / "out").string() + "/b.rollout.npy: a folder is where its result should go");
  EXPECT_TRUE(fs::is_regular_file(place_ / "out" / (name.substr(1) + ".rollout.npy")));
}

TEST_F(JobTest, errors_say_whose_they_are) {
  const auto code = [&](const Settings& s) {
    try {
      run(s);
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::internal;
  };
  Settings s = settings("out");
  s.targets = {"no such class"};
  EXPECT_EQ(code(s), ErrorCode::usage);
  s = settings("out");
  s.draws = place_ / "draws.npy";
  write_file_atomically(s.draws, encode_npy(Tensor(Type{{2, 12, 3, 12, 12}, Dtype::i32})));
  EXPECT_EQ(code(s), ErrorCode::dtype);
  s = settings("out");
  s.inputs.push_back(s.inputs[0]);  // two results of one name
  EXPECT_EQ(code(s), ErrorCode::usage);
  EXPECT_FALSE(fs::exists(place_ / "out")) << "made by a job that was refused";
  EXPECT_EQ(code(settings("a.png")), ErrorCode::output);
  fs::create_directory(place_ / "damaged");
  write_file_atomically(place_ / "damaged/results.jsonl", std::string_view("{\n"));
  EXPECT_EQ(code(settings("damaged")), ErrorCode::output);
}

}  // namespace
}  // namespace whence::jobs
