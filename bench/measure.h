// One measured kernel: what a case is, where its operands live, and how it is timed.
#pragma once

#include <benchmark/benchmark.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/conv.h"
#include "runtime/stream.h"

namespace whence::bench {

inline int failed_cases = 0;  // that threw

// What the command line asks for.
struct Setup {
  Device device;
  std::vector<Precision> precisions{Precision::f32};  // those of products
  std::vector<int64_t> batches{1, 5};
  bool smoke = false;  // tiny sizes and two samples: does everything run?
};

// An array on the processor that is measured, in one or more copies that calls use in turn: call
// number `turn` gets its copy. Null where operands are only counted.
struct Operand {
  std::shared_ptr<void> memory;
  int64_t step = 0, copies = 1;
  real* operator()(int64_t turn) const {
    return memory ? static_cast<real*>(memory.get()) + turn % copies * step : nullptr;
  }
};

// Makes a case's operands: numbers that are not zeros, for those cost a GPU less power, and the
// same ones in every run.
class Operands {
 public:
  explicit Operands(Precision precision) : precision_(precision) {}  // only counts bytes
  Operands(Stream& s, int64_t copies, Precision precision)
      : stream_(&s), copies_(copies), precision_(precision) {}
  // Standard normal numbers, uniform ones in [0, 1), zeros, and room for a result. A call touches
  // `touched` of the elements, all unless given.
  Operand normal(int64_t count, int64_t touched = -1);
  Operand uniform(int64_t count);
  Operand zeros(int64_t count);
  Operand room(int64_t count, int64_t touched = -1);
  // Weights: pack(stream, numbers, to) makes `count` elements at `to` of `from` normal numbers.
  // `width` is the size of an element there, as a call reads it.
  template <class Pack>
  Operand packed(int64_t from, int64_t count, size_t width, Pack pack) {
    const Operand o = make(count, double(from) * double(width));
    if (!stream_) return o;
    const Operand plain = Operands(*stream_, 1, precision_).normal(from);
    for (int64_t i = 0; i < copies_; ++i) on(*stream_, [&](auto& q) { pack(q, plain(0), o(i)); });
    wait(*stream_);  // the numbers go
    return o;
  }
  Precision precision() const { return precision_; }
  // What one call reads and writes: every operand once.
  double bytes() const { return bytes_; }

 private:
  Operand make(int64_t count, double bytes);

  Stream* stream_ = nullptr;
  int64_t copies_ = 1;
  Precision precision_;
  double bytes_ = 0;
  uint32_t made_ = 0;
};

using Run = std::function<void(Stream&, int64_t turn)>;

// What a case is measured with on a device: precisions where it multiplies matrices, and NVIDIA's
// libraries beside whence's own kernel where either can do it.
enum class Ways : uint8_t { one, precisions, precisions_and_libraries };

struct Case {
  std::string name;
  double flops;  // of one call: multiply-adds count twice
  Ways ways;
  std::function<Run(Operands&)> make;
};

// make(operands) gives f, and f(s, turn) calls the kernel on a stream of any processor.
template <class Make>
Case case_of(std::string name, double flops, Ways ways, Make make) {
  return {std::move(name), flops, ways, [make](Operands& o) -> Run {
            return [f = make(o)](Stream& s, int64_t turn) { on(s, [&](auto& q) { f(q, turn); }); };
          }};
}

// Registers a case. README.md of this folder says what is measured and what the counters are.
void add(const Case& c, const Setup& setup);

// The cases: of ViT-B/16, of ResNet-50.
std::vector<Case> transformer_cases(const Setup& setup);
std::vector<Case> convolution_cases(const Setup& setup);
// The convolutions of ResNet-50 for one image, each shape once.
std::vector<k::ConvSize> convolution_shapes(bool smoke);
// Products and convolutions beside oneDNN on the CPU, in product_bench.cpp.
void add_products();

// Uniform in [-1, 1].
std::vector<real> noise(int64_t count);
double seconds();
// Processor time of all threads. With OMP_WAIT_POLICY=passive, so that waiting threads sleep, this
// divided by their number is what a call takes when nothing else wants the processors.
double cpu_seconds();
// The time that a share of the calls, 0 to 1, did not exceed.
double quantile(std::vector<double> times, double share);

}  // namespace whence::bench
