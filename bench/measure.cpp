#include "bench/measure.h"

#include <time.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>

#include "bench/ceilings.h"
#include "bench/device_time.h"
#include "kernels/elementwise.h"
#include "kernels/libraries.h"
#include "kernels/random.h"

namespace whence::bench {

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double cpu_seconds() {
  timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

double quantile(std::vector<double> times, double share) {
  const auto at = times.begin() + int64_t(std::lround(share * double(times.size() - 1)));
  std::nth_element(times.begin(), at, times.end());
  return *at;
}

std::vector<real> noise(int64_t count) {
  std::vector<real> out(static_cast<size_t>(count));
  cpu::Stream s{1};
  k::random_uniform(s, {uint64_t(count)}, count, out.data());
  k::affine(s, out.data(), 2, -1, count, out.data());
  return out;
}

Operand Operands::make(int64_t count, double bytes) {
  bytes_ += bytes;
  ++made_;
  Operand o;
  if (!stream_) return o;
  o.copies = copies_;
  o.step = (count + 63) / 64 * 64;  // every copy begins at a multiple of 256 bytes
  o.memory = allocate(*stream_, size_t(std::max<int64_t>(1, o.step * copies_)) * sizeof(real));
  return o;
}

Operand Operands::normal(int64_t count, int64_t touched) {
  const Operand o = make(count, double(touched < 0 ? count : touched) * sizeof(real));
  if (stream_)
    on(*stream_, [&](auto& q) { k::random_normal(q, {1, made_, 0}, o.step * o.copies, o(0)); });
  return o;
}

Operand Operands::uniform(int64_t count) {
  const Operand o = make(count, double(count) * sizeof(real));
  if (stream_)
    on(*stream_, [&](auto& q) { k::random_uniform(q, {1, made_, 0}, o.step * o.copies, o(0)); });
  return o;
}

Operand Operands::zeros(int64_t count) {
  const Operand o = make(count, double(count) * sizeof(real));
  if (stream_) on(*stream_, [&](auto& q) { k::fill(q, 0, o.step * o.copies, 1, o(0)); });
  return o;
}

Operand Operands::room(int64_t count, int64_t touched) { return normal(count, touched); }

namespace {

double bytes_of(const Case& c, Precision precision) {
  Operands counted(precision);
  c.make(counted);
  return counted.bytes();
}

// The counters that every row has.
void report(benchmark::State& state, const Case& c, double bytes,
            const std::vector<double>& times) {
  state.counters["us"] = quantile(times, 0.5) * 1e6;
  state.counters["us_p10"] = quantile(times, 0.1) * 1e6;
  state.counters["us_p90"] = quantile(times, 0.9) * 1e6;
  state.counters["bytes"] = bytes;
  state.counters["flops"] = c.flops;
}

void measure_on_host(benchmark::State& state, const Case& c, int threads, bool smoke) {
  Stream s = make_stream({}, threads);
  const double bytes = bytes_of(c, Precision::f32);
  Operands operands(s, 1, Precision::f32);
  const Run run = c.make(operands);
  std::vector<double> times, cpu_times;
  run(s, 0);  // scratch and caches are warm
  for (auto _ : state) {
    const double start = seconds(), cpu_start = cpu_seconds();
    run(s, 0);
    times.push_back(seconds() - start);
    cpu_times.push_back((cpu_seconds() - cpu_start) / threads);
    state.SetIterationTime(times.back());
  }
  report(state, c, bytes, times);
  const double t = quantile(times, 0.5);
  state.counters["cpu_us"] = quantile(cpu_times, 0.5) * 1e6;
  if (smoke) return;
  if (c.flops > 0) state.counters["of_fma"] = c.flops / t / ceilings(threads).flops;
  state.counters["of_copy"] = bytes / t / ceilings(threads).copy;
}

// A sample is a group of calls that is recorded once and replayed, so that the host's part of a
// launch is not in it: as many calls as take half a millisecond when they are launched one by one,
// and every copy of the operands as often.
int64_t calls_of_group(Stream& s, const Run& run, DeviceTimer& timer, int64_t copies, bool smoke) {
  run(s, 0);  // kernels are loaded, scratch memory has its size
  wait(s);
  timer.start();
  for (int64_t i = 0; i < copies; ++i) run(s, i);
  const double rounds = std::ceil(5e-4 / std::max(timer.stop(), 1e-7));
  return copies * (smoke ? 1 : int64_t(std::clamp(rounds, 1.0, 200.0)));
}

struct Variant {
  Precision precision = Precision::f32;
  bool libraries = false, cold = false;
};

void measure_on_device(benchmark::State& state, const Case& c, const Setup& setup,
                       const Variant& v) {
  Stream s = make_stream(setup.device, 1);
  s.set_precision(v.precision);
#ifdef WHENCE_HAVE_CUDA
  cuda::use_libraries = v.libraries;
#endif
  const double bytes = bytes_of(c, v.precision);
  int64_t copies = 1;
  if (v.cold) copies = setup.smoke ? 2 : 1 + int64_t(double(beyond_cache(setup.device)) / bytes);
  Operands operands(s, copies, v.precision);
  const Run run = c.make(operands);
  DeviceTimer timer(s);
  const int64_t calls = calls_of_group(s, run, timer, copies, setup.smoke);
  Recording recording;
  const auto group = [&] {
    recording.run(s, [&] {
      for (int64_t i = 0; i < calls; ++i) run(s, i);
    });
  };
  for (int i = 0; i < 3; ++i) group();  // by itself, recorded, replayed
  wait(s);
  std::vector<double> times;
  for (auto _ : state) {
    timer.start();
    group();
    times.push_back(timer.stop() / double(calls));
    state.SetIterationTime(times.back());
  }
  report(state, c, bytes, times);
  state.counters["calls"] = double(calls);
  state.counters["copies"] = double(copies);
  if (const DeviceCeilings* top = device_ceilings(setup.device, v.precision, setup.smoke)) {
    const double t = quantile(times, 0.5);
    if (c.flops > 0) state.counters["of_product"] = c.flops / t / top->product;
    state.counters["of_copy"] = bytes / t / top->copy;
  }
}

void add_on_host(const Case& c, const Setup& setup) {
  for (int threads : {1, 2}) {
    const std::string name = c.name + "/threads:" + std::to_string(threads);
    auto* b = benchmark::RegisterBenchmark(
        name.c_str(), [c, threads, smoke = setup.smoke](benchmark::State& state) {
          measure_on_host(state, c, threads, smoke);
        });
    b->UseManualTime()->Unit(benchmark::kMicrosecond);
    if (setup.smoke) b->Iterations(2);
  }
}

void add_variant(const Case& c, const Setup& setup, const Variant& v) {
  std::string name = c.name;
  if (c.ways != Ways::one) name += "/" + to_string(v.precision);
  if (c.ways == Ways::precisions_and_libraries) name += v.libraries ? "/library" : "/own";
  name += v.cold ? "/cold" : "/warm";
  benchmark::RegisterBenchmark(name.c_str(),
                               [=](benchmark::State& state) {
                                 try {
                                   measure_on_device(state, c, setup, v);
                                 } catch (const std::exception& e) {
                                   state.SkipWithError(e.what());
                                   ++failed_cases;
                                 }
                               })
      ->Iterations(setup.smoke ? 2 : 50)
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond);
}

}  // namespace

void add(const Case& c, const Setup& setup) {
  if (setup.device.kind == Device::cpu) return add_on_host(c, setup);
  const bool has_libraries =
      c.ways == Ways::precisions_and_libraries && setup.device.kind == Device::cuda;
  for (const Precision precision :
       c.ways == Ways::one ? std::vector{Precision::f32} : setup.precisions)
    for (const bool libraries : has_libraries ? std::vector{false, true} : std::vector{false})
      for (const bool cold : {false, true}) add_variant(c, setup, {precision, libraries, cold});
}

}  // namespace whence::bench
