// Kernels at the sizes of ViT-B/16 (197 tokens of width 768, 12 heads), for one image and five.
#include <time.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "bench/ceilings.h"
#include "bench/measure.h"
#include "kernels/attention.h"
#include "kernels/elementwise.h"
#include "kernels/product.h"
#include "kernels/random.h"
#include "kernels/rows.h"

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
  const auto at = times.begin() + int64_t(share * double(times.size() - 1));
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

void add(const Case& c) {
  for (int threads : {1, 2}) {
    const std::string name = c.name + "/threads:" + std::to_string(threads);
    benchmark::RegisterBenchmark(name.c_str(),
                                 [c, threads](benchmark::State& state) {
                                   cpu::Stream s{threads};
                                   std::vector<double> times, cpu_times;
                                   c.run(s);  // scratch and caches are warm
                                   for (auto _ : state) {
                                     const double start = seconds(), cpu_start = cpu_seconds();
                                     c.run(s);
                                     times.push_back(seconds() - start);
                                     cpu_times.push_back((cpu_seconds() - cpu_start) / threads);
                                     state.SetIterationTime(times.back());
                                   }
                                   const double t = quantile(times, 0.5);
                                   state.counters["us"] = t * 1e6;
                                   state.counters["us_p10"] = quantile(times, 0.1) * 1e6;
                                   state.counters["cpu_us"] = quantile(cpu_times, 0.5) * 1e6;
                                   if (c.flops > 0)
                                     state.counters["of_fma"] =
                                         c.flops / t / ceilings(threads).flops;
                                   state.counters["of_copy"] = c.bytes / t / ceilings(threads).copy;
                                 })
        ->UseManualTime()
        ->Unit(benchmark::kMicrosecond);
  }
}

