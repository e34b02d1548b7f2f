// Full-size models with random weights, ViT-B/16 and ResNet-50: times, work done, and memory,
// planned and resident.
//
//   model_bench [--json] [--only ROW] [--rounds N] [--threads N] [--batch N] [--depth N]
//             [--device NAME] [--precision NAME] [--latency CALLS] [--serve] [--smoke]
//
// --latency: so many calls more of every row (or as many as 20 seconds have room for), each timed
// by the host's clock from the call to its result, for percentiles. --serve: reads a row's name
// from every line of the input, runs it once (the first time once before), and prints the
// milliseconds: so another program can take turns with this one. --smoke: tiny models and no
// ceilings, to see that everything runs.
//
// Rows of ViT-B/16: forward (images to logits), rollout, generic-attention (rule paper, start_layer
// 0, gradient_of logit), tam (20 steps), integrated-gradients (50 steps), smoothgrad (5 samples),
// transformer-attribution; of ResNet-50: resnet50-forward, resnet50-lrp (rules interpretdl),
// resnet50-integrated-gradients (50 steps).
// gflop counts what the plans execute; `of peak` divides by the rate measured in this process:
// fused multiply-adds on the CPU, cuBLAS's product in the same precision on a GPU.
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "bench/ceilings.h"
#include "kernels/random.h"
#include "models/cnn/cnn.h"
#include "models/vit/vit.h"
#include "tests/checkpoints/checkpoints.h"
#include "whence/error.h"
#include "whence/explain.h"

namespace whence::bench {
namespace {

struct Options {
  bool json = false;
  std::string only;
  int rounds = 5, threads = 2;
  int64_t batch = 1, depth = 12, latency = 0;
  bool serve = false, smoke = false;
  Device device;
  Precision precision = Precision::f32;
};

Options parse(int argc, char** argv) {
  Options o;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    const auto value = [&]() -> std::string { return i + 1 < argc ? argv[++i] : "0"; };
    if (name == "--json")
      o.json = true;
    else if (name == "--only")
      o.only = value();
    else if (name == "--rounds")
      o.rounds = std::max(1, std::atoi(value().c_str()));
    else if (name == "--threads")
      o.threads = std::max(1, std::atoi(value().c_str()));
    else if (name == "--batch")
      o.batch = std::max(1, std::atoi(value().c_str()));
    else if (name == "--depth")
      o.depth = std::max(1, std::atoi(value().c_str()));
    else if (name == "--latency")
      o.latency = std::max(0, std::atoi(value().c_str()));
    else if (name == "--serve")
      o.serve = true;
    else if (name == "--smoke")
      o.smoke = true;
    else if (name == "--device")
      o.device = device(value());
    else if (name == "--precision")
      o.precision = precision(value());
    else {
      fmt::print(stderr, "model_bench: unknown option {}\n", name);
      std::exit(2);
    }
  }
  return o;
}

std::shared_ptr<const Model> random_vit_base(const Options& o) {
  ViTConfig c;
  c.depth = o.depth;
  if (o.smoke) {
    c.image_height = c.image_width = 32;
    c.width = 32, c.depth = 6, c.heads = 2, c.mlp = 64, c.classes = 10;
  }
  auto m = std::make_shared<Model>(random_model(c, 1));
  m->name = "vit_base_patch16_224 (random)";
  return m;
}

std::shared_ptr<const Model> random_resnet50(const Options& o) {
  ResNetConfig c;
  if (o.smoke) {
    c.image_height = c.image_width = 32;
    c.classes = 10, c.stem = 4;
    c.layers = {{{1, 4, 16, 1}, {1, 4, 16, 2}, {1, 4, 16, 1}, {1, 4, 16, 1}}};
  }
  auto m = std::make_shared<Model>(random_model(c, 1));
  m->name = "resnet50 (random)";
  return m;
}

double resident_bytes() {
  std::ifstream file("/proc/self/statm");
  double total = 0, resident = 0;
  file >> total >> resident;
  return resident * double(sysconf(_SC_PAGESIZE));
}

// Floating-point operations of one call: a pass's own, times how often it runs.
double work(Explainer& explainer, const Request& r, const Tensor& x, int64_t steps) {
  const auto passes = explainer.work(r, x.shape()[0]);
  double sum = 0;
  for (size_t i = 0; i < passes.size(); ++i)  // the last pass is the one that steps repeat
    sum += passes[i].flops_per_row * double(x.shape()[0]) *
           (i + 1 == passes.size() ? double(steps) : 1.0);
  return sum;
}

struct Row {
  std::string name, error;  // either an error or times
  std::vector<double> ms, latency_ms;
  double gflop = 0, planned = 0, resident = 0;
};

double quantile(std::vector<double> v, double q) {
  std::sort(v.begin(), v.end());
  return v[size_t(q * double(v.size() - 1) + 0.5)];
}

struct Work {
  std::string name;
  bool resnet;
  Request request;
  int64_t steps;
};

// One row: its model on the device, and images to explain.
class Task {
 public:
  Task(const std::shared_ptr<const Model>& model, const Options& o, const Work& work)
      : work_(work),
        images_(Type{
            {o.batch, model->image_shape()[0], model->image_shape()[1], model->image_shape()[2]}}),
        explainer_(model, settings(o)) {
    cpu::Stream stream{o.threads};
    k::random_normal(stream, {7, 0, 0}, images_.shape().count(), images_.reals().data());
  }
  double milliseconds() {
    const auto start = std::chrono::steady_clock::now();
    explainer_.explain(images_, work_.request);
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
        .count();
  }
  double gflop() { return work(explainer_, work_.request, images_, work_.steps) / 1e9; }
  double planned_bytes() {
    const int64_t batch = images_.shape()[0];
    return double(explainer_.bytes(work_.request, batch) +
                  explainer_.derived_bytes(work_.request, batch));
  }

