// Gradients of attention and the maps that explanation methods read from them.
//
// A thread takes one head of one sample at a time and goes through its query rows in blocks. For a
// block it computes P again (nothing but q, k, v is kept from the forward pass), G = dcontext v^T
// and dS, both in cache, and multiplies them with what the packed panels hold:
//   dq = dS k        rows are queries
//   dk = dS^T q      rows are keys; a block's queries continue the sums of the block before it
//   dv = P^T dcontext
// Of the five products only those are done whose result is asked for, and only the query rows that
// one of the results needs.
//
// Bytes: q, k, v, dcontext and the results once. Bound by the FMA units.
#include "kernels/cpu/attention.h"

namespace whence::k {
namespace {

using namespace cpu;

struct Backward {
  const real *q, *k, *v, *dcontext;
  const AttentionSize& z;
  real scale;
  const AttentionGradients& out;
  HeadMean &dprobs_mean, &relevance;
  real* chain;  // [B, H, N], a head's part of chain_out

  bool all_rows() const {
    return out.dq || out.dk || out.dv || out.dprobs || dprobs_mean || relevance;
  }
  bool scores() const { return out.dq || out.dk; }
  bool needs_p() const { return scores() || out.dv || relevance || chain; }
  bool needs_g() const {
    return scores() || out.dprobs || out.dprobs_row || dprobs_mean || relevance || chain;
  }
  // Does a row without weight in the chain still matter?
  bool wanted(int64_t sample, int64_t query) const {
    if (all_rows() || (out.dprobs_row && query == out.row_index)) return true;
    return chain && out.chain_in[sample * z.queries + query] != 0;
  }

  // Operands of the products, packed once for a head.
  struct Panels {
    real *keys = nullptr, *values = nullptr;  // columns are keys
    real* key_rows = nullptr;                 // sums run over keys
  };
  Panels pack_head(const Head& h) const {
    Panels panels;
    if (needs_p()) {
      panels.keys = scratch<struct Keys>(panels_count(z.keys, z.width));
      pack_panels(k + h.at_key, z.keys, z.width, h.stride, 1, panels.keys);
    }
    if (needs_g()) {
      panels.values = scratch<struct Values>(panels_count(z.keys, z.width));
      pack_panels(v + h.at_key, z.keys, z.width, h.stride, 1, panels.values);
    }
    if (out.dq) {
      panels.key_rows = scratch<struct KeyRows>(panels_count(z.width, z.keys));
      pack_panels(k + h.at_key, z.width, z.keys, 1, h.stride, panels.key_rows);
    }
    return panels;
  }

  void head(int64_t item, int64_t slot) const {
    const Head h(z, item);
    const MapSize map(z.keys);
    const Panels panels = pack_head(h);
    real* p = scratch<struct MapP>(map.block * map.stride);
    real* g = scratch<struct MapG>(map.block * map.stride);
    if (chain) std::fill_n(chain + item * z.keys, z.keys, real(0));
    for (int64_t first = 0; first < z.queries;) {
      if (!wanted(h.sample, first)) {
        ++first;
        continue;
      }
      int64_t rows = 1;
      const int64_t most = std::min(map.block, z.queries - first);
      while (rows < most && wanted(h.sample, first + rows)) ++rows;
      block(h, slot, first, rows, panels, map, p, g);
      first += rows;
    }
  }

  void block(const Head& h, int64_t slot, int64_t first, int64_t rows, const Panels& panels,
             const MapSize& map, real* p, real* g) const {
    if (needs_p()) {
      probabilities(gather<struct Queries>(q + h.at_query, h.stride, first, rows, z.width), rows,
                    panels.keys, z.width, map, scale, p);
    }
    const real* dc = dcontext + h.at_query + first * h.stride;
    if (out.dv) {
      real* packed = scratch<struct ContextRows>(panels_count(z.width, rows));
      pack_panels(dc, z.width, rows, 1, h.stride, packed);
      multiply({p, 1, map.stride}, z.keys, packed, z.width, rows, out.dv + h.at_key, h.stride,
               first > 0);
    }
    if (!needs_g()) return;
    multiply(gather<struct Contexts>(dc, h.stride, 0, rows, z.width), rows, panels.values, map.cols,
             z.width, g, map.stride, false);
    for (int64_t i = 0; i < rows; ++i) {
      maps(h, slot, first + i, p + i * map.stride, g + i * map.stride);
    }
    if (!scores()) return;
    for (int64_t i = 0; i < rows; ++i) {
      score_gradient(p + i * map.stride, g + i * map.stride, map.cols);
    }
    if (out.dq) {
      multiply({g, map.stride, 1}, rows, panels.key_rows, z.width, z.keys,
               out.dq + h.at_query + first * h.stride, h.stride, false);
    }
    if (out.dk) {
      real* packed = scratch<struct QueryRows>(panels_count(z.width, rows));
      pack_panels(q + h.at_query + first * h.stride, z.width, rows, 1, h.stride, packed);
      multiply({g, 1, map.stride}, z.keys, packed, z.width, rows, out.dk + h.at_key, h.stride,
               first > 0);
    }
  }

