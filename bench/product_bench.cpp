// Products of packed weights and convolutions, beside oneDNN's where the build found it. Both run
// in turn inside one loop, on the same operands, oneDNN with weights in the layout it chose and the
// bias fused; its images are channels-last, as whence's are.
#include <fmt/core.h>

#include <algorithm>
#include <memory>

#include "bench/ceilings.h"
#include "bench/measure.h"
#include "kernels/conv.h"
#include "kernels/product.h"

#ifdef WHENCE_HAVE_ONEDNN
#include <omp.h>

#include <dnnl.hpp>
#endif

namespace whence::bench {
namespace {

struct Size {
  int64_t m, n, k;
  double flops() const { return 2.0 * double(m) * double(n) * double(k); }
};

// Weights are held in several copies that are used in turn, as a network's layers are: together
// they exceed the last cache, so every call reads its weights from memory.
struct Operands {
  Size size;
  size_t copies;
  std::vector<real> a, b, bias, c, packed;
  explicit Operands(const Size& z, bool cold)
      : size(z),
        copies(cold ? size_t(std::max<int64_t>(1, (int64_t{1} << 26) / (z.n * z.k * 4))) : 1),
        a(noise(z.m * z.k)),
        b(noise(z.n * z.k)),
        bias(noise(z.n)),
        c(size_t(z.m * z.n)),
        packed(size_t(k::packed_count(z.n, z.k)) * copies) {
    cpu::Stream s{1};
    for (size_t i = 0; i < copies; ++i) k::pack(s, b.data(), z.n, z.k, z.k, 1, weights(i));
  }
  real* weights(size_t i) { return packed.data() + i % copies * (packed.size() / copies); }
};

#ifdef WHENCE_HAVE_ONEDNN
class Peer {
 public:
  explicit Peer(Operands& o) : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
    using dnnl::memory;
    const auto type = memory::data_type::f32;
    using tag = memory::format_tag;
    const Size& z = o.size;
    const memory::desc a({z.m, z.k}, type, tag::ab), any({z.k, z.n}, type, tag::any),
        plain({z.k, z.n}, type, tag::ba), bias({1, z.n}, type, tag::ab),
        c({z.m, z.n}, type, tag::ab);
    const dnnl::matmul::primitive_desc chosen({a, any, bias, c}, engine_);
    matmul_ = dnnl::matmul(chosen);
    memory source(plain, engine_, o.b.data());
    for (size_t i = 0; i < o.copies; ++i) {
      weights_.emplace_back(chosen.weights_desc(), engine_);
      dnnl::reorder(source, weights_.back()).execute(stream_, source, weights_.back());
    }
    stream_.wait();
    arguments_ = {{DNNL_ARG_SRC, memory(a, engine_, o.a.data())},
                  {DNNL_ARG_BIAS, memory(bias, engine_, o.bias.data())},
                  {DNNL_ARG_DST, memory(c, engine_, o.c.data())}};
  }
  void run(size_t i) {
    arguments_[DNNL_ARG_WEIGHTS] = weights_[i % weights_.size()];
    matmul_.execute(stream_, arguments_);
    stream_.wait();
  }