 private:
  static Explainer::Settings settings(const Options& o) {
    Explainer::Settings settings;
    settings.threads = o.threads;
    settings.device = o.device;
    settings.precision = o.precision;
    return settings;
  }
  Work work_;
  Tensor images_;
  Explainer explainer_;
};

void measure(const std::shared_ptr<const Model>& model, const Options& o, const Work& work,
             Row& row) {
  const double before = resident_bytes();
  Task task(model, o, work);
  // By itself, recorded where the device records, replayed.
  for (int i = 0; i < (o.device.kind == Device::cuda ? 3 : 1); ++i) task.milliseconds();
  row.resident = resident_bytes() - before;
  row.planned = task.planned_bytes();
  row.gflop = task.gflop();
  for (int i = 0; i < o.rounds; ++i) row.ms.push_back(task.milliseconds());
  const double limit = 2e4;
  double spent = 0;
  while (int64_t(row.latency_ms.size()) < o.latency && spent < limit)
    spent += row.latency_ms.emplace_back(task.milliseconds());
}

struct Peaks {
  double product = NAN, layer = NAN, copy = NAN;  // operations and bytes a second
};

Peaks measure_peaks(const Options& o) {
  if (o.smoke) return {};
  try {
    if (const DeviceCeilings* c = device_ceilings(o.device, o.precision))
      return {c->product, c->layer_product, c->copy};
  } catch (const std::exception& e) {  // the rows are worth having all the same
    fmt::print(stderr, "model_bench: {}\n", e.what());
    return {};
  }
  return {fma_rate(o.threads), NAN, NAN};
}

nlohmann::json json_of(const Row& r, const Peaks& peaks) {
  if (!r.error.empty()) return {{"name", r.name}, {"error", r.error}};
  const double median = quantile(r.ms, 0.5);
  nlohmann::json out{{"name", r.name},
                     {"median_ms", median},
                     {"p10_ms", quantile(r.ms, 0.1)},
                     {"p90_ms", quantile(r.ms, 0.9)},
                     {"samples_ms", r.ms},
                     {"gflop", r.gflop},
                     {"of_peak", r.gflop / median * 1e12 / peaks.product},
                     {"planned_bytes", r.planned},
                     {"resident_bytes", r.resident}};
  if (!r.latency_ms.empty())
    out["latency"] = {{"calls", r.latency_ms.size()},
                      {"p50_ms", quantile(r.latency_ms, 0.5)},
                      {"p90_ms", quantile(r.latency_ms, 0.9)},
                      {"p99_ms", quantile(r.latency_ms, 0.99)},
                      {"max_ms", quantile(r.latency_ms, 1)}};
  return out;
}

void print_json(const std::vector<Row>& rows, const Options& o) {
  const Peaks peaks = measure_peaks(o);
  nlohmann::json out{{"peak_gflops", peaks.product / 1e9},
                     {"device", to_string(o.device)},
                     {"precision", to_string(o.precision)},
                     {"threads", o.threads},
                     {"batch", o.batch},
                     {"results", nlohmann::json::array()}};
  if (o.device.kind == Device::cuda) {
    out["product_12608x3072x768_gflops"] = peaks.layer / 1e9;
    out["copy_gb_per_s"] = peaks.copy / 1e9;
  }
  for (const Row& r : rows) out["results"].push_back(json_of(r, peaks));
  fmt::print("{}\n", out.dump());
}

void print_table(const std::vector<Row>& rows, const Options& o) {
  const Peaks peaks = measure_peaks(o);
  fmt::print(
      "{} {}, {} threads, peak {:.0f} GFLOP/s\n{:<32}{:>10}{:>10}{:>10}{:>9}{:>9}{:>14}{:>14}\n",
      to_string(o.device), to_string(o.precision), o.threads, peaks.product / 1e9, "", "median ms",
      "p10", "p90", "GFLOP", "of peak", "planned MiB", "resident MiB");
  for (const Row& r : rows) {
    if (!r.error.empty()) {
      fmt::print("{:<32}{}\n", r.name, r.error);
      continue;
    }
    const double median = quantile(r.ms, 0.5);
    fmt::print("{:<32}{:>10.1f}{:>10.1f}{:>10.1f}{:>9.1f}{:>8.0f}%{:>14.1f}{:>14.1f}\n", r.name,
               median, quantile(r.ms, 0.1), quantile(r.ms, 0.9), r.gflop,
               r.gflop / median * 1e14 / peaks.product, r.planned / 1048576, r.resident / 1048576);
  }
  for (const Row& r : rows)
    if (const auto& ms = r.latency_ms; !ms.empty())
      fmt::print("{:<32}{:>10} calls, ms: p50 {:.3f}, p90 {:.3f}, p99 {:.3f}, max {:.3f}\n", r.name,
                 ms.size(), quantile(ms, 0.5), quantile(ms, 0.9), quantile(ms, 0.99),
                 quantile(ms, 1));
}

// The rows.
std::vector<Work> all_work() {
  const auto request = [](std::string method, std::map<std::string, std::string> options) {
    Request r;
    r.method = std::move(method);
    r.options = std::move(options);
    return r;
  };
  return {{"forward", false, request("predict", {}), 1},
          {"rollout", false, request("rollout", {}), 1},
          {"generic-attention", false,
           request("generic-attention",
                   {{"rule", "paper"}, {"start_layer", "0"}, {"gradient_of", "logit"}}),
           1},
          {"tam", false, request("tam", {{"steps", "20"}, {"start_layer", "4"}}), 20},
          {"integrated-gradients", false, request("integrated-gradients", {{"steps", "50"}}), 50},
          {"transformer-attribution", false, request("transformer-attribution", {}), 1},
          {"smoothgrad", false, request("smoothgrad", {{"n_samples", "5"}}), 5},
          {"resnet50-forward", true, request("predict", {}), 1},
          {"resnet50-lrp", true, request("lrp", {{"rules", "interpretdl"}}), 1},
          {"resnet50-integrated-gradients", true,
           request("integrated-gradients", {{"steps", "50"}}), 50}};
}

// Models, made where they are asked for.
class Models {
 public:
  explicit Models(const Options& o) : options_(o) {}
  const std::shared_ptr<const Model>& of(const Work& work) {
    auto& model = work.resnet ? resnet_ : vit_;
    if (!model) model = work.resnet ? random_resnet50(options_) : random_vit_base(options_);
    return model;
  }

