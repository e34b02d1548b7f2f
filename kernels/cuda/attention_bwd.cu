// Gradients of attention and the maps that explanation methods read from them, in tiles of 64
// queries x 64 keys (kernels/cuda/attention.cuh). P is computed again from q and k, G from dcontext
// and v, tile by tile; neither reaches memory unless it is asked for.
//
//   stats_kernel    A block owns 64 queries of a head and goes through the keys: what makes P of
//                   scores and, for dq and dk, dot = rowsum(P * G).
//   queries_kernel  A block owns 64 queries of a head: dq = sum over keys of scale dS k.
//   keys_kernel     A block owns 64 keys of a head: dk, dv, and the head's part of the chain, all
//                   summed over queries. The queries fall into at most 8 parts, each with a sum of
//                   the chain of its own, so that a chain asked for alone runs in parallel; the
//                   parts and heads are added afterwards, in order.
//   maps_kernel     A block owns 64 queries x 64 keys of one head, or of a run of heads that it
//                   adds in order: G, mean of G, relevance.
//
// Sums have a fixed order and an owner, so there are no atomics, and a result's bits do not depend
// on what else is asked for. Bytes: the operands once for every 64 rows of the other side (from L2)
// and the results. Bound by the FMA units: 2 products for the statistics, 3 for dq, 2 to 4 for dk,
// dv and the chain.
#include "kernels/cuda/attention_steps.cuh"
#include "kernels/cuda/tensor_attention.cuh"
#include "kernels/scalar.h"

