// Full-size models with random weights, ViT-B/16 and ResNet-50: times, work done, and memory,
// planned and resident.
//
//   model_bench [--json] [--only ROW] [--rounds N] [--threads N] [--batch N] [--depth N]
//             [--device NAME] [--precision NAME]
//
// Rows of ViT-B/16: forward (images to logits), rollout, generic-attention (rule paper, start_layer
// 0, gradient_of logit), tam (20 steps), integrated-gradients (50 steps), smoothgrad (5 samples),
// transformer-attribution; of ResNet-50: resnet50-forward, resnet50-lrp (rules interpretdl),
// resnet50-integrated-gradients (50 steps).
// gflop counts what the plans execute; `of peak` divides by the rate measured in this process:
// fused multiply-adds on the CPU, cuBLAS's product in the same precision on a GPU.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "bench/ceilings.h"
#include "kernels/random.h"
#include "weights/generate.h"
#include "whence/cnn.h"
#include "whence/explain.h"
#include "whence/vit.h"

namespace whence::bench {
namespace {

struct Options {
  bool json = false;
  std::string only;
  int rounds = 5, threads = 2;
  int64_t batch = 1, depth = 12;
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

std::shared_ptr<const Model> random_vit_base(int64_t depth) {
  ViTConfig c;
  c.depth = depth;
  auto m = std::make_shared<Model>();
  m->name = "vit_base_patch16_224 (random)";
  m->input = {3, 224, 224};
  m->classes = c.classes;
  m->blocks = c.depth;
  m->prefix_tokens = 1;
  m->grid_height = m->grid_width = 14;
  m->build = [c](Graph& g, int64_t batch) { return build_vit(g, c, batch); };
  m->weights = random_vit_weights(c, 1);
  return m;
}

std::shared_ptr<const Model> random_resnet50() {
  const ResNetConfig c;
  auto m = std::make_shared<Model>();
  m->name = "resnet50 (random)";
  m->input = {3, 224, 224};
  m->classes = c.classes;
  m->grid_height = m->grid_width = 7;
  m->build = [c](Graph& g, int64_t batch) { return build_resnet(g, c, batch); };
  m->weights = random_cnn_weights(c, 1);
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
  std::string name;
  std::vector<double> ms;
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

Row measure(const std::shared_ptr<const Model>& model, const Options& o, const Work& task) {
  const Request& r = task.request;
  Tensor x(Type{{o.batch, 3, 224, 224}});
  cpu::Stream stream{o.threads};
  k::random_normal(stream, {7, 0, 0}, x.shape().count(), x.reals().data());
  Explainer::Settings settings;
  settings.threads = o.threads;
  settings.device = o.device;
  settings.precision = o.precision;
  Row row;
  row.name = task.name;
  const double before = resident_bytes();
  Explainer explainer(model, settings);
  const auto once = [&] { explainer.explain(x, r); };
  once();
  row.resident = resident_bytes() - before;
  row.planned = double(explainer.bytes(r, o.batch) + explainer.derived_bytes(r, o.batch));
  row.gflop = work(explainer, r, x, task.steps) / 1e9;
  for (int i = 0; i < o.rounds; ++i) {
    const auto start = std::chrono::steady_clock::now();
    once();
    row.ms.push_back(
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
            .count());
  }
  return row;
}

double product_rate(const Options& o) {
#ifdef WHENCE_HAVE_CUDA
  if (o.device.kind == Device::cuda) return device_product_rate(o.device.index, o.precision);
#endif
  return fma_rate(o.threads);
}

void print(const std::vector<Row>& rows, const Options& o) {
  const double peak = product_rate(o) / 1e9;
  nlohmann::json out{{"peak_gflops", peak},
                     {"device", to_string(o.device)},
                     {"precision", to_string(o.precision)},
                     {"threads", o.threads},
                     {"batch", o.batch},
                     {"results", nlohmann::json::array()}};
  if (!o.json)
    fmt::print(
        "{} {}, {} threads, peak {:.0f} "
        "GFLOP/s\n{:<32}{:>10}{:>10}{:>10}{:>9}{:>9}{:>14}{:>14}\n",
        to_string(o.device), to_string(o.precision), o.threads, peak, "", "median ms", "p10", "p90",
        "GFLOP", "of peak", "planned MiB", "resident MiB");
  for (const Row& r : rows) {
    const double median = quantile(r.ms, 0.5), part = r.gflop / median * 1e3 / peak;
    if (o.json)
      out["results"].push_back({{"name", r.name},
                                {"median_ms", median},
                                {"samples_ms", r.ms},
                                {"gflop", r.gflop},
                                {"of_peak", part},
                                {"planned_bytes", r.planned},
                                {"resident_bytes", r.resident}});
    else
      fmt::print("{:<32}{:>10.1f}{:>10.1f}{:>10.1f}{:>9.1f}{:>8.0f}%{:>14.1f}{:>14.1f}\n", r.name,
                 median, quantile(r.ms, 0.1), quantile(r.ms, 0.9), r.gflop, 100 * part,
                 r.planned / 1048576, r.resident / 1048576);
  }
  if (o.json) fmt::print("{}\n", out.dump());
}

}  // namespace

int run(int argc, char** argv) {
  const Options o = parse(argc, argv);
  const auto request = [](std::string method, std::map<std::string, std::string> options) {
    Request r;
    r.method = std::move(method);
    r.options = std::move(options);
    return r;
  };
  const std::vector<Work> all{
      {"forward", false, request("predict", {}), 1},
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
      {"resnet50-integrated-gradients", true, request("integrated-gradients", {{"steps", "50"}}),
       50}};
  std::shared_ptr<const Model> vit, resnet;  // made where they are asked for
  std::vector<Row> rows;
  for (const Work& one : all) {
    if (!o.only.empty() && o.only != one.name) continue;
    auto& model = one.resnet ? resnet : vit;
    if (!model) model = one.resnet ? random_resnet50() : random_vit_base(o.depth);
    rows.push_back(measure(model, o, one));
  }
  print(rows, o);
  return 0;
}

}  // namespace whence::bench

int main(int argc, char** argv) { return whence::bench::run(argc, argv); }