namespace {

using Buffer = std::shared_ptr<std::vector<real>>;
Buffer buffer(int64_t count) { return std::make_shared<std::vector<real>>(noise(count)); }

void add_attention(int64_t batch) {
  const k::AttentionSize z{batch, 12, 197, 197, 64};
  const int64_t n = batch * 197 * 768, map = batch * 197 * 197;
  const Buffer q = buffer(n), k = buffer(n), v = buffer(n), g = buffer(n), y = buffer(n),
               dq = buffer(n), dk = buffer(n), dv = buffer(n), probs = buffer(12 * map),
               mean = buffer(map), in = buffer(batch * 197), out = buffer(batch * 197);
  const double product = 2.0 * double(batch) * 12 * 197 * 197 * 64;
  const auto bytes = [](int64_t elements) { return double(elements) * sizeof(real); };
  const real scale = real(0.125);
  const std::string at = "/batch:" + std::to_string(batch);
  const auto forward = [=](const char* name, int64_t extra, const k::AttentionCapture& capture) {
    add({name + at, 2 * product, bytes(4 * n + extra), [=](cpu::Stream& s) {
           // The buffers are held by this closure.
           k::attention(s, q->data(), k->data(), v->data(), z, scale, y->data(), capture);
           benchmark::DoNotOptimize(probs->data() + mean->size());
         }});
  };
  forward("attention", 0, {});
  forward("attention_probs", 12 * map, {.probs = probs->data()});
  forward("attention_head_mean", map, {.head_mean = mean->data()});
  const auto backward = [=](const char* name, double products, int64_t elements,
                            const k::AttentionGradients& gradients) {
    add({name + at, products * product, bytes(elements), [=](cpu::Stream& s) {
           k::attention_bwd(s, q->data(), k->data(), v->data(), g->data(), z, scale, gradients);
           benchmark::DoNotOptimize(dq->data() + dk->size() + dv->size() + in->size() +
                                    out->size() + mean->size());
         }});
  };
  const k::AttentionGradients plain{.dq = dq->data(), .dk = dk->data(), .dv = dv->data()};
  k::AttentionGradients chain = plain, relevance = plain;
  chain.chain_in = in->data();
  chain.chain_out = out->data();
  relevance.relevance = mean->data();
  backward("attention_bwd", 5, 7 * n, plain);
  backward("attention_bwd_chain", 5, 7 * n, chain);
  backward("attention_bwd_relevance", 5, 7 * n + map, relevance);
  backward("attention_bwd_chain_only", 2, 4 * n,
           {.chain_in = in->data(), .chain_out = out->data()});
}

void add_rows(int64_t batch) {
  const int64_t rows = batch * 197, cols = 768, n = rows * cols;
  const Buffer x = buffer(n), d = buffer(n), y = buffer(n), w = buffer(cols), b = buffer(cols);
  const auto bytes = [](int64_t elements) { return double(elements) * sizeof(real); };
  const std::string at = "/batch:" + std::to_string(batch);
  add({"layer_norm" + at, 0, bytes(2 * n), [=](cpu::Stream& s) {
         k::layer_norm(s, x->data(), w->data(), b->data(), real(1e-6), rows, cols, y->data());
       }});
  add({"layer_norm_bwd" + at, 0, bytes(3 * n), [=](cpu::Stream& s) {
         k::layer_norm_bwd(s, x->data(), w->data(), d->data(), real(1e-6), rows, cols, y->data());
       }});
  add({"layer_norm_bwd_weight" + at, 0, bytes(2 * n), [=](cpu::Stream& s) {
         k::layer_norm_bwd_weight(s, x->data(), d->data(), real(1e-6), rows, cols, w->data());
       }});
  const int64_t maps = rows * 12 * 197;
  const Buffer scores = buffer(maps), other = buffer(maps);
  add({"softmax" + at, 0, bytes(2 * maps),
       [=](cpu::Stream& s) { k::softmax(s, scores->data(), rows * 12, 197, other->data()); }});
  add({"softmax_bwd" + at, 0, bytes(3 * maps), [=](cpu::Stream& s) {
         k::softmax_bwd(s, scores->data(), other->data(), rows * 12, 197, other->data());
       }});
}

void add_elementwise(int64_t batch) {
  const int64_t n = batch * 197 * 3072, pixels = batch * 3 * 224 * 224;
  const Buffer x = buffer(n), d = buffer(n), y = buffer(n);
  const auto bytes = [](int64_t elements) { return double(elements) * sizeof(real); };
  const std::string at = "/batch:" + std::to_string(batch);
  const std::pair<const char*, k::Unary> functions[] = {{"gelu", k::Unary::gelu},
                                                        {"gelu_tanh", k::Unary::gelu_tanh},
                                                        {"gelu_quick", k::Unary::gelu_quick}};
  for (const auto& [name, f] : functions) {
    add({name + at, 0, bytes(2 * n),
         [=, f = f](cpu::Stream& s) { k::unary(s, f, x->data(), n, y->data()); }});
  }
  add({"gelu_bwd" + at, 0, bytes(3 * n), [=](cpu::Stream& s) {
         k::unary_bwd(s, k::Unary::gelu, x->data(), d->data(), n, y->data());
       }});
  add({"add" + at, 0, bytes(3 * n), [=](cpu::Stream& s) {
         k::binary(s, k::Binary::add, x->data(), d->data(),
                   {{1, 1, 1, 1, n}, {0, 0, 0, 0, 1}, {0, 0, 0, 0, 1}}, y->data());
       }});
  add({"sum_rows" + at, 0, bytes(n), [=](cpu::Stream& s) {
         k::reduce_sum(s, x->data(), {1, 1, 1, batch * 197, 3072}, {true, true, true, false, true},
                       1, y->data());
       }});
  add({"patchify" + at, 0, bytes(2 * pixels), [=](cpu::Stream& s) {
         k::patchify(s, x->data(), {batch, 3, 224, 224, 16}, y->data());
       }});
  add({"random_normal" + at, 0, bytes(pixels),
       [=](cpu::Stream& s) { k::random_normal(s, {1}, pixels, y->data()); }});
  add({"random_uniform" + at, 0, bytes(pixels),
       [=](cpu::Stream& s) { k::random_uniform(s, {1}, pixels, y->data()); }});
}

// One long-axis einsum: c[i, k] = sum_j a[i, j] b[j, k], and a vector with a matrix both ways.
void add_contractions() {
  using k::Axis;
  const auto role = [](const Axis& axis) {
    k::Contraction::Role r;
    r.axes[0] = axis;
    r.count = 1;
    return r;
  };
  const int64_t n = 197;
  const Buffer a = buffer(3072 * 768), b = buffer(3072 * 768), c = buffer(3072);
  const Buffer map = buffer(n * n);
  add({"contract_ij_jk/197", 2.0 * n * n * n, 3.0 * n * n * sizeof(real), [=](cpu::Stream& s) {
         k::contract(s, a->data(), b->data(), map->data(),
                     {{}, role({n, n, 0, n}), role({n, 0, 1, 1}), role({n, 1, n, 0})}, 1);
       }});
  const double bytes = 3072.0 * 768 * sizeof(real);
  add({"contract_vector_down/768x3072", 2.0 * 768 * 3072, bytes, [=](cpu::Stream& s) {
         k::contract(s, a->data(), b->data(), c->data(),
                     {{}, {}, role({3072, 0, 1, 1}), role({768, 1, 3072, 0})}, 1);
       }});
  add({"contract_vector_along/3072x768", 2.0 * 768 * 3072, bytes, [=](cpu::Stream& s) {
         k::contract(s, a->data(), b->data(), c->data(),
                     {{}, {}, role({3072, 0, 768, 1}), role({768, 1, 1, 0})}, 1);
       }});
}

}  // namespace
}  // namespace whence::bench

int main(int argc, char** argv) {
  using namespace whence::bench;
  benchmark::Initialize(&argc, argv);
  for (int threads : {1, 2}) {
    const Ceilings& c = ceilings(threads);
    const auto text = [](double x) { return std::to_string(int64_t(x / 1e9)); };
    benchmark::AddCustomContext(
        "ceilings of " + std::to_string(threads) + " thread(s)",
        text(c.flops) + " GFLOP/s, read " + text(c.read) + " GB/s, copy " + text(c.copy) + " GB/s");
  }
  add_products();
  for (int64_t batch : {1, 5}) {
    add_attention(batch);
    add_rows(batch);
    add_elementwise(batch);
  }
  add_contractions();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
