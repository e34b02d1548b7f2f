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

// What a thread needs for a head.
struct Parts {
  Layout layout;
  int64_t keys, values, key_rows;    // panels of the head
  int64_t p, g;                      // blocks of the maps
  int64_t queries, contexts;         // a block's rows, close together
  int64_t query_rows, context_rows;  // and as panels
  int64_t gain;                      // a row
  Parts(const AttentionSize& z, const MapSize& map)
      : keys(layout.add(panels_count(z.keys, z.width))),
        values(layout.add(panels_count(z.keys, z.width))),
        key_rows(layout.add(panels_count(z.width, z.keys))),
        p(layout.add(map.block * map.stride)),
        g(layout.add(map.block * map.stride)),
        queries(layout.add(map.block * z.width)),
        contexts(layout.add(map.block * z.width)),
        query_rows(layout.add(panels_count(z.width, map.block))),
        context_rows(layout.add(panels_count(z.width, map.block))),
        gain(layout.add(z.keys)) {}
};

struct Backward {
  const real *q, *k, *v, *dcontext;
  const AttentionSize& z;
  real scale;
  const AttentionGradients& out;
  HeadMean &dprobs_mean, &relevance;
  real* chain;  // [B, H, N], a head's part of chain_out
  const MapSize& map;
  const Parts& parts;

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

  // Operands of the products, packed once for a head: columns are keys, or sums run over them.
  void pack_head(const Head& h, real* scratch) const {
    if (needs_p()) pack_panels(k + h.at_key, z.keys, z.width, h.stride, 1, scratch + parts.keys);
    if (needs_g()) pack_panels(v + h.at_key, z.keys, z.width, h.stride, 1, scratch + parts.values);
    if (out.dq) pack_panels(k + h.at_key, z.width, z.keys, 1, h.stride, scratch + parts.key_rows);
  }

  void head(int64_t item, int64_t slot, real* scratch) const {
    const Head h(z, item);
    pack_head(h, scratch);
    if (chain) std::fill_n(chain + item * z.keys, z.keys, real(0));
    for (int64_t first = 0; first < z.queries;) {
      if (!wanted(h.sample, first)) {
        ++first;
        continue;
      }
      int64_t rows = 1;
      const int64_t most = std::min(map.block, z.queries - first);
      while (rows < most && wanted(h.sample, first + rows)) ++rows;
      block(h, slot, first, rows, scratch);
      first += rows;
    }
  }

  void block(const Head& h, int64_t slot, int64_t first, int64_t rows, real* scratch) const {
    real *p = scratch + parts.p, *g = scratch + parts.g;
    if (needs_p()) {
      const Left queries =
          gather(q + h.at_query, h.stride, first, rows, z.width, scratch + parts.queries);
      probabilities(queries, rows, scratch + parts.keys, z.width, map, scale, p);
    }
    const real* dc = dcontext + h.at_query + first * h.stride;
    if (out.dv) {
      real* packed = scratch + parts.context_rows;
      pack_panels(dc, z.width, rows, 1, h.stride, packed);
      multiply({p, 1, map.stride}, z.keys, packed, z.width, rows, out.dv + h.at_key, h.stride,
               first > 0);
    }
    if (!needs_g()) return;
    multiply(gather(dc, h.stride, 0, rows, z.width, scratch + parts.contexts), rows,
             scratch + parts.values, map.cols, z.width, g, map.stride, false);
    for (int64_t i = 0; i < rows; ++i) {
      maps(h, slot, first + i, p + i * map.stride, g + i * map.stride, scratch + parts.gain);
    }
    if (!scores()) return;
    for (int64_t i = 0; i < rows; ++i) {
      score_gradient(p + i * map.stride, g + i * map.stride, map.cols);
    }
    if (out.dq) {
      multiply({g, map.stride, 1}, rows, scratch + parts.key_rows, z.width, z.keys,
               out.dq + h.at_query + first * h.stride, h.stride, false);
    }
    if (out.dk) {
      real* packed = scratch + parts.query_rows;
      pack_panels(q + h.at_query + first * h.stride, z.width, rows, 1, h.stride, packed);
      multiply({g, 1, map.stride}, z.keys, packed, z.width, rows, out.dk + h.at_key, h.stride,
               first > 0);
    }
  }

  // What is captured of one row of P and G.
  void maps(const Head& h, int64_t slot, int64_t query, const real* p, const real* g,
            real* gain) const {
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
        const Vec gained = Math<Vec>::positive(load(p + j, n) * load(g + j, n));
        store(to + j, fma(splat(weight), gained, load(to + j, n)), n);
      });
    }
    if (relevance) {
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
  if (s.asking() && (size.queries <= 0 || size.keys <= 0)) return;
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
  HeadMean dprobs_mean(s, out.dprobs_mean, size, round), relevance(s, out.relevance, size, round);
  const int64_t items = size.batch * size.heads;
  const Scratch<real> chains(s, 1, out.chain_out ? items * size.keys : 0);
  real* chain = out.chain_out ? chains.of(0) : nullptr;
  const MapSize map(size.keys);
  const Parts parts(size, map);
  const Scratch<real> scratch(s, workers(team, std::min(round, items)), parts.layout.total());
  const Backward backward{q,   k,           v,         dcontext, size, scale,
                          out, dprobs_mean, relevance, chain,    map,  parts};
  each_head(
      team, size, round,
      [&](int64_t item, int64_t slot, int64_t worker) {
        backward.head(item, slot, scratch.of(worker));
      },
      [&](int64_t first, int64_t count) {
        dprobs_mean.finish_round(team, first, count);
        relevance.finish_round(team, first, count);
      });
  if (chain && !s.asking()) join_chain(chain, size, out.chain_out);
}

}  // namespace whence::k
