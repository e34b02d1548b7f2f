// Gradients of attention and the chain on tensor cores (kernels/cuda/tensor_attention.cuh),
// mma.sync of compute capability 8.0 and later. P is computed again from q and k, G from dcontext
// and v, piece by piece; neither reaches memory. Factors of products are rounded to bf16: q, k, v,
// dcontext, P for dv, P * (G - dot) for dq and dk. All else is f32, P * G of the chain included.
//
//   stats_kernel    a block owns tiles of 64 queries of a head and goes through the keys: what
//                   makes P of scores and, for dq and dk, dot = rowsum(P * G).
//   queries_kernel  a block owns tiles of 64 queries of a head, a warp 16 of each:
//                   dq = scale sum over keys of P * (G - dot) k.
//   keys_kernel     a block owns tiles of 64 keys of a head, a warp 16 rows of each with all of
//                   dk and dv. Maps are transposed here, keys along the rows: columns of the
//                   chain are sums within a thread. The queries fall into at most 8 parts, each
//                   of which has its own sum of the chain, so that a chain asked for alone runs
//                   in parallel.
//
// Sums have a fixed order and an owner, so there are no atomics, and a result's bits do not depend
// on what else is asked for. Bytes: of the owned side the operands and results once, of the other
// side the operands once for each block (f32, from L2). Bound by bringing them in, for many tiles
// to a block by the tensor cores.
#include "kernels/cuda/attention_steps.cuh"
#include "kernels/cuda/tensor_attention.cuh"
#include "kernels/scalar.h"

#ifndef WHENCE_F64