namespace whence::k {
namespace {

using namespace gpu::map_tile;
using gpu::map_tile::threads;

// The operands of one head.
struct HeadOperands {
  Rows q, k, v, dcontext;
  __device__ HeadOperands(const Problem& p, int64_t item)
      : q(head_rows(p.q, p.size.queries, p.size, item)),
        k(head_rows(p.k, p.size.keys, p.size, item)),
        v(head_rows(p.v, p.size.keys, p.size, item)),
        dcontext(head_rows(p.dcontext, p.size.queries, p.size, item)) {}
};

// `weights` [B, Q] or null: tiles of queries that all have weight 0 are left out.
__global__ void __launch_bounds__(threads, 2)
    stats_kernel(Problem p, const real* weights, Kept kept) {
  real* const shared = gpu::dynamic_shared<real>();
  real *const queries = shared, *const cotangents = shared + tile_reals,
              *const rows = cotangents + tile_reals;
  const int64_t item = blockIdx.x / p.query_tiles(), query = blockIdx.x % p.query_tiles() * side;
  const int height = inside(p.size.queries, query);
  if (weights && all_zero(weights + item / p.size.heads * p.size.queries + query, height)) return;
  const HeadOperands h(p, item);
  const bool narrow = p.size.width <= side;
  RowSoftmax softmax;
  real dot[micro] = {};  // this thread's part of sum exp(scale (s - top)) G
  for (int64_t key = 0; key < p.size.keys; key += side) {
    Tile s, g;
    scores({h.q, query, queries, narrow && key > 0}, {h.k, key, rows, false}, p.quads, s);
    real decay[micro];
    softmax.add(inside(p.size.keys, key), p.scale, s, decay);
    if (!kept.dot) continue;
    scores({h.dcontext, query, cotangents, narrow && key > 0}, {h.v, key, rows, false}, p.quads, g);
    for (int i = 0; i < micro; ++i) {
      dot[i] *= decay[i];
      for (int j = 0; j < micro; ++j) dot[i] = std::fma(s[i][j], g[i][j], dot[i]);
    }
  }
  for (int i = 0; i < micro; ++i) {
    const RowStats row = softmax.finish(i);
    const real whole = join_row(dot[i], gpu::Add{}) * row.inverse;
    if (thread_x() != 0 || own_row(i) >= height) continue;
    const int64_t at = item * p.size.queries + query + own_row(i);
    kept.stats[at] = row;
    if (kept.dot) kept.dot[at] = whole;
  }
}

// g becomes scale dS = scale P * (G - dot), 0 beyond `rows`. p is 0 beyond the keys, g is finite.
__device__ void to_score_gradient(const Tile& p, const real* dot, int rows, real scale, Tile& g) {
  for (int i = 0; i < micro; ++i) {
    const real row = own_row(i) < rows ? dot[own_row(i)] : real(0);
    for (int j = 0; j < micro; ++j)
      g[i][j] = own_row(i) < rows ? scale * (p[i][j] * (g[i][j] - row)) : real(0);
  }
}

__global__ void __launch_bounds__(threads, 2) queries_kernel(Problem p, Kept kept, real* dq) {
  real* const shared = gpu::dynamic_shared<real>();
  real *const queries = shared, *const cotangents = shared + tile_reals,
              *const rows = cotangents + tile_reals, *const map = rows + tile_reals;
  const int64_t chunk = blockIdx.x % p.chunks(), tile = blockIdx.x / p.chunks();
  const int64_t item = tile / p.query_tiles(), query = tile % p.query_tiles() * side;
  const int height = inside(p.size.queries, query);
  const int64_t at = item * p.size.queries + query;
  const HeadOperands h(p, item);
  const bool narrow = p.size.width <= side;
  Tile sum = {};
  for (int64_t key = 0; key < p.size.keys; key += side) {
    const int cols = inside(p.size.keys, key);
    Tile g, s;
    scores({h.dcontext, query, cotangents, narrow && key > 0}, {h.v, key, rows, false}, p.quads, g);
    scores({h.q, query, queries, narrow && key > 0}, {h.k, key, rows, false}, p.quads, s);
    to_probabilities(kept.stats + at, height, cols, p.scale, s);
    to_score_gradient(s, kept.dot + at, height, p.scale, g);
    keep_map(g, map);
    if (!narrow) {
      __syncthreads();  // the last chunk of k has been read
      stage(h.k, key, chunk * side, p.quads, rows);
    }
    __syncthreads();
    add_map_times_rows(map, rows, height, cols, sum);
  }
  store_rows(sum, p.size.queries, query, chunk * side, p.size, item, dq);
}

// Part of a head's chain: `column` summed over the block. Barriers of `scores` lie between two
// calls.
__device__ void store_chain(const real (&column)[micro], int cols, real* to) {
  constexpr int warps = threads / gpu::warp_size;
  WHENCE_SHARED(real, partial, [warps][side]);
  const int warp = int(threadIdx.x) / gpu::warp_size;
  for (int j = 0; j < micro; ++j) {
    const real both = column[j] + __shfl_xor_sync(gpu::full_warp, column[j], across);
    if (thread_y() % 2 == 0) partial[warp][own_col(j)] = both;
  }
  __syncthreads();
  const int col = int(threadIdx.x);
  if (col >= cols) return;
  real sum = 0;
  for (int w = 0; w < warps; ++w) sum += partial[w][col];
  to[col] = sum;
}

// sum over a thread's queries of weight * max(P * G, 0); a weight of 0 leaves out even NaN
__device__ void add_chain(const Tile& p, const Tile& g, const real* weights, int rows,
                          real (&column)[micro]) {
  for (int i = 0; i < micro; ++i) {
    const real weight = own_row(i) < rows ? weights[own_row(i)] : real(0);
    if (weight == 0) continue;
    for (int j = 0; j < micro; ++j)
      column[j] = std::fma(weight, Math<real>::positive(p[i][j] * g[i][j]), column[j]);
  }
}

// The shared tiles of keys_kernel.
struct KeyTiles {
  real *keys, *values, *rows, *map;
  __device__ explicit KeyTiles(real* at)
      : keys(at), values(at + tile_reals), rows(at + 2 * tile_reals), map(at + 3 * tile_reals) {}
};

// Of 64 keys: dk and dv of 64 columns and all of the chain, or a part of the chain.
__global__ void __launch_bounds__(threads, 2)
    keys_kernel(Problem p, ChainParts parts, Kept kept, KeyResults out) {
  const KeyTiles shared(gpu::dynamic_shared<real>());
  const bool chain_alone = !out.dk && !out.dv, narrow = p.size.width <= side;
  const int64_t ways = chain_alone ? parts.count : p.chunks(), way = blockIdx.x % ways;
  const int64_t item = blockIdx.x / ways / p.key_tiles();
  const int64_t key = blockIdx.x / ways % p.key_tiles() * side;
  const int64_t column = chain_alone ? 0 : way * side, run = parts.size * side;
  const bool chain = out.weights && column == 0, with_g = out.dk || chain;
  const int cols = inside(p.size.keys, key);
  const HeadOperands h(p, item);
  const int64_t begin = chain_alone ? way * run : 0;
  const int64_t end = chain_alone ? std::min(begin + run, p.size.queries) : p.size.queries;
  const real* const weights = chain ? out.weights + item / p.size.heads * p.size.queries : nullptr;
  bool staged = false;
  real sums[micro] = {};
  Tile dk = {}, dv = {};
  for (int64_t query = begin; query < end; query += side) {
    const int height = inside(p.size.queries, query);
    const int64_t at = item * p.size.queries + query;
    if (!chain_alone || !all_zero(weights + query, height)) {
      Tile s, g;
      scores({h.q, query, shared.rows, false}, {h.k, key, shared.keys, staged}, p.quads, s);
      to_probabilities(kept.stats + at, height, cols, p.scale, s);
      if (with_g)
        scores({h.dcontext, query, shared.rows, false}, {h.v, key, shared.values, staged}, p.quads,
               g);
      staged = narrow;
      if (chain) add_chain(s, g, weights + query, height, sums);
      if (out.dv) {
        keep_map(s, shared.map);
        if (!narrow || !with_g) {
          __syncthreads();  // the rows have been read
          stage(h.dcontext, query, column, p.quads, shared.rows);
        }
        __syncthreads();
        add_map_transposed_times_rows(shared.map, shared.rows, height, cols, dv);
      }
      if (out.dk) {
        to_score_gradient(s, kept.dot + at, height, p.scale, g);
        __syncthreads();  // the map and the rows have been read
        keep_map(g, shared.map);
        stage(h.q, query, column, p.quads, shared.rows);
        __syncthreads();
        add_map_transposed_times_rows(shared.map, shared.rows, height, cols, dk);
      }
    }
    if (chain && (query + side >= end || (query + side) % run == 0)) {
      const int64_t part = item * parts.count + (chain_alone ? way : query / run);
      store_chain(sums, cols, kept.chain + part * p.size.keys + key);
      for (real& sum : sums) sum = 0;
    }
  }
  if (out.dk) store_rows(dk, p.size.keys, key, column, p.size, item, out.dk);
  if (out.dv) store_rows(dv, p.size.keys, key, column, p.size, item, out.dv);
}

__global__ void __launch_bounds__(threads, 2)
    maps_kernel(Problem p, HeadRuns runs, Kept kept, MapResults out) {
  real* const shared = gpu::dynamic_shared<real>();
  real* const rows = shared + tile_reals;
  const MapBlock block(p, runs);
  const int64_t query = block.query, key = block.key;
  Tile mean = {}, relevance = {};
  for (int64_t head = block.head; head < block.end_head; ++head) {
    const int64_t item = block.sample * p.size.heads + head;
    HeadOperands h(p, item);
    h.q.count = h.dcontext.count = p.end_query;
    Tile g, s;
    scores({h.dcontext, query, shared, false}, {h.v, key, rows, false}, p.quads, g);
    if (out.dprobs) store_map(g, 1, p, query, key, item, out.dprobs);
    for (int i = 0; i < micro; ++i)
      for (int j = 0; j < micro; ++j) mean[i][j] += g[i][j];
    if (!out.relevance) continue;
    scores({h.q, query, shared, false}, {h.k, key, rows, false}, p.quads, s);
    to_probabilities(kept.stats + item * p.size.queries + query, inside(p.end_query, query),
                     inside(p.size.keys, key), p.scale, s);
    for (int i = 0; i < micro; ++i)
      for (int j = 0; j < micro; ++j) relevance[i][j] += Math<real>::positive(s[i][j] * g[i][j]);
  }
  if (out.mean) store_map(mean, runs.factor(), p, query, key, block.run, out.mean);
  if (out.relevance) store_map(relevance, runs.factor(), p, query, key, block.run, out.relevance);
}

constexpr size_t shared_bytes(int tiles) { return size_t(tiles) * tile_reals * sizeof(real); }

struct Portable {
  gpu::Stream& s;
  const Problem& p;

