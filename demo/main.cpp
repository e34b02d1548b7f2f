// whence-train-demo: makes a bundled model from nothing, measures how well it names and finds
// things, or draws a contact sheet of the scenes that it learns from.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "demo/accuracy.h"
#include "demo/pointing.h"
#include "demo/sheet.h"
#include "demo/train_resnet.h"
#include "demo/train_vit.h"
#include "io/files.h"
#include "tests/checkpoints/checkpoints.h"
#include "whence/explain.h"

namespace {

using namespace whence;

class Clock {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// What of a model depends on its architecture.
struct Bundled {
  int64_t steps;
  double rate;
  std::function<demo::Subject(const demo::TrainOptions&)> subject;
  // Half precision, which is what the file's size is for.
  std::function<void(const std::string& folder, const Weights&, WriteOptions)> save;
};

Preprocess preprocess(int64_t side, Preprocess::CropRounding rounding) {
  Preprocess p;
  p.filter = demo::enlargement_filter;
  p.resize_height = p.resize_width = p.crop_height = p.crop_width = int(side);
  p.crop_rounding = rounding;
  p.mean = p.std = {0.5, 0.5, 0.5};
  return p;
}

// In timm's layout.
Bundled bundled_vit(const ViTConfig& config) {
  return {8000, 1.5e-3,
          [config](const demo::TrainOptions& o) { return demo::vit_subject(config, o.seed); },
          [config](const std::string& folder, const Weights& weights, WriteOptions options) {
            options.preprocess =
                preprocess(config.image_height, Preprocess::CropRounding::half_even);
            write_vit_checkpoint(folder, config, weights, ViTLayout{}, options);
          }};
}

// In the model hub's layout, whose configuration lists a residual network's sizes.
Bundled bundled_resnet(const ResNetConfig& config) {
  return {2400, 2e-3,
          [config](const demo::TrainOptions& o) { return demo::resnet_subject(config, o); },
          [config](const std::string& folder, const Weights& weights, WriteOptions options) {
            options.preprocess = preprocess(config.image_height, Preprocess::CropRounding::floor);
            write_cnn_checkpoint(folder, config, weights, CnnLayout::resnet_hub, options);
          }};
}

void train(const Bundled& model, const demo::TrainOptions& options, const std::string& out) {
  const Clock clock;
  demo::Trainer trainer(model.subject(options), options);
  constexpr int64_t every = 100;
  double loss = 0, patch_loss = 0;
  for (int64_t n = 1; n <= options.optimiser.steps; ++n) {
    const auto progress = trainer.step();
    loss += progress.loss / every;
    patch_loss += progress.patch_loss / every;
    if (n % every != 0) continue;
    fmt::print("step {:5} of {}  loss {:.4f}  patches {:.4f}  gradient {:.3f}  {:.0f} s\n", n,
               options.optimiser.steps, loss, patch_loss, progress.gradient_length,
               clock.seconds());
    std::fflush(stdout);
    loss = patch_loss = 0;
  }
  WriteOptions write;
  write.dtype = StoredDtype::f16;
  write.labels = demo::class_names();
  model.save(out, trainer.weights(), write);
  fmt::print("written: {}\n", out);
}

// Rule tables to measure beside the default one.
std::vector<const char*> tables_beside(const std::string& usual, const Model& model) {
  if (usual == "chefer-stable") return {"chefer-classic"};
  if (usual == "chefer-classic") return {"chefer-stable"};
  if (!model.places.towers.empty()) return {"cp-lrp"};
  return {"captum", "epsilon-plus", "epsilon-plus-flat", "epsilon-alpha2-beta1",
          "epsilon-gamma-box"};
}

// Accuracy, and for every method that applies how often its map peaks on the thing.
void measure(const std::string& folder, const std::string& beside, int64_t count,
             const std::string& only) {
  const auto model = std::make_shared<const Model>(load_model(folder));
  const auto other = beside.empty() ? nullptr : std::make_shared<const Model>(load_model(beside));
  const auto [single, pairs] = demo::measure_accuracy(*model, count);
  fmt::print("{} unseen scenes of each sort\n{:40} {:>8} {:>8}\n", count, "", "single", "pairs");
  fmt::print("{:40} {:7.1f}% {:7.1f}%\n", "named", 100 * single, 100 * pairs);
  const auto point = [&](const std::string& method, const std::string& option,
                         const std::string& value) {
    std::map<std::string, std::string> options;
    if (!option.empty()) options[option] = value;
    const demo::Pointing p = demo::measure_pointing(model, method, options, count, other);
    const std::string name = option.empty() ? method : method + " " + option + "=" + value;
    fmt::print("{:40} {:7.1f}% {:7.1f}%\n", name, 100 * p.single, 100 * p.pairs);
    std::fflush(stdout);
  };
  for (const MethodInfo& m : methods()) {
    if (!applies(m, *model) || (m.takes_models && !other)) continue;
    if (!only.empty() && m.id != only) continue;
    point(m.id, "", "");
    for (const OptionInfo& o : m.options) {
      if (o.name == "gradient_of") {
        point(m.id, o.name, o.fallback == "logit" ? "probability" : "logit");
      }
      if (o.name == "rule" && m.id == "generic-attention") point(m.id, o.name, "paper");
      if (o.name == "start_layer" && m.id == "transformer-attribution") point(m.id, o.name, "1");
      if (o.name == "rules")
        for (const char* table : tables_beside(o.fallback, *model)) point(m.id, o.name, table);
    }
  }
}

// The scenes that `whence demo` explains: pairs of things that no training run sees, and what they
// show.
void write_demo_scenes(const std::filesystem::path& folder, int size) {
  constexpr uint64_t count = 6;
  std::filesystem::create_directories(folder);
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  const int classes = int(demo::class_names().size());
  for (uint64_t i = 0; i < count; ++i) {
    demo::SceneOptions options;
    options.size = size;
    options.classes = {int(i) % classes, (int(i) * 3 + 4) % classes};
    if (options.classes[0] == options.classes[1])
      options.classes[1] = (options.classes[1] + 1) % classes;
    const demo::Scene scene = demo::make_scene(demo::unseen_pairs, i, options);
    const std::string file = fmt::format("scene-{}.png", i + 1);
    write_file_atomically(folder / file, encode_png(scene.image));
    nlohmann::ordered_json names = nlohmann::ordered_json::array();
    for (const demo::SceneObject& object : scene.objects)
      names.push_back(demo::class_names()[size_t(object.label)]);
    list.push_back({{"file", file}, {"classes", names}});
  }
  const std::string text = nlohmann::ordered_json{{"scenes", list}}.dump(1) + "\n";
  write_file_atomically(folder / "scenes.json", std::string_view(text));
  fmt::print("written: {}\n", folder.string());
}

int run(int argc, char** argv) {
  CLI::App app("Trains the bundled models on generated scenes.");
  demo::TrainOptions options;
  ViTConfig vit = demo::demo_vit_config();
  const ResNetConfig resnet = demo::demo_resnet_config();
  std::string name = "vit", out, sheet, measured, beside, only, scenes;
  std::optional<int64_t> steps;
  std::optional<double> rate;
  int64_t checks = 500;
  int zoom = 2;
  app.add_option("--model", name)->check(CLI::IsMember({"vit", "resnet"}))->capture_default_str();
  app.add_option("--out", out, "folder that receives the checkpoint [weights/demo-MODEL]");
  app.add_option("--steps", steps, "[vit: 8000, resnet: 2400]");
  app.add_option("--batch", options.batch)->capture_default_str();
  app.add_option("--rate", rate, "largest learning rate [vit: 0.0015, resnet: 0.002]");
  app.add_option("--patch-loss", options.patch_loss, "weight of the patches' own loss")
      ->capture_default_str();
  app.add_option("--depth", vit.depth, "blocks of the vision transformer")->capture_default_str();
  app.add_option("--heads", vit.heads, "of its attention")->capture_default_str();
  app.add_option("--seed", options.seed)->capture_default_str();
  app.add_option("--threads", options.threads, "0: one a core")->capture_default_str();
  app.add_option("--measure", measured, "measure the model of this folder and do no training");
  app.add_option("--beside", beside, "other model of the consensus to measure");
  app.add_option("--checks", checks, "scenes of each sort to measure")->capture_default_str();
  app.add_option("--only", only, "measure this method alone");
  app.add_option("--scenes", scenes,
                 "write the scenes of `whence demo` to this folder and do no training");
  app.add_option("--sheet", sheet,
                 "write a contact sheet of scenes to this PNG and do no training");
  app.add_option("--zoom", zoom, "of the contact sheet")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  if (!sheet.empty()) {
    write_file_atomically(sheet,
                          encode_png(demo::contact_sheet(options.seed, options.scenes.size, zoom)));
  }
  if (!measured.empty()) measure(measured, beside, checks, only);
  if (!scenes.empty()) write_demo_scenes(scenes, options.scenes.size);
  if (!sheet.empty() || !measured.empty() || !scenes.empty()) return 0;
  const Bundled model = name == "vit" ? bundled_vit(vit) : bundled_resnet(resnet);
  options.optimiser.steps = steps.value_or(model.steps);
  options.optimiser.rate = rate.value_or(model.rate);
  train(model, options, out.empty() ? "weights/demo-" + name : out);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {
    fmt::print(stderr, "whence-train-demo: {}\n", e.what());
    return 1;
  }
}