 private:
  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::matmul matmul_;
  std::vector<dnnl::memory> weights_;
  std::unordered_map<int, dnnl::memory> arguments_;
};
#endif

// Wall and processor time (per thread) of one call.
struct Times {
  std::vector<double> wall, cpu;
  template <class F>
  void take(int threads, F&& f) {
    const double start = seconds(), cpu_start = cpu_seconds();
    f();
    wall.push_back(seconds() - start);
    cpu.push_back((cpu_seconds() - cpu_start) / threads);
  }
};

void report(benchmark::State& state, double flops, int threads, const Times& ours,
            const Times& theirs) {
  const double wall = quantile(ours.wall, 0.5), cpu = quantile(ours.cpu, 0.5);
  state.counters["us"] = wall * 1e6;
  state.counters["cpu_us"] = cpu * 1e6;
  state.counters["of_fma"] = flops / wall / ceilings(threads).flops;
  state.counters["of_fma_cpu"] = flops / cpu / ceilings(threads).flops;
  if (!theirs.wall.empty()) {  // ratios above 1: oneDNN takes longer
    state.counters["onednn_us"] = quantile(theirs.wall, 0.5) * 1e6;
    state.counters["onednn_ratio"] = quantile(theirs.wall, 0.5) / wall;
    state.counters["onednn_cpu"] = quantile(theirs.cpu, 0.5) / cpu;
  }
}

void measure(benchmark::State& state, const Size& z, int threads, bool cold) {
  Operands o(z, cold);
  cpu::Stream s{threads};
  Times ours, theirs;
  size_t call = 0;
#ifdef WHENCE_HAVE_ONEDNN
  omp_set_num_threads(threads);
  Peer peer(o);
#endif
  for (auto _ : state) {
    ours.take(threads, [&] {
      k::product(s, o.a.data(), z.k, o.weights(call), z.m, z.n, z.k, {.bias = o.bias.data()},
                 o.c.data(), z.n);
    });
    state.SetIterationTime(ours.wall.back());
#ifdef WHENCE_HAVE_ONEDNN
    theirs.take(threads, [&] { peer.run(call); });
#endif
    ++call;
  }
  report(state, z.flops(), threads, ours, theirs);
}

// A convolution with a bias, or its gradient by the image.
struct ConvOperands {
  k::ConvSize z;
  std::vector<real> x, weight, bias, y, packed;
  ConvOperands(const k::ConvSize& size, bool backward)
      : z(size),
        x(noise(z.height * z.width * z.channels)),
        weight(noise(z.outputs * z.channels * z.taps())),
        bias(noise(z.outputs)),
        y(noise(z.out_height() * z.out_width() * z.outputs)),
        packed(size_t(k::conv_packed_count(z))) {
    cpu::Stream s{1};
    k::conv_pack(s, weight.data(), z, backward, packed.data());
  }
};

#ifdef WHENCE_HAVE_ONEDNN
class ConvPeer {
 public:
  ConvPeer(ConvOperands& o, bool backward) : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
    using dnnl::memory;
    using tag = memory::format_tag;
    const auto type = memory::data_type::f32;
    const k::ConvSize& z = o.z;
    const memory::desc x({1, z.channels, z.height, z.width}, type, tag::nhwc),
        y({1, z.outputs, z.out_height(), z.out_width()}, type, tag::nhwc),
        any({z.outputs, z.channels, z.kernel_height, z.kernel_width}, type, tag::any),
        plain(any.dims(), type, tag::oihw), bias({z.outputs}, type, tag::x);
    const memory::dims stride{z.stride, z.stride}, pad{z.pad, z.pad};
    const dnnl::convolution_forward::primitive_desc forward(
        {dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, x, any, bias, y,
         stride, pad, pad},
        engine_);
    const memory image(x, engine_, o.x.data()), result(y, engine_, o.y.data());
    memory::desc chosen = forward.weights_desc();
    if (backward) {
      const dnnl::convolution_backward_data::primitive_desc gradient(
          {dnnl::algorithm::convolution_direct, x, any, y, stride, pad, pad}, engine_, forward);
      primitive_ = dnnl::convolution_backward_data(gradient);
      chosen = gradient.weights_desc();
      arguments_ = {{DNNL_ARG_DIFF_SRC, image}, {DNNL_ARG_DIFF_DST, result}};
    } else {
      primitive_ = dnnl::convolution_forward(forward);
      arguments_ = {{DNNL_ARG_SRC, image},
                    {DNNL_ARG_BIAS, memory(bias, engine_, o.bias.data())},
                    {DNNL_ARG_DST, result}};
    }
    memory source(plain, engine_, o.weight.data()), weight(chosen, engine_);
    dnnl::reorder(source, weight).execute(stream_, source, weight);
    stream_.wait();
    arguments_.insert({DNNL_ARG_WEIGHTS, weight});
  }
  void run() {
    primitive_.execute(stream_, arguments_);
    stream_.wait();
  }

 private:
  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::primitive primitive_;
  std::unordered_map<int, dnnl::memory> arguments_;
};
#endif

void measure_conv(benchmark::State& state, const k::ConvSize& z, int threads, bool backward) {
  ConvOperands o(z, backward);
  cpu::Stream s{threads};
  Times ours, theirs;
#ifdef WHENCE_HAVE_ONEDNN
  omp_set_num_threads(threads);
  ConvPeer peer(o, backward);
#endif
  for (auto _ : state) {
    ours.take(threads, [&] {
      if (backward)
        k::conv_bwd(s, o.y.data(), o.packed.data(), z, {}, o.x.data());
      else
        k::conv(s, o.x.data(), o.packed.data(), z, {.bias = o.bias.data()}, o.y.data());
    });
    state.SetIterationTime(ours.wall.back());
#ifdef WHENCE_HAVE_ONEDNN
    theirs.take(threads, [&] { peer.run(); });
#endif
  }
  const double sums = double(z.taps() * z.channels);
  report(state, 2 * double(z.out_height() * z.out_width() * z.outputs) * sums, threads, ours,
         theirs);
}

}  // namespace

void add_products() {
  for (const k::ConvSize& z : convolution_shapes(false))
    for (const bool backward : {false, true})
      for (int threads : {1, 2}) {
        const std::string name =
            fmt::format("beside_onednn/{}/{}x{}/stride:{}/{}x{}x{}-{}/threads:{}",
                        backward ? "conv_bwd" : "conv", z.kernel_height, z.kernel_width, z.stride,
                        z.height, z.width, z.channels, z.outputs, threads);
        benchmark::RegisterBenchmark(
            name.c_str(),
            [=](benchmark::State& state) { measure_conv(state, z, threads, backward); })
            ->Iterations(61)
            ->UseManualTime()
            ->Unit(benchmark::kMicrosecond);
      }
  for (const Size& z : {Size{197, 768, 768},
                        {197, 2304, 768},
                        {197, 3072, 768},
                        {197, 768, 3072},
                        {985, 768, 768},
                        {985, 2304, 768},
                        {985, 3072, 768},
                        {985, 768, 3072},
                        {5, 768, 768},
                        {1, 768, 768},
                        {1, 3072, 768},
                        {1, 768, 3072}}) {
    for (int threads : {1, 2}) {
      for (const bool cold : {false, true}) {
        const std::string name = "product/" + std::to_string(z.m) + "x" + std::to_string(z.n) +
                                 "x" + std::to_string(z.k) + (cold ? "/cold" : "/warm") +
                                 "/threads:" + std::to_string(threads);
        benchmark::RegisterBenchmark(
            name.c_str(), [=](benchmark::State& state) { measure(state, z, threads, cold); })
            ->Iterations(std::clamp<int64_t>(int64_t(2e10 / z.flops()), 31, 1000))
            ->UseManualTime()
            ->Unit(benchmark::kMicrosecond);
      }
    }
  }
}

}  // namespace whence::bench