namespace whence::k {
namespace {

using namespace gpu::tensor_tile;
using gpu::Bf16;
using gpu::map_tile::all_zero;
using gpu::map_tile::ChainParts;
using gpu::map_tile::Kept;
using gpu::map_tile::KeyResults;
using gpu::map_tile::MapResults;

// `weights` [B, Q] or null: tiles of queries that all have weight 0 are left out.
template <int width>
__global__ void __launch_bounds__(threads, width <= 64 ? 3 : 2)
    tensor_stats_kernel(Problem p, Walk walk, const real* weights, Kept kept) {
  const int64_t tiles = p.query_tiles(), ways = gpu::pieces(tiles, walk.run);
  const int64_t item = blockIdx.x / ways, first = blockIdx.x % ways * walk.run;
  const bool with_dot = kept.dot;
  const float factor = to_exponents(p.scale);
  Sides<width> sides(key_rows(p, p.k, item), with_dot ? key_rows(p, p.v, item) : Rows{}, p.quads,
                     walk.whole, gpu::dynamic_shared<Bf16>());
  WHENCE_UNROLL(1)
  for (int64_t tile = first; tile < std::min(first + walk.run, tiles); ++tile) {
    const int64_t query = tile * side;
    const int height = inside(p.size.queries, query);
    if (weights && all_zero(weights + item / p.size.heads * p.size.queries + query, height))
      continue;
    Left<width, true> queries, cotangents;
    queries.read(query_rows(p, p.q, item), query, p.quads);
    if (with_dot) cotangents.read(query_rows(p, p.dcontext, item), query, p.quads);
    RowSoftmax softmax;
    float dot[2] = {};  // this thread's part of sum exp(scale (s - top)) G
    for (int64_t key = 0; key < p.size.keys; key += side) {
      const int cols = inside(p.size.keys, key);
      sides.bring(key);
      if (warp_row() >= height) continue;
      Piece s[steps] = {};
      for (int i = 0; i < steps; ++i)
        if (i * step < cols) scores(queries, sides.a(), i * step, s[i]);
      float decay[2];
      softmax.add(cols, factor, s, decay);
      if (!with_dot) continue;
      for (int h = 0; h < 2; ++h) dot[h] *= decay[h];
      for (int i = 0; i < steps; ++i) {
        if (i * step >= cols) continue;
        Piece g;
        scores(cotangents, sides.b(), i * step, g);
        for (int b = 0; b < 2; ++b)
          for (int e = 0; e < 4; ++e) dot[e / 2] = std::fma(s[i][b][e], g[b][e], dot[e / 2]);
      }
    }
    for (int h = 0; h < 2; ++h) {
      const RowStats row = softmax.finish(h);
      const float whole = join_lanes(dot[h], gpu::Add{}) * row.inverse;
      if (lane() % 4 != 0 || own_row(h) >= height) continue;
      const int64_t at = item * p.size.queries + query + own_row(h);
      kept.stats[at] = row;
      if (with_dot) kept.dot[at] = whole;
    }
  }
}

template <int width>
__global__ void __launch_bounds__(threads, width <= 64 ? 3 : 2)
    tensor_queries_kernel(Problem p, Walk walk, Kept kept, real* dq) {
  const int64_t tiles = p.query_tiles(), ways = gpu::pieces(tiles, walk.run);
  const int64_t item = blockIdx.x / ways, begin = blockIdx.x % ways * walk.run;
  const float factor = to_exponents(p.scale);
  Sides<width> sides(key_rows(p, p.k, item), key_rows(p, p.v, item), p.quads, walk.whole,
                     gpu::dynamic_shared<Bf16>());
  WHENCE_UNROLL(1)
  for (int64_t tile = begin; tile < std::min(begin + walk.run, tiles); ++tile) {
    const int64_t query = tile * side, at = item * p.size.queries + query;
    const int height = inside(p.size.queries, query);
    Left<width, true> queries, cotangents;
    queries.read(query_rows(p, p.q, item), query, p.quads);
    cotangents.read(query_rows(p, p.dcontext, item), query, p.quads);
    RowStats rows[2] = {};
    load_stats(kept.stats + at, height, rows);
    float dot[2];
    for (int h = 0; h < 2; ++h) dot[h] = own_row(h) < height ? kept.dot[at + own_row(h)] : 0.f;
    Sums<width> sum = {};
    for (int64_t key = 0; key < p.size.keys; key += side) {
      const int cols = inside(p.size.keys, key);
      sides.bring(key);
      WHENCE_UNROLL(1)
      for (int first = 0; first < cols && warp_row() < height; first += step) {
        Piece s, g;
        scores(queries, sides.a(), first, s);
        scores(cotangents, sides.b(), first, g);
        to_probabilities(rows, first, cols, factor, s);
        for (int b = 0; b < 2; ++b)
          for (int e = 0; e < 4; ++e) s[b][e] *= g[b][e] - dot[e / 2];
        add_map_times_rows<width>(s, sides.a(), first, sum);
      }
    }
    const float scale[2] = {p.scale, p.scale};
    store_rows<width>(sum, scale, p.size.queries, query, p.size, item, dq);
  }
}

// What a column of a transposed map needs of its query. Zeros where there is no query: P is 0.
struct alignas(16) Query {
  float top, inverse, dot, weight;
};

// x becomes P of a transposed piece whose columns are `queries`.
__device__ void to_probabilities_by_column(const Query* queries, int first, float factor,
                                           Piece& x) {
  for (int b = 0; b < 2; ++b)
    for (int e = 0; e < 2; ++e) {
      const Query& q = queries[own_col(first, b, e)];
      for (int h = 0; h < 2; ++h)
        x[b][2 * h + e] = probability({q.top, q.inverse}, x[b][2 * h + e], factor);
    }
}

// sum over a thread's queries of weight * max(P * G, 0); a weight of 0 leaves out even NaN
__device__ void add_chain(const Query* queries, int first, const Piece& p, const Piece& g,
                          float (&chain)[2]) {
  for (int b = 0; b < 2; ++b)
    for (int e = 0; e < 2; ++e) {
      const float weight = queries[own_col(first, b, e)].weight;
      if (weight == 0) continue;
      for (int h = 0; h < 2; ++h)
        chain[h] =
            std::fma(weight, Math<real>::positive(p[b][2 * h + e] * g[b][2 * h + e]), chain[h]);
    }
}

// Of the queries of half the tiles: two operands.
constexpr size_t columns_bytes(int tiles) { return size_t(tiles / 2 * side) * sizeof(Query); }

// Brings the columns of 64 queries to shared memory.
struct FillColumns {
  const Problem& p;
  const Kept& kept;
  const real* weights;  // of the sample, or null
  int64_t item;
  Query* columns;
  __device__ void operator()(int64_t first, int64_t to) const {
    const auto c = int(threadIdx.x);
    if (c >= side) return;
    Query column{};
    if (first + c < p.size.queries) {
      const int64_t at = item * p.size.queries + first + c;
      column = {kept.stats[at].top, kept.stats[at].inverse, kept.dot ? kept.dot[at] : 0.f,
                weights ? weights[first + c] : 0.f};
    }
    columns[to + c] = column;
  }
};

// What a warp knows of its 16 keys.
template <int width, bool chain_alone>
struct KeyTile {
  Left<width, (chain_alone || left_is_held<width>)> k, v;
  Sums<width> dk = {}, dv = {};
  float chain[2] = {};

