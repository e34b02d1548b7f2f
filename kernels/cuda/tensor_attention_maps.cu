// Maps of the gradient on tensor cores (kernels/cuda/tensor_attention.cuh): G, its mean and one of
// its rows, and relevance, the mean of max(P * G, 0). Factors of the two products are rounded to
// bf16: q, k, v, dcontext. All else is f32.
//
// A block owns a tile of 64 queries x 64 keys, of one head or of a run of heads in order; runs are
// added afterwards. Bytes: the operands of a head once for every 64 rows of the other side (f32,
// from L2), and the maps. Bound by bringing the operands in.
#include "kernels/cuda/tensor_attention.cuh"
#include "kernels/scalar.h"

#ifndef WHENCE_F64

namespace whence::k {
namespace {

using namespace gpu::tensor_tile;
using gpu::Bf16;

template <int width>
__global__ void __launch_bounds__(threads, 2)
    tensor_maps_kernel(Problem p, HeadRuns runs, const RowStats* stats,
                       gpu::map_tile::MapResults out) {
  constexpr bool held = left_is_held<width>;
  Bf16* const keys = gpu::dynamic_shared<Bf16>();
  Bf16* const values = keys + tile_elements<width>;
  const MapBlock block(p, runs);
  const int64_t query = block.query, key = block.key;
  const int height = inside(p.end_query, query), cols = inside(p.size.keys, key);
  const bool idle = warp_row() >= height, with_p = out.relevance;
  const float factor = to_exponents(p.scale);
  Piece mean[steps] = {}, relevance[steps] = {};
  for (int64_t head = block.head; head < block.end_head; ++head) {
    const int64_t item = block.sample * p.size.heads + head;
    const Rows q = query_rows(p, p.q, item), dcontext = query_rows(p, p.dcontext, item);
    Left<width, held> queries, cotangents;
    RowStats rows[2] = {};
    __syncthreads();  // the tiles have been read
    stage<width>(key_rows(p, p.v, item), key, p.quads, values);
    if (with_p) {
      stage<width>(key_rows(p, p.k, item), key, p.quads, keys);
      load_stats(stats + item * p.size.queries + query, height, rows);
    }
    if constexpr (held) {
      cotangents.read(dcontext, query, p.quads);
      if (with_p) queries.read(q, query, p.quads);
    } else {
      stage<width>(dcontext, query, p.quads, values + tile_elements<width>);
      cotangents.keep(values + tile_elements<width>);
      if (with_p) stage<width>(q, query, p.quads, values + 2 * tile_elements<width>);
      queries.keep(values + 2 * tile_elements<width>);
    }
    __syncthreads();
    for (int i = 0; i < steps; ++i) {
      if (i * step >= cols || idle) continue;
      Piece g, s;
      scores(cotangents, values, i * step, g);
      if (out.dprobs) store_map(g, 1, p, query, key, i * step, item, out.dprobs);
      for (int b = 0; b < 2; ++b)
        for (int e = 0; e < 4; ++e) mean[i][b][e] += g[b][e];
      if (!with_p) continue;
      scores(queries, keys, i * step, s);
      to_probabilities(rows, i * step, cols, factor, s);
      for (int b = 0; b < 2; ++b)
        for (int e = 0; e < 4; ++e) relevance[i][b][e] += Math<real>::positive(s[b][e] * g[b][e]);
    }
  }
  for (int i = 0; i < steps; ++i) {
    if (idle) continue;
    if (out.mean) store_map(mean[i], runs.factor(), p, query, key, i * step, block.run, out.mean);
    if (out.relevance)
      store_map(relevance[i], runs.factor(), p, query, key, i * step, block.run, out.relevance);
  }
}

}  // namespace

void tensor_attention_maps(gpu::Stream& s, const Problem& p, const HeadRuns& runs,
                           const RowStats* stats, const gpu::map_tile::MapResults& out) {
  with_width(p.size.width, [&](auto w) {
    constexpr int width = decltype(w)::width;
    gpu::launch(s,
                {map_blocks(p, runs), threads, shared_bytes<width>(left_is_held<width> ? 2 : 4),
                 "attention_bwd"},
                tensor_maps_kernel<width>, p, runs, stats, out);
  });
}

}  // namespace whence::k

#endif
