// Attention and its gradients with every output, in f32 and on tensor cores.
#include <cmath>

#include "kernels/attention.h"
#include "tests/simt/cases.h"

namespace whence::simt_test {
namespace {

using gpu::Stream;
using k::AttentionSize;
using ref::noise;
using ref::poison;
using ref::Reals;

struct Operands {
  Reals q, k, v, dcontext, chain_in;
  real scale;
  int64_t row;  // whose map is asked for by itself
  explicit Operands(const AttentionSize& z)
      : q(noise(z.batch * z.queries * z.heads * z.width, 1, 2)),
        k(noise(z.batch * z.keys * z.heads * z.width, 2, 2)),
        v(noise(z.batch * z.keys * z.heads * z.width, 3)),
        dcontext(noise(z.batch * z.queries * z.heads * z.width, 4)),
        chain_in(noise(z.batch * z.queries, 5)),
        scale(1 / std::sqrt(real(z.width))),
        row(z.queries - 1) {}
};

// Results one after the other in one array.
class Results {
 public:
  real* room(int64_t n) {
    parts_.emplace_back(size_t(n), poison);
    return parts_.back().data();
  }
  Reals all() const {
    Reals out;
    for (const Reals& part : parts_) append(out, part);
    return out;
  }

 private:
  std::vector<Reals> parts_;
};

Reals forward(Stream& s, const AttentionSize& z) {
  const Operands x(z);
  Results y;
  const k::AttentionCapture capture{.probs = y.room(z.batch * z.heads * z.queries * z.keys),
                                    .head_mean = y.room(z.batch * z.queries * z.keys),
                                    .row = y.room(z.batch * z.heads * z.keys),
                                    .row_index = x.row};
  k::attention(s, x.q.data(), x.k.data(), x.v.data(), z, x.scale, y.room(int64_t(x.q.size())),
               capture);
  s.synchronize();
  return y.all();
}

Reals backward(Stream& s, const AttentionSize& z) {
  const Operands x(z);
  const auto in_q = int64_t(x.q.size()), in_k = int64_t(x.k.size());
  const int64_t map = z.queries * z.keys;
  Results y;
  const k::AttentionGradients out{.dq = y.room(in_q),
                                  .dk = y.room(in_k),
                                  .dv = y.room(in_k),
                                  .dprobs = y.room(z.batch * z.heads * map),
                                  .dprobs_mean = y.room(z.batch * map),
                                  .dprobs_row = y.room(z.batch * z.heads * z.keys),
                                  .row_index = x.row,
                                  .relevance = y.room(z.batch * map),
                                  .chain_in = x.chain_in.data(),
                                  .chain_out = y.room(z.batch * z.keys)};
  k::attention_bwd(s, x.q.data(), x.k.data(), x.v.data(), x.dcontext.data(), z, x.scale, out);
  s.synchronize();
  return y.all();
}

// Single outputs, for which the kernels go other ways: dv needs no G; the chain is split into parts
// of the queries, of which the first is left out here.
enum class Only : uint8_t { head_mean, dv, chain, relevance };
Reals only(Stream& s, Only what, const AttentionSize& z) {
  Operands x(z);
  std::fill(x.chain_in.begin(), x.chain_in.begin() + std::min<int64_t>(z.queries, 64), real(0));
  Results y;
  k::AttentionCapture capture;
  k::AttentionGradients out;
  if (what == Only::head_mean) capture.head_mean = y.room(z.batch * z.queries * z.keys);
  if (what == Only::dv) out.dv = y.room(int64_t(x.k.size()));
  if (what == Only::chain) {
    out.chain_in = x.chain_in.data();
    out.chain_out = y.room(z.batch * z.keys);
  }
  if (what == Only::relevance) out.relevance = y.room(z.batch * z.queries * z.keys);
  if (what == Only::head_mean)
    k::attention(s, x.q.data(), x.k.data(), x.v.data(), z, x.scale, nullptr, capture);
  else
    k::attention_bwd(s, x.q.data(), x.k.data(), x.v.data(), x.dcontext.data(), z, x.scale, out);
  s.synchronize();
  return y.all();
}

std::string text(const AttentionSize& z) {
  return std::to_string(z.batch) + " x " + std::to_string(z.heads) + " heads, " +
         std::to_string(z.queries) + " queries, " + std::to_string(z.keys) + " keys, width " +
         std::to_string(z.width);
}

// The kernels of one precision.
struct Family {
  Precision precision;
  std::string prefix;  // of the variants
  std::string context, capture, stats, queries, keys, maps;
};
const std::string sum = " add_parts_kernel";

template <class F>
auto at(const Family& f, const AttentionSize& z, F compute) {
  return [=, precision = f.precision](Stream& s) {
    s.precision = precision;
    return compute(s, z);
  };
}

// All outputs, in both directions. The mean of a map over several heads is a sum of sums.
void add_all(const Family& f, const std::string& variant, const AttentionSize& z,
             std::vector<KernelCase>& table) {
  const std::string sums = z.heads > 1 ? sum : "";
  table.push_back({"attention", f.prefix + variant, text(z),
                   f.context + f.capture + sums + f.capture, at(f, z, forward)});
  table.push_back({"attention_bwd", f.prefix + variant, text(z),
                   f.stats + f.queries + f.keys + sum + f.maps + sums + sums + f.maps,
                   at(f, z, backward)});
}

void add_only(const Family& f, Only what, const std::string& variant, const std::string& launches,
              const AttentionSize& z, std::vector<KernelCase>& table) {
  table.push_back({what == Only::head_mean ? "attention" : "attention_bwd", f.prefix + variant,
                   text(z), launches, at(f, z, [=](Stream& s, const AttentionSize& size) {
                     return only(s, what, size);
                   })});
}

void add_single_outputs(const Family& f, const AttentionSize& z, std::vector<KernelCase>& table) {
  add_only(f, Only::dv, "dv", f.stats + f.keys, z, table);
  add_only(f, Only::chain, "chain", f.stats + f.keys + sum, z, table);
}

// So many tiles that a block adds up heads.
[[maybe_unused]] void add_head_runs(const Family& f, std::vector<KernelCase>& table) {
  const AttentionSize long_row{1, 2, 1, 32 * 64 + 1, 8};
  add_only(f, Only::head_mean, "head_run", f.context + f.capture, long_row, table);
  add_only(f, Only::relevance, "head_run", f.stats + f.maps, long_row, table);
}

}  // namespace

// Tiles are 64 x 64, and heads wider than 64 are staged in chunks.
std::vector<KernelCase> attention_cases() {
  std::vector<KernelCase> table;
  const Family plain{Precision::f32,    "",
                     " context_kernel", " capture_kernel",
                     " stats_kernel",   " queries_kernel",
                     " keys_kernel",    " maps_kernel"};
  add_all(plain, "keys", {1, 2, 5, 67, 5}, table);
  add_all(plain, "queries", {1, 2, 67, 5, 8}, table);
  add_all(plain, "wide", {2, 1, 5, 6, 67}, table);
  add_single_outputs(plain, {1, 2, 67, 5, 7}, table);
#ifndef WHENCE_F64  // which has no tensor cores
  const Family tensor{Precision::bf16,          "bf16_",
                      " tensor_context_kernel", " tensor_capture_kernel",
                      " tensor_stats_kernel",   " tensor_queries_kernel",
                      " tensor_keys_kernel",    " tensor_maps_kernel"};
  add_all(tensor, "keys", {1, 2, 5, 67, 24}, table);
  add_all(tensor, "queries", {1, 2, 67, 5, 40}, table);
  // Rows of the other side that do not fit into shared memory at a time.
  add_all(tensor, "wide_keys", {1, 1, 5, 130, 104}, table);
  add_all(tensor, "wide_queries", {1, 1, 67, 5, 72}, table);
  add_single_outputs(tensor, {1, 2, 67, 5, 8}, table);
  add_head_runs(tensor, table);
#endif
  return table;
}

}  // namespace whence::simt_test
