// Gradients of attention and the maps that explanation methods read from them, on tensor cores
// (kernels/cuda/tensor_attention.cuh), mma.sync of compute capability 8.0 and later. P is computed
// again from q and k, G from dcontext and v, piece by piece; neither reaches memory unless it is
// asked for. Factors of products are rounded to bf16: q, k, v, dcontext, P for dv, P * (G - dot) for
// dq and dk. Everything else, G of the captures and P * G of the relevance included, is f32.
//
//   stats_kernel    a block owns 64 queries of a head and goes through the keys: what makes P of
//                   scores and, for dq and dk, dot = rowsum(P * G).
//   queries_kernel  a block owns 64 queries of a head, a warp 16: dq = scale sum over keys of
//                   P * (G - dot) k.
//   keys_kernel     a block owns 64 keys of a head, a warp 16 with all their columns of dk and dv.
//                   Maps are transposed here, keys along the rows: columns of the chain are sums
//                   within a thread. The queries fall into at most 8 parts, each of which has its
//                   own sum of the chain, so that a chain asked for alone runs in parallel.
//   maps_kernel     a block owns a tile of a run of heads in order: G, sums of G and of relevance.
//
// Sums have a fixed order and an owner, so there are no atomics, and a result's bits do not depend
// on what else is asked for. Bytes: the operands once for every 64 rows of the other side (f32, from
// L2) and the results. Bound by bringing them into shared memory.
#include "kernels/cuda/tensor_attention.cuh"
#include "kernels/scalar.h"

#ifndef WHENCE_F64