  // What the current 64 queries of `sides` give.
  __device__ void add(const Sides<width>& sides, const Query* columns, int cols, float factor,
                      const KeyResults& out) {
    WHENCE_UNROLL(1)
    for (int first = 0; first < cols; first += step) {
      Piece s, g;
      scores(k, sides.a(), first, s);
      scores(v, sides.b(), first, g);
      to_probabilities_by_column(columns, first, factor, s);
      if (out.weights) add_chain(columns, first, s, g, chain);
      if constexpr (!chain_alone) {
        if (out.dv) add_map_times_rows<width>(s, sides.b(), first, dv);
        if (!out.dk) continue;
        for (int b = 0; b < 2; ++b)
          for (int e = 0; e < 4; ++e) s[b][e] *= g[b][e] - columns[own_col(first, b, e)].dot;
        add_map_times_rows<width>(s, sides.a(), first, dk);
      }
    }
  }
  __device__ void finish_chain(int height, real* to) {
    for (int h = 0; h < 2; ++h) {
      const float whole = join_lanes(chain[h], gpu::Add{});
      if (lane() % 4 == 0 && own_row(h) < height) to[own_row(h)] = whole;
      chain[h] = 0;
    }
  }
};

// Of 64 keys: dk, dv and all of the chain, or a part of the chain.
template <int width, bool chain_alone>
__global__ void __launch_bounds__(threads, chain_alone&& width <= 64 ? 3 : 2)
    tensor_keys_kernel(Problem p, Walk walk, ChainParts parts, Kept kept, KeyResults out) {
  constexpr bool held = chain_alone || left_is_held<width>;
  const int64_t tiles = p.key_tiles(), ways = gpu::pieces(tiles, walk.run);
  const int64_t splits = chain_alone ? parts.count : 1, split = blockIdx.x % splits;
  const int64_t item = blockIdx.x / splits / ways, own = blockIdx.x / splits % ways * walk.run;
  const int64_t part = parts.size * side, begin = chain_alone ? split * part : 0;
  const int64_t end = chain_alone ? std::min(begin + part, p.size.queries) : p.size.queries;
  const real* const weights =
      out.weights ? out.weights + item / p.size.heads * p.size.queries : nullptr;
  Bf16* const shared = gpu::dynamic_shared<Bf16>();
  Bf16* const keys = shared + walk.tiles(p.size.queries) * tile_elements<width>;
  Query* const columns = reinterpret_cast<Query*>(keys + (held ? 0 : 2) * tile_elements<width>);
  Sides<width> sides(query_rows(p, p.q, item), query_rows(p, p.dcontext, item), p.quads, walk.whole,
                     shared);
  WHENCE_UNROLL(1)
  for (int64_t tile = own; tile < std::min(own + walk.run, tiles); ++tile) {
    const int64_t key = tile * side;
    const int height = inside(p.size.keys, key);
    const bool idle = warp_row() >= height;
    KeyTile<width, chain_alone> mine;
    if constexpr (held) {
      mine.k.read(key_rows(p, p.k, item), key, p.quads);
      mine.v.read(key_rows(p, p.v, item), key, p.quads);
    } else {  // a run is one tile: the first barrier is that of the first queries
      stage<width>(key_rows(p, p.k, item), key, p.quads, keys);
      stage<width>(key_rows(p, p.v, item), key, p.quads, keys + tile_elements<width>);
      mine.k.keep(keys);
      mine.v.keep(keys + tile_elements<width>);
    }
    for (int64_t query = begin; query < end; query += side) {
      const int cols = inside(p.size.queries, query);
      if (!chain_alone || !all_zero(weights + query, cols)) {
        sides.bring(query, FillColumns{p, kept, weights, item, columns});
        if (!idle) mine.add(sides, columns + sides.at(), cols, to_exponents(p.scale), out);
      }
      if (weights && (query + side >= end || (query + side) % part == 0))
        mine.finish_chain(height,
                          kept.chain + key + (item * parts.count + query / part) * p.size.keys);
    }
    if constexpr (!chain_alone) {
      const float scale[2] = {p.scale, p.scale}, one[2] = {1, 1};
      if (out.dk) store_rows<width>(mine.dk, scale, p.size.keys, key, p.size, item, out.dk);
      if (out.dv) store_rows<width>(mine.dv, one, p.size.keys, key, p.size, item, out.dv);
    }
  }
}

template <int width>
struct OnTensorCores {
  gpu::Stream& s;
  const Problem& p;
  Walk over_keys = Walk::of<width>(p.items(), p.query_tiles(), p.size.keys);

