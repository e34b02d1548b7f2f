// whence-train-demo-vit: makes the bundled vision transformer from nothing, measures how well it
// names and finds things, or draws a contact sheet of the scenes that it learns from.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "demo/pointing.h"
#include "demo/sheet.h"
#include "demo/train_vit.h"
#include "io/files.h"
#include "weights/generate.h"
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

// In timm's layout; half precision, which is what the file's size is for.
void save(const std::string& folder, const ViTConfig& config, const Weights& weights) {
  WriteOptions options;
  options.dtype = StoredDtype::f16;
  options.labels = demo::class_names();
  Preprocess preprocess;
  preprocess.filter = Resample::bicubic;
  preprocess.resize_height = preprocess.resize_width = int(config.image_height);
  preprocess.crop_height = preprocess.crop_width = int(config.image_height);
  preprocess.mean = preprocess.std = {0.5, 0.5, 0.5};
  options.preprocess = preprocess;
  write_vit_checkpoint(folder, config, weights, ViTLayout{}, options);
}

void train(const demo::TrainOptions& options, const std::string& out) {
  const Clock clock;
  demo::ViTTrainer trainer(options);
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
  save(out, options.config, trainer.weights());
  fmt::print("written: {}\n", out);
}

// Accuracy, and for every method that applies how often its map peaks on the thing.
void measure(const std::string& folder, int64_t count, const std::string& only) {
  const auto model = std::make_shared<const Model>(load_model(folder));
  const auto [single, pairs] = demo::measure_accuracy(*model, count);
  fmt::print("{} unseen scenes of each sort\n{:40} {:>8} {:>8}\n", count, "", "single", "pairs");
  fmt::print("{:40} {:7.1f}% {:7.1f}%\n", "named", 100 * single, 100 * pairs);
  const auto point = [&](const std::string& method, const std::string& option,
                         const std::string& value) {
    std::map<std::string, std::string> options;
    if (!option.empty()) options[option] = value;
    const demo::Pointing p = demo::measure_pointing(model, method, options, count);
    const std::string name = option.empty() ? method : method + " " + option + "=" + value;
    fmt::print("{:40} {:7.1f}% {:7.1f}%\n", name, 100 * p.single, 100 * p.pairs);
    std::fflush(stdout);
  };
  for (const MethodInfo& m : methods()) {
    if (!only.empty() && m.id != only) continue;
    point(m.id, "", "");
    for (const OptionInfo& o : m.options) {
      if (o.name == "gradient_of") {
        point(m.id, o.name, o.fallback == "logit" ? "probability" : "logit");
      }
      if (o.name == "rule" && m.id == "generic-attention") point(m.id, o.name, "paper");
      if (o.name == "rules")
        point(m.id, o.name, o.fallback == "chefer-stable" ? "chefer-classic" : "chefer-stable");
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
  CLI::App app("Trains the bundled vision transformer on generated scenes.");
  demo::TrainOptions options;
  options.scenes.size = int(options.config.image_height);
  std::string out = "weights/demo-vit", sheet, measured, only, scenes;
  int64_t checks = 500;
  int zoom = 2;
  app.add_option("--out", out, "folder that receives the checkpoint")->capture_default_str();
  app.add_option("--steps", options.optimiser.steps)->capture_default_str();
  app.add_option("--batch", options.batch)->capture_default_str();
  app.add_option("--rate", options.optimiser.rate, "largest learning rate")->capture_default_str();
  app.add_option("--patch-loss", options.patch_loss, "weight of the patches' own loss")
      ->capture_default_str();
  app.add_option("--depth", options.config.depth)->capture_default_str();
  app.add_option("--heads", options.config.heads)->capture_default_str();
  app.add_option("--seed", options.seed)->capture_default_str();
  app.add_option("--threads", options.threads, "0: one a core")->capture_default_str();
  app.add_option("--measure", measured, "measure the model of this folder and do no training");
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
  if (!measured.empty()) measure(measured, checks, only);
  if (!scenes.empty()) write_demo_scenes(scenes, options.scenes.size);
  if (sheet.empty() && measured.empty() && scenes.empty()) train(options, out);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {
    fmt::print(stderr, "whence-train-demo-vit: {}\n", e.what());
    return 1;
  }
}