  // What is captured of one row of P and G.
  void maps(const Head& h, int64_t slot, int64_t query, const real* p, const real* g) const {
    const size_t bytes = size_t(z.keys) * sizeof(real);
    if (out.dprobs) std::memcpy(out.dprobs + (h.item * z.queries + query) * z.keys, g, bytes);
    if (out.dprobs_row && query == out.row_index) {
      std::memcpy(out.dprobs_row + h.item * z.keys, g, bytes);
    }
    if (dprobs_mean) dprobs_mean.put(h.item, slot, query, g);
    const real weight = chain ? out.chain_in[h.sample * z.queries + query] : real(0);
    if (weight != 0) {
      real* to = chain + h.item * z.keys;
      each_vec(z.keys, [&](int64_t j, auto n) {
        const Vec gain = Math<Vec>::positive(load(p + j, n) * load(g + j, n));
        store(to + j, fma(splat(weight), gain, load(to + j, n)), n);
      });
    }
    if (relevance) {
      real* gain = scratch<struct Gain>(z.keys);
      each_vec(z.keys, [&](int64_t j, auto n) {
        store(gain + j, Math<Vec>::positive(load(p + j, n) * load(g + j, n)), n);
      });
      relevance.put(h.item, slot, query, gain);
    }
  }

  // g becomes scale * P * (G - rowsum(P * G)).
  void score_gradient(const real* p, real* g, int64_t cols) const {
    const Vec dot = splat(row_dot(
        cols, [&](int64_t j, auto n) { return std::pair(load(p + j, n), load(g + j, n)); }));
    each_vec(cols, [&](int64_t j, auto n) {
      store(g + j, splat(scale) * (load(p + j, n) * (load(g + j, n) - dot)), n);
    });
  }
};

// chain_out[b, n] = mean over heads, added in ascending order.
void join_chain(const real* chain, const AttentionSize& z, real* chain_out) {
  for (int64_t b = 0; b < z.batch; ++b) {
    const real* parts = chain + b * z.heads * z.keys;
    each_vec(z.keys, [&](int64_t j, auto n) {
      Vec sum{};
      for (int64_t h = 0; h < z.heads; ++h) sum += load(parts + h * z.keys + j, n);
      store(chain_out + b * z.keys + j, sum * splat(1 / real(z.heads)), n);
    });
  }
}

}  // namespace

void attention_bwd(Stream& s, const real* q, const real* k, const real* v, const real* dcontext,
                   const AttentionSize& size, real scale, const AttentionGradients& out) {
  const int64_t key_elements = size.batch * size.keys * size.heads * size.width;
  if (size.queries <= 0) {
    if (out.dk) std::fill_n(out.dk, key_elements, real(0));
    if (out.dv) std::fill_n(out.dv, key_elements, real(0));
    if (out.chain_out) std::fill_n(out.chain_out, size.batch * size.keys, real(0));
    return;
  }
  if (size.keys <= 0 && out.dq) {
    std::fill_n(out.dq, size.batch * size.queries * size.heads * size.width, real(0));
  }
  if (size.batch <= 0 || size.heads <= 0 || size.keys <= 0) return;
  const Stream team = attention_stream(s, size);
  const bool summed = out.dprobs_mean || out.relevance;
  const int64_t round = summed ? team.threads : size.batch * size.heads;
  HeadMean dprobs_mean(out.dprobs_mean, size, round), relevance(out.relevance, size, round);
  real* chain =
      out.chain_out ? scratch<struct Chain>(size.batch * size.heads * size.keys) : nullptr;
  const Backward backward{q, k, v, dcontext, size, scale, out, dprobs_mean, relevance, chain};
  each_head(
      team, size, round, [&](int64_t item, int64_t slot) { backward.head(item, slot); },
      [&](int64_t first, int64_t count) {
        dprobs_mean.finish_round(team, first, count);
        relevance.finish_round(team, first, count);
      });
  if (chain) join_chain(chain, size, out.chain_out);
}

}  // namespace whence::k
