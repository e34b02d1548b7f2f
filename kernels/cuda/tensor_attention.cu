// Attention with capture on tensor cores (kernels/cuda/tensor_attention.cuh), mma.sync of compute
// capability 8.0 and later. Factors of the two products are rounded to bf16: q, k, v, and for the
// context exp(scale (s - top)). Statistics, exponentials, captures and sums are f32, and the
// captured P is not rounded.
//
//   context_kernel   a block owns tiles of 64 queries of a head, a warp 16 rows of each with their
//                    whole context, and goes through the keys once; what was summed before a
//                    larger score came is scaled down. Leaves the row statistics for captures.
//   capture_kernel   a block owns 64 queries x 64 keys, of one head or of a run of heads in order.
//                    P from the scores and the statistics: captured bits do not depend on what
//                    else is asked for.
//
// Bytes: q and context once, k and v once for each block (f32, from L2), and what is captured.
// Bound by bringing k and v in, for many tiles to a block by exponentials and the tensor cores.
#include "kernels/cuda/attention_steps.cuh"
#include "kernels/cuda/tensor_attention.cuh"

#ifndef WHENCE_F64

namespace whence::k {
namespace {

using namespace gpu::tensor_tile;
using gpu::Bf16;

// 64 queries of a head.
template <int width>
struct ContextTile {
  const Problem& p;
  int64_t item, query;
  float factor;

  // `sum` and `softmax` over all keys.
  __device__ void run(const Rows& q, bool with_context, Sides<width>& sides, Sums<width>& sum,
                      RowSoftmax& softmax) const {
    const bool idle = query + warp_row() >= q.count;
    Left<width, true> queries;
    queries.read(q, query, p.quads);
    for (int64_t key = 0; key < p.size.keys; key += side) {
      const int cols = inside(p.size.keys, key);
      sides.bring(key);
      if (idle) continue;
      Piece s[steps] = {};
      for (int i = 0; i < steps; ++i)
        if (i * step < cols) scores(queries, sides.a(), i * step, s[i]);
      float decay[2];
      softmax.add(cols, factor, s, decay);
      if (!with_context) continue;
      for (int d = 0; d < width / 8; ++d)
        for (int e = 0; e < 4; ++e) sum[d][e] *= decay[e / 2];
      for (int i = 0; i < steps; ++i)
        if (i * step < cols) add_map_times_rows<width>(s[i], sides.b(), i * step, sum);
    }
  }
};

// context = P v; statistics of the rows. Either may be null.
template <int width>
__global__ void __launch_bounds__(threads, width <= 64 ? 3 : 2)
    tensor_context_kernel(Problem p, Walk walk, real* context, RowStats* stats) {
  const int64_t tiles = p.query_tiles(), ways = gpu::pieces(tiles, walk.run);
  const int64_t item = blockIdx.x / ways, first = blockIdx.x % ways * walk.run;
  Rows q = head_rows(p.q, p.size.queries, p.size, item);
  q.count = p.end_query;
  Sides<width> sides(head_rows(p.k, p.size.keys, p.size, item),
                     context ? head_rows(p.v, p.size.keys, p.size, item) : Rows{}, p.quads,
                     walk.whole, gpu::dynamic_shared<Bf16>());
  WHENCE_UNROLL(1)
  for (int64_t tile = first; tile < std::min(first + walk.run, tiles); ++tile) {
    const int64_t query = p.first_query + tile * side;
    RowSoftmax softmax;
    Sums<width> sum = {};
    ContextTile<width>{p, item, query, to_exponents(p.scale)}.run(q, context, sides, sum, softmax);
    float inverse[2] = {};
    for (int h = 0; h < 2; ++h) {
      const RowStats row = softmax.finish(h);
      if (p.size.keys > 0) inverse[h] = row.inverse;
      if (stats && lane() % 4 == 0 && query + own_row(h) < p.end_query)
        stats[item * p.size.queries + query + own_row(h)] = row;
    }
    if (context) store_rows<width>(sum, inverse, p.end_query, query, p.size, item, context);
  }
}

// probs [B, H, ...] and the sums of the runs of heads [B, runs, ...]; either may be null.
template <int width>
__global__ void __launch_bounds__(threads, 2)
    tensor_capture_kernel(Problem p, HeadRuns runs, const RowStats* stats, real* probs,
                          real* sums) {
  Bf16* const keys = gpu::dynamic_shared<Bf16>();
  const MapBlock block(p, runs);
  const int height = inside(p.end_query, block.query), cols = inside(p.size.keys, block.key);
  const float factor = to_exponents(p.scale);
  Piece sum[steps] = {};
  for (int64_t head = block.head; head < block.end_head; ++head) {
    const int64_t item = block.sample * p.size.heads + head;
    Rows q = head_rows(p.q, p.size.queries, p.size, item);
    q.count = p.end_query;
    const Rows k = head_rows(p.k, p.size.keys, p.size, item);
    Left<width, true> left;
    __syncthreads();  // the tile has been read
    stage<width>(k, block.key, p.quads, keys);
    left.read(q, block.query, p.quads);
    __syncthreads();
    if (warp_row() >= height) continue;
    RowStats rows[2] = {};
    load_stats(stats + item * p.size.queries + block.query, height, rows);
    for (int i = 0; i < steps; ++i) {
      if (i * step >= cols) continue;
      Piece s;
      scores(left, keys, i * step, s);
      to_probabilities(rows, i * step, cols, factor, s);
      for (int b = 0; b < 2; ++b)
        for (int e = 0; e < 4; ++e) sum[i][b][e] += s[b][e];
      if (probs) store_map(s, 1, p, block.query, block.key, i * step, item, probs);
    }
  }
  if (sums && warp_row() < height)
    for (int i = 0; i < steps; ++i)
      store_map(sum[i], runs.factor(), p, block.query, block.key, i * step, block.run, sums);
}

template <int width>
struct OnTensorCores {
  gpu::Stream& s;

  void context(const Problem& p, real* context, RowStats* stats) const {
    const Walk walk = Walk::of<width>(p.items(), p.query_tiles(), p.size.keys);
    gpu::launch(s,
                {walk.blocks(p.items(), p.query_tiles()), threads,
                 shared_bytes<width>(walk.tiles(p.size.keys)), "attention"},
                tensor_context_kernel<width>, p, walk, context, stats);
  }
  void capture(const Problem& p, const HeadRuns& runs, const RowStats* stats, real* probs,
               real* sums) const {
    gpu::launch(s, {map_blocks(p, runs), threads, shared_bytes<width>(1), "attention"},
                tensor_capture_kernel<width>, p, runs, stats, probs, sums);
  }
};

}  // namespace

void tensor_attention(gpu::Stream& s, const real* q, const real* k, const real* v,
                      const AttentionSize& z, real scale, real* context,
                      const AttentionCapture& out) {
  const Problem all(q, k, v, nullptr, z, scale);
  with_width(z.width, [&](auto w) {
    gpu::map_tile::run_attention(s, all, context, out, OnTensorCores<decltype(w)::width>{s});
  });
}

}  // namespace whence::k

#endif