 private:
  Options options_;
  std::shared_ptr<const Model> vit_, resnet_;
};

int serve(const Options& o) {
  Models models(o);
  std::unique_ptr<Task> task;
  std::string name, current;
  while (std::getline(std::cin, name)) {
    if (name != current) {
      task.reset();  // memory is given back before more is asked for
      for (const Work& work : all_work())
        if (work.name == name) task = std::make_unique<Task>(models.of(work), o, work);
      if (!task) {
        fmt::print(stderr, "model_bench: there is no row {}\n", name);
        return 2;
      }
      current = name;
      task->milliseconds();
    }
    std::cout << task->milliseconds() << std::endl;
  }
  return 0;
}

}  // namespace

int run(int argc, char** argv) {
  const Options o = parse(argc, argv);
  if (o.serve) return serve(o);
  Models models(o);
  std::vector<Row> rows;
  bool any = false, failed = false;
  for (const Work& work : all_work()) {
    if (!o.only.empty() && o.only != work.name) continue;
    Row& row = rows.emplace_back();
    row.name = work.name;
    try {
      measure(models.of(work), o, work, row);
      any = true;
    } catch (const std::exception& e) {  // one row cannot; the others may
      row.error = e.what();
      const auto* error = dynamic_cast<const Error*>(&e);
      failed |= !error || error->kind() != ErrorKind::usage;  // usage: not in this precision
      fmt::print(stderr, "model_bench: {}: {}\n", row.name, row.error);
    }
  }
  o.json ? print_json(rows, o) : print_table(rows, o);
  return any && !failed ? 0 : 1;
}

}  // namespace whence::bench

int main(int argc, char** argv) {
  try {
    return whence::bench::run(argc, argv);
  } catch (const std::exception& e) {
    fmt::print(stderr, "model_bench: {}\n", e.what());
    return 1;
  }
}
