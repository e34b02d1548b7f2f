// Every kernel at the sizes of ViT-B/16 and ResNet-50, on the CPU or on a device.
//
//   kernels_bench [--device NAME] [--precision NAME] [--smoke] [--benchmark_...]
//
// On a device products run in every precision unless one is named. --smoke: tiny sizes, two samples
// and no ceilings, to see that everything runs. Names of rows and counters: README.md.
#include <cstdio>

#include "bench/ceilings.h"
#include "bench/measure.h"

namespace whence::bench {
namespace {

Setup parse(int argc, char** argv) {
  Setup setup;
  std::string precision_name;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    const auto value = [&]() -> std::string { return i + 1 < argc ? argv[++i] : ""; };
    if (name == "--device")
      setup.device = device(value());
    else if (name == "--precision")
      precision_name = value();
    else if (name == "--smoke")
      setup.smoke = true;
    else
      throw std::invalid_argument("unknown option " + name);
  }
  if (!precision_name.empty())
    setup.precisions = {precision(precision_name)};
  else if (setup.device.kind != Device::cpu && sizeof(real) == sizeof(float))
    setup.precisions = {Precision::f32, Precision::tf32, Precision::bf16};
  if (setup.device.kind != Device::cpu) setup.batches = {1, 32};
  if (setup.smoke) setup.batches = {2};
  return setup;
}

std::string giga(double x) { return std::to_string(int64_t(x / 1e9)); }

void say_ceilings_of_host() {
  for (int threads : {1, 2}) {
    const Ceilings& c = ceilings(threads);
    benchmark::AddCustomContext(
        "ceilings of " + std::to_string(threads) + " thread(s)",
        giga(c.flops) + " GFLOP/s, read " + giga(c.read) + " GB/s, copy " + giga(c.copy) + " GB/s");
  }
}

void say_ceilings_of_device(const Setup& setup) {
  benchmark::AddCustomContext("device", to_string(setup.device));
  for (const Precision p : setup.precisions) {
    const DeviceCeilings* c = device_ceilings(setup.device, p, setup.smoke);
    if (!c) continue;
    benchmark::AddCustomContext("copy, GB/s", giga(c->copy));
    benchmark::AddCustomContext(
        "products in " + to_string(p) + ", GFLOP/s",
        "8192 cubed " + giga(c->product) + ", 12608 x 3072 x 768 " + giga(c->layer_product));
  }
}

int run(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  Setup setup;
  try {
    setup = parse(argc, argv);
    if (setup.device.kind != Device::cpu)
      say_ceilings_of_device(setup);
    else if (!setup.smoke)
      say_ceilings_of_host();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "kernels_bench: %s\n", e.what());
    return 2;
  }
  if (setup.device.kind == Device::cpu && !setup.smoke) add_products();
  for (const Case& c : transformer_cases(setup)) add(c, setup);
  for (const Case& c : convolution_cases(setup)) add(c, setup);
  benchmark::RunSpecifiedBenchmarks();
  return failed_cases == 0 ? 0 : 1;
}

}  // namespace
}  // namespace whence::bench

int main(int argc, char** argv) { return whence::bench::run(argc, argv); }