  void row_stats(const real* weights, const Kept& kept) const {
    gpu::launch(s, {p.items() * p.query_tiles(), threads, shared_bytes(3)}, stats_kernel, p,
                weights, kept);
  }
  void queries(const Kept& kept, real* dq) const {
    gpu::launch(s, {p.items() * p.query_tiles() * p.chunks(), threads, shared_bytes(4)},
                queries_kernel, p, kept, dq);
  }
  void keys(const ChainParts& parts, const Kept& kept, const KeyResults& out) const {
    const int64_t ways = out.dk || out.dv ? p.chunks() : parts.count;
    gpu::launch(s, {p.items() * p.key_tiles() * ways, threads, shared_bytes(4)}, keys_kernel, p,
                parts, kept, out);
  }
  void maps(const Problem& of, const HeadRuns& runs, const Kept& kept,
            const MapResults& out) const {
    gpu::launch(s, {map_blocks(of, runs), threads, shared_bytes(2)}, maps_kernel, of, runs, kept,
                out);
  }
};

}  // namespace

void attention_bwd(gpu::Stream& s, const real* q, const real* k, const real* v,
                   const real* dcontext, const AttentionSize& z, real scale,
                   const AttentionGradients& out) {
  if (z.batch <= 0 || z.heads <= 0) return;
  if (attention_on_tensor_cores(s.precision, z.width))
    return tensor_attention_bwd(s, q, k, v, dcontext, z, scale, out);
  const Problem p(q, k, v, dcontext, z, scale);
  run_attention_bwd(s, p, out, Portable{s, p});
}

}  // namespace whence::k
