// whence-train-demo-vit: makes the bundled vision transformer from nothing, or a contact sheet of
// the scenes that it learns from.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <string>

#include "demo/save_vit.h"
#include "demo/sheet.h"
#include "demo/train_vit.h"
#include "io/files.h"
#include "whence/error.h"

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

void train(const demo::TrainOptions& options, int64_t checks, const std::string& out) {
  const Clock clock;
  demo::ViTTrainer trainer(options);
  constexpr int64_t every = 100;
  double loss = 0;
  for (int64_t n = 1; n <= options.optimiser.steps; ++n) {
    const auto [step_loss, length] = trainer.step();
    loss += step_loss / every;
    if (n % every != 0) continue;
    fmt::print("step {:5} of {}  loss {:.4f}  gradient {:.3f}  rate {:.2e}  {:.0f} s\n", n,
               options.optimiser.steps, loss, length, demo::learning_rate(options.optimiser, n - 1),
               clock.seconds());
    std::fflush(stdout);
    loss = 0;
  }
  const Weights weights = trainer.weights();
  demo::save_demo_vit(out, options.config, weights);
  const auto [single, pairs] = demo::measure_accuracy(options.config, weights, checks);
  fmt::print("unseen scenes: {:.1f} % of single things named, {:.1f} % of pairs\nwritten: {}\n",
             100 * single, 100 * pairs, out);
}

int run(int argc, char** argv) {
  CLI::App app("Trains the bundled vision transformer on generated scenes.");
  demo::TrainOptions options;
  options.scenes.size = int(options.config.image_height);
  std::string out = "weights/demo-vit", sheet;
  int64_t checks = 1000;
  int zoom = 2;
  app.add_option("--out", out, "folder that receives the checkpoint")->capture_default_str();
  app.add_option("--steps", options.optimiser.steps)->capture_default_str();
  app.add_option("--batch", options.batch)->capture_default_str();
  app.add_option("--rate", options.optimiser.rate, "largest learning rate")->capture_default_str();
  app.add_option("--seed", options.seed)->capture_default_str();
  app.add_option("--threads", options.threads, "0: one a core")->capture_default_str();
  app.add_option("--checks", checks, "unseen scenes of each sort at the end")
      ->capture_default_str();
  app.add_option("--sheet", sheet,
                 "write a contact sheet of scenes to this PNG and do no training");
  app.add_option("--zoom", zoom, "of the contact sheet")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  if (!sheet.empty()) {
    write_file_atomically(sheet,
                          encode_png(demo::contact_sheet(options.seed, options.scenes.size, zoom)));
    return 0;
  }
  train(options, checks, out);
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