namespace whence::k {
namespace {

using namespace gpu::tensor_tile;
using gpu::Bf16;

constexpr int64_t most_chain_parts = 8;

// Which query tiles belong to part i of the chain: [i size, (i + 1) size).
struct ChainParts {
  int64_t size, count;
  explicit ChainParts(int64_t query_tiles)
      : size(std::max<int64_t>(1, gpu::pieces(query_tiles, most_chain_parts))),
        count(gpu::pieces(query_tiles, size)) {}
};

// What is left of the rows in device scratch: P's statistics, dot, the chain's parts.
struct Kept {
  RowStats* stats;  // [B, H, Q]
  real* dot;        // [B, H, Q]         rowsum(P * G), or null
  real* chain;      // [B, H, parts, N]  or null
};

// Does no query of the tile that starts at `weights` take part in the chain?
__device__ bool all_zero(const real* weights, int count) {
  bool zero = true;
  for (int i = 0; i < count; ++i) zero = zero && weights[i] == 0;
  return zero;
}

__device__ Rows query_rows(const Problem& p, const real* operand, int64_t item) {
  Rows rows = head_rows(operand, p.size.queries, p.size, item);
  rows.count = p.end_query;
  return rows;
}
__device__ Rows key_rows(const Problem& p, const real* operand, int64_t item) {
  return head_rows(operand, p.size.keys, p.size, item);
}

// The warp's rows of two operands as left operands, through the shared tiles.
template <int width, bool held>
struct LeftPair {
  Left<width, held> a, b;
  __device__ void load(const Rows& x, const Rows& y, int64_t first, bool quads, Bf16* tile_a,
                       Bf16* tile_b) {
    __syncthreads();  // the tiles have been read
    stage<width>(x, first, quads, tile_a);
    stage<width>(y, first, quads, tile_b);
    __syncthreads();
    a.load(tile_a);
    b.load(tile_b);
  }
};

// `weights` [B, Q] or null: tiles of queries that all have weight 0 are left out.
template <int width>
__global__ void __launch_bounds__(threads, width <= 64 ? 3 : 2)
    tensor_stats_kernel(Problem p, const real* weights, Kept kept) {
  Bf16* const keys = gpu::dynamic_shared<Bf16>();
  Bf16* const values = keys + tile_elements<width>;
  const int64_t item = blockIdx.x / p.query_tiles(), query = blockIdx.x % p.query_tiles() * side;
  const int height = inside(p.size.queries, query);
  if (weights && all_zero(weights + item / p.size.heads * p.size.queries + query, height)) return;
  const float factor = to_exponents(p.scale);
  LeftPair<width, true> left;
  left.load(query_rows(p, p.q, item), query_rows(p, p.dcontext, item), query, p.quads, keys,
            values);
  RowSoftmax softmax;
  float dot[2] = {};  // this thread's part of sum exp(scale (s - top)) G
  for (int64_t key = 0; key < p.size.keys; key += side) {
    const int cols = inside(p.size.keys, key);
    __syncthreads();  // the tiles have been read
    stage<width>(key_rows(p, p.k, item), key, p.quads, keys);
    if (kept.dot) stage<width>(key_rows(p, p.v, item), key, p.quads, values);
    __syncthreads();
    if (warp_row() >= height) continue;
    Piece s[steps] = {};
    for (int i = 0; i < steps; ++i)
      if (i * step < cols) scores(left.a, keys, i * step, s[i]);
    float decay[2];
    softmax.add(cols, factor, s, decay);
    if (!kept.dot) continue;
    for (int h = 0; h < 2; ++h) dot[h] *= decay[h];
    for (int i = 0; i < steps; ++i) {
      if (i * step >= cols) continue;
      Piece g;
      scores(left.b, values, i * step, g);
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
    if (kept.dot) kept.dot[at] = whole;
  }
}

template <int width>
__global__ void __launch_bounds__(threads, width <= 64 ? 3 : 2)
    tensor_queries_kernel(Problem p, Kept kept, real* dq) {
  Bf16* const keys = gpu::dynamic_shared<Bf16>();
  Bf16* const values = keys + tile_elements<width>;
  const int64_t item = blockIdx.x / p.query_tiles(), query = blockIdx.x % p.query_tiles() * side;
  const int height = inside(p.size.queries, query);
  const int64_t at = item * p.size.queries + query;
  const float factor = to_exponents(p.scale);
  LeftPair<width, true> left;
  left.load(query_rows(p, p.q, item), query_rows(p, p.dcontext, item), query, p.quads, keys,
            values);
  RowStats rows[2];
  load_stats(kept.stats + at, height, rows);
  float dot[2];
  for (int h = 0; h < 2; ++h) dot[h] = own_row(h) < height ? kept.dot[at + own_row(h)] : 0.f;
  Sums<width> sum = {};
  for (int64_t key = 0; key < p.size.keys; key += side) {
    const int cols = inside(p.size.keys, key);
    __syncthreads();  // the tiles have been read
    stage<width>(key_rows(p, p.k, item), key, p.quads, keys);
    stage<width>(key_rows(p, p.v, item), key, p.quads, values);
    __syncthreads();
    if (warp_row() >= height) continue;
    WHENCE_UNROLL(1)
    for (int first = 0; first < cols; first += step) {
      Piece s, g;
      scores(left.a, keys, first, s);
      scores(left.b, values, first, g);
      to_probabilities(rows, first, cols, factor, s);
      for (int b = 0; b < 2; ++b)
        for (int e = 0; e < 4; ++e) s[b][e] *= g[b][e] - dot[e / 2];
      add_map_times_rows<width>(s, keys, first, sum);
    }
  }
  const float scale[2] = {p.scale, p.scale};
  store_rows<width>(sum, scale, p.size.queries, query, p.size, item, dq);
}

// What keys_kernel is asked for; null is not.
struct KeyResults {
  real *dk, *dv;
  const real* weights;  // chain_in
};

// What a column of a transposed map needs of its query. Zeros where there is no query: P is 0.
struct alignas(16) Query {
  float top, inverse, dot, weight;
};

// This thread's part of the keys' columns: P of a piece, its part of the chain, then dv and dk.
template <int width>
struct KeySums {
  Sums<width> dk, dv;
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
        chain[h] = std::fma(weight, Math<real>::positive(p[b][2 * h + e] * g[b][2 * h + e]),
                            chain[h]);
    }
}

// Do the keys and values stay in registers, beside the sums? Else they have shared tiles.
template <int width, bool chain_alone>
constexpr bool left_is_held = chain_alone || width <= 64;

// Of 64 keys: dk, dv and all of the chain, or a part of the chain.
template <int width, bool chain_alone>
__global__ void __launch_bounds__(threads, chain_alone && width <= 64 ? 3 : 2)
    tensor_keys_kernel(Problem p, ChainParts parts, Kept kept, KeyResults out) {
  constexpr bool held = left_is_held<width, chain_alone>;
  Bf16* const queries = gpu::dynamic_shared<Bf16>();
  Bf16* const cotangents = queries + tile_elements<width>;
  Bf16* const keys = held ? queries : cotangents + tile_elements<width>;
  WHENCE_SHARED(Query, columns, [side]);
  const int64_t ways = chain_alone ? parts.count : 1, way = blockIdx.x % ways;
  const int64_t item = blockIdx.x / ways / p.key_tiles();
  const int64_t key = blockIdx.x / ways % p.key_tiles() * side, run = parts.size * side;
  const int height = inside(p.size.keys, key);
  const int64_t begin = chain_alone ? way * run : 0;
  const int64_t end = chain_alone ? std::min(begin + run, p.size.queries) : p.size.queries;
  const real* const weights =
      out.weights ? out.weights + item / p.size.heads * p.size.queries : nullptr;
  const float factor = to_exponents(p.scale);
  LeftPair<width, held> left;
  left.load(key_rows(p, p.k, item), key_rows(p, p.v, item), key, p.quads, keys,
            keys + tile_elements<width>);
  float chain[2] = {};
  [[maybe_unused]] KeySums<width> sums = {};
  for (int64_t query = begin; query < end; query += side) {
    const int cols = inside(p.size.queries, query);
    if (!chain_alone || !all_zero(weights + query, cols)) {
      __syncthreads();  // the tiles have been read
      stage<width>(query_rows(p, p.q, item), query, p.quads, queries);
      stage<width>(query_rows(p, p.dcontext, item), query, p.quads, cotangents);
      if (const auto c = int(threadIdx.x); c < side) {
        const int64_t at = item * p.size.queries + query + c;
        Query column{};
        if (c < cols)
          column = {kept.stats[at].top, kept.stats[at].inverse, kept.dot ? kept.dot[at] : 0.f,
                    weights ? weights[query + c] : 0.f};
        columns[c] = column;
      }
      __syncthreads();
      WHENCE_UNROLL(1)
      for (int first = 0; first < cols && warp_row() < height; first += step) {
        Piece s, g;
        scores(left.a, queries, first, s);
        scores(left.b, cotangents, first, g);
        to_probabilities_by_column(columns, first, factor, s);
        if (weights) add_chain(columns, first, s, g, chain);
        if constexpr (!chain_alone) {
          if (out.dv) add_map_times_rows<width>(s, cotangents, first, sums.dv);
          for (int b = 0; b < 2; ++b)
            for (int e = 0; e < 4; ++e)
              s[b][e] *= g[b][e] - columns[own_col(first, b, e)].dot;
          if (out.dk) add_map_times_rows<width>(s, queries, first, sums.dk);
        }
      }
    }
    if (weights && (query + side >= end || (query + side) % run == 0)) {
      real* const to =
          kept.chain + (item * parts.count + (chain_alone ? way : query / run)) * p.size.keys + key;
      for (int h = 0; h < 2; ++h) {
        const float whole = join_lanes(chain[h], gpu::Add{});
        if (lane() % 4 == 0 && own_row(h) < height) to[own_row(h)] = whole;
        chain[h] = 0;
      }
    }
  }
  if constexpr (!chain_alone) {
    const float scale[2] = {p.scale, p.scale}, one[2] = {1, 1};
    if (out.dk) store_rows<width>(sums.dk, scale, p.size.keys, key, p.size, item, out.dk);
    if (out.dv) store_rows<width>(sums.dv, one, p.size.keys, key, p.size, item, out.dv);
  }
}

// G [B, H, ...] and the sums over runs of heads [B, runs, ...] of G and max(P * G, 0); null: not
// asked for.
struct MapResults {
  real *dprobs, *mean, *relevance;
};

template <int width>
__global__ void __launch_bounds__(threads, 2)
    tensor_maps_kernel(Problem p, HeadRuns runs, Kept kept, MapResults out) {
  Bf16* const rows_of_queries = gpu::dynamic_shared<Bf16>();
  Bf16* const rows_of_keys = rows_of_queries + tile_elements<width>;
  const MapBlock block(p, runs);
  const int64_t query = block.query, key = block.key;
  const int height = inside(p.end_query, query), cols = inside(p.size.keys, key);
  const bool idle = warp_row() >= height;
  const float factor = to_exponents(p.scale);
  Piece mean[steps] = {}, relevance[steps] = {};
  for (int64_t head = block.head; head < block.end_head; ++head) {
    const int64_t item = block.sample * p.size.heads + head;
    Left<width, true> left;
    Piece g[steps] = {};
    __syncthreads();  // the tiles have been read
    stage<width>(query_rows(p, p.dcontext, item), query, p.quads, rows_of_queries);
    stage<width>(key_rows(p, p.v, item), key, p.quads, rows_of_keys);
    __syncthreads();
    left.load(rows_of_queries);
    for (int i = 0; i < steps; ++i) {
      if (i * step >= cols || idle) continue;
      scores(left, rows_of_keys, i * step, g[i]);
      if (out.dprobs) store_map(g[i], 1, p, query, key, i * step, item, out.dprobs);
      for (int b = 0; b < 2; ++b)
        for (int e = 0; e < 4; ++e) mean[i][b][e] += g[i][b][e];
    }
    if (!out.relevance) continue;
    __syncthreads();  // the tiles have been read
    stage<width>(query_rows(p, p.q, item), query, p.quads, rows_of_queries);
    stage<width>(key_rows(p, p.k, item), key, p.quads, rows_of_keys);
    __syncthreads();
    left.load(rows_of_queries);
    RowStats rows[2];
    load_stats(kept.stats + item * p.size.queries + query, height, rows);
    for (int i = 0; i < steps; ++i) {
      if (i * step >= cols || idle) continue;
      Piece s;
      scores(left, rows_of_keys, i * step, s);
      to_probabilities(rows, i * step, cols, factor, s);
      for (int b = 0; b < 2; ++b)
        for (int e = 0; e < 4; ++e)
          relevance[i][b][e] += Math<real>::positive(s[b][e] * g[i][b][e]);
    }
  }
  for (int i = 0; i < steps; ++i) {
    if (idle) continue;
    if (out.mean) store_map(mean[i], runs.factor(), p, query, key, i * step, block.run, out.mean);
    if (out.relevance)
      store_map(relevance[i], runs.factor(), p, query, key, i * step, block.run, out.relevance);
  }
}

// What the kernels need of scratch; null where it is not.
struct Scratch {
  Kept kept{};
  MapResults sums{};  // of the runs of heads, or the results themselves
  Scratch(gpu::Stream& s, const AttentionSize& z, const AttentionGradients& out, bool dot,
          const ChainParts& parts, const HeadRuns& runs) {
    const int64_t rows = z.batch * z.heads * z.queries, map = runs.scratch(z);
    const int64_t dots = dot ? rows : 0;
    const int64_t chain = out.chain_out ? z.batch * z.heads * parts.count * z.keys : 0;
    const int64_t maps = (out.dprobs_mean ? map : 0) + (out.relevance ? map : 0);
    kept.stats = static_cast<RowStats*>(
        s.scratch(size_t(rows) * sizeof(RowStats) + size_t(dots + chain + maps) * sizeof(real)));
    real* at = reinterpret_cast<real*>(kept.stats + rows);
    const auto take = [&](bool wanted, int64_t count) {
      return wanted ? (at += count) - count : nullptr;
    };
    kept.dot = take(dot, dots);
    kept.chain = take(out.chain_out, chain);
    sums = {out.dprobs, out.dprobs_mean, out.relevance};
    if (map == 0) return;
    sums.mean = take(out.dprobs_mean, map);
    sums.relevance = take(out.relevance, map);
  }
};

template <int width>
void launch_maps(gpu::Stream& s, const Problem& p, const HeadRuns& runs, const Kept& kept,
                 const MapResults& out) {
  gpu::launch(s, {map_blocks(p, runs), threads, shared_bytes<width>(2), "attention_bwd"},
              tensor_maps_kernel<width>, p, runs, kept, out);
}

// dprobs, dprobs_mean, dprobs_row, relevance
template <int width>
void compute_maps(gpu::Stream& s, const Problem& p, const HeadRuns& runs, const Scratch& scratch,
                  const AttentionGradients& out) {
  const AttentionSize& z = p.size;
  const MapResults& sums = scratch.sums;
  if (out.dprobs || out.dprobs_mean || out.relevance)
    launch_maps<width>(s, p, runs, scratch.kept, sums);
  const auto add_runs = [&](const real* parts, real* mean) {
    if (parts != mean)
      add_parts(s, parts, z.batch, runs.count, z.queries * z.keys, 1 / real(z.heads), mean);
  };
  add_runs(sums.mean, out.dprobs_mean);
  add_runs(sums.relevance, out.relevance);
  if (out.dprobs_row && z.queries > 0) {
    const Problem row = p.only_row(out.row_index);
    launch_maps<width>(s, row, HeadRuns::single(row), scratch.kept,
                       {out.dprobs_row, nullptr, nullptr});
  }
}

template <int width>
void start(gpu::Stream& s, const Problem& p, const AttentionGradients& out) {
  const AttentionSize& z = p.size;
  const bool chain = out.chain_out, dot = out.dq || out.dk, by_keys = out.dk || out.dv;
  const ChainParts parts(p.query_tiles());
  const HeadRuns runs =
      out.dprobs_mean || out.relevance ? HeadRuns::mean(p) : HeadRuns::single(p);
  const Scratch scratch(s, z, out, dot, parts, runs);
  const Kept& kept = scratch.kept;
  const auto run = [&](int64_t blocks, int tiles, auto kernel, const auto&... args) {
    gpu::launch(s, {blocks, threads, shared_bytes<width>(tiles), "attention_bwd"}, kernel, args...);
  };
  if (dot || out.dv || chain || out.relevance) {
    const bool chain_alone = !dot && !out.dv && !out.relevance;
    const real* const weights = chain_alone ? out.chain_in : nullptr;
    run(p.items() * p.query_tiles(), 2, tensor_stats_kernel<width>, p, weights, kept);
  }
  if (out.dq) run(p.items() * p.query_tiles(), 2, tensor_queries_kernel<width>, p, kept, out.dq);
  const KeyResults results{out.dk, out.dv, chain ? out.chain_in : nullptr};
  const int64_t key_blocks = p.items() * p.key_tiles();
  if (by_keys)
    run(key_blocks, left_is_held<width, false> ? 2 : 4, tensor_keys_kernel<width, false>, p, parts, kept, results);
  if (!by_keys && chain)
    run(key_blocks * parts.count, 2, tensor_keys_kernel<width, true>, p, parts, kept, results);
  // The parts of a head, then the next head.
  if (chain)
    add_parts(s, kept.chain, z.batch, z.heads * parts.count, z.keys, 1 / real(z.heads),
              out.chain_out);
  compute_maps<width>(s, p, runs, scratch, out);
}

}  // namespace

void tensor_attention_bwd(gpu::Stream& s, const real* q, const real* k, const real* v,
                          const real* dcontext, const AttentionSize& z, real scale,
                          const AttentionGradients& out) {
  if (z.batch <= 0 || z.heads <= 0) return;
  const Problem p(q, k, v, dcontext, z, scale);
  with_width(z.width, [&](auto w) { start<decltype(w)::width>(s, p, out); });
}

}  // namespace whence::k

#endif