  void run(int64_t blocks, size_t bytes, auto kernel, const auto&... args) const {
    gpu::launch(s, {blocks, threads, bytes, "attention_bwd"}, kernel, p, args...);
  }
  size_t keys_bytes() const { return shared_bytes<width>(over_keys.tiles(p.size.keys)); }
  int64_t query_blocks() const { return over_keys.blocks(p.items(), p.query_tiles()); }

  // Tiles that `weights` leave out leave nothing to share between tiles.
  void row_stats(const real* weights, const Kept& kept) const {
    if (weights)
      run(p.items() * p.query_tiles(), shared_bytes<width>(2), tensor_stats_kernel<width>, by_tile,
          weights, kept);
    else
      run(query_blocks(), keys_bytes(), tensor_stats_kernel<width>, over_keys, weights, kept);
  }
  void queries(const Kept& kept, real* dq) const {
    run(query_blocks(), keys_bytes(), tensor_queries_kernel<width>, over_keys, kept, dq);
  }
  void keys(const ChainParts& parts, const Kept& kept, const KeyResults& out) const {
    if (!out.dk && !out.dv) {
      run(p.items() * p.key_tiles() * parts.count, shared_bytes<width>(2) + columns_bytes(2),
          tensor_keys_kernel<width, true>, by_tile, parts, kept, out);
      return;
    }
    constexpr bool held = left_is_held<width>;
    const Walk walk = held ? Walk::of<width>(p.items(), p.key_tiles(), p.size.queries) : by_tile;
    const int tiles = walk.tiles(p.size.queries);
    run(walk.blocks(p.items(), p.key_tiles()),
        shared_bytes<width>(tiles + (held ? 0 : 2)) + columns_bytes(tiles),
        tensor_keys_kernel<width, false>, walk, parts, kept, out);
  }
  void maps(const Problem& of, const HeadRuns& runs, const Kept& kept,
            const MapResults& out) const {
    tensor_attention_maps(s, of, runs, kept.stats, out);
  }

  static constexpr Walk by_tile{1, false};
};

}  // namespace

void tensor_attention_bwd(gpu::Stream& s, const real* q, const real* k, const real* v,
                          const real* dcontext, const AttentionSize& z, real scale,
                          const AttentionGradients& out) {
  const Problem p(q, k, v, dcontext, z, scale);
  with_width(z.width, [&](auto w) {
    gpu::map_tile::run_attention_bwd(s, p, out, OnTensorCores<decltype(w)::width>{s, p});
  });
}

}  // namespace whence::k

#endif
