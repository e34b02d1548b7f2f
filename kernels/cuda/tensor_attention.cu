// Attention with capture on tensor cores (kernels/cuda/tensor_attention.cuh), mma.sync of compute
// capability 8.0 and later. Factors of the two products are rounded to bf16: q, k, v, and for the
// context exp(scale (s - top)). Statistics, exponentials, captures and sums are f32, and the
// captured P is not rounded.
//
//   context_kernel   a block owns 64 queries of a head, a warp 16 of them with all of their
//                    context, and goes through the keys once; what was summed before a larger score
//                    came is scaled down. Leaves the row statistics where a capture needs them.
//   capture_kernel   a block owns 64 queries x 64 keys, of one head or of a run of heads in order.
//                    P from the scores and the statistics: captured bits do not depend on what else
//                    is asked for.
//
// Bytes: q and context once, k and v once for every 64 queries (f32, from L2), and what is captured.
// Bound by bringing k and v into shared memory: 64 products for each element that is read.
#include "kernels/cuda/tensor_attention.cuh"

#ifndef WHENCE_F64

namespace whence::k {
namespace {

using namespace gpu::tensor_tile;
using gpu::Bf16;

// context = P v; statistics of the rows. Either may be null.
template <int width>
__global__ void __launch_bounds__(threads, width <= 64 ? 3 : 2)
    tensor_context_kernel(Problem p, real* context, RowStats* stats) {
  Bf16* const keys = gpu::dynamic_shared<Bf16>();
  Bf16* const values = keys + tile_elements<width>;
  const int64_t item = blockIdx.x / p.query_tiles();
  const int64_t query = p.first_query + blockIdx.x % p.query_tiles() * side;
  Rows q = head_rows(p.q, p.size.queries, p.size, item);
  q.count = p.end_query;
  const Rows k = head_rows(p.k, p.size.keys, p.size, item);
  const Rows v = context ? head_rows(p.v, p.size.keys, p.size, item) : Rows{};
  const int height = inside(p.end_query, query);
  const float factor = to_exponents(p.scale);
  Left<width, true> queries;
  stage<width>(q, query, p.quads, keys);
  __syncthreads();
  queries.load(keys);
  RowSoftmax softmax;
  Sums<width> sum = {};
  for (int64_t key = 0; key < p.size.keys; key += side) {
    const int cols = inside(p.size.keys, key);
    __syncthreads();  // the tiles have been read
    stage<width>(k, key, p.quads, keys);
    if (context) stage<width>(v, key, p.quads, values);
    __syncthreads();
    if (warp_row() >= height) continue;
    Piece s[steps] = {};
    for (int i = 0; i < steps; ++i)
      if (i * step < cols) scores(queries, keys, i * step, s[i]);
    float decay[2];
    softmax.add(cols, factor, s, decay);
    if (!context) continue;
    for (int d = 0; d < width / 8; ++d)
      for (int e = 0; e < 4; ++e) sum[d][e] *= decay[e / 2];
    for (int i = 0; i < steps; ++i)
      if (i * step < cols) add_map_times_rows<width>(s[i], values, i * step, sum);
  }
  float inverse[2] = {};
  for (int h = 0; h < 2; ++h) {
    const RowStats row = softmax.finish(h);
    if (p.size.keys > 0) inverse[h] = row.inverse;
    if (stats && lane() % 4 == 0 && own_row(h) < height)
      stats[item * p.size.queries + query + own_row(h)] = row;
  }
  if (context) store_rows<width>(sum, inverse, p.end_query, query, p.size, item, context);
}

// probs [B, H, ...] and the sums of the runs of heads [B, runs, ...]; either may be null.
template <int width>
__global__ void __launch_bounds__(threads, 2)
    tensor_capture_kernel(Problem p, HeadRuns runs, const RowStats* stats, real* probs,
                          real* sums) {
  Bf16* const queries = gpu::dynamic_shared<Bf16>();
  Bf16* const keys = queries + tile_elements<width>;
  const MapBlock block(p, runs);
  const int height = inside(p.end_query, block.query), cols = inside(p.size.keys, block.key);
  const float factor = to_exponents(p.scale);
  Piece sum[steps] = {};
  for (int64_t head = block.head; head < block.end_head; ++head) {
    const int64_t item = block.sample * p.size.heads + head;
    Rows q = head_rows(p.q, p.size.queries, p.size, item);
    q.count = p.end_query;
    const Rows k = head_rows(p.k, p.size.keys, p.size, item);
    __syncthreads();  // the tiles have been read
    stage<width>(q, block.query, p.quads, queries);
    stage<width>(k, block.key, p.quads, keys);
    __syncthreads();
    if (warp_row() >= height) continue;
    Left<width, true> left;
    left.load(queries);
    RowStats rows[2];
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
void launch_capture(gpu::Stream& s, const Problem& p, const HeadRuns& runs, const RowStats* stats,
                    real* probs, real* sums) {
  gpu::launch(s, {map_blocks(p, runs), threads, shared_bytes<width>(2), "attention"},
              tensor_capture_kernel<width>, p, runs, stats, probs, sums);
}

template <int width>
void start(gpu::Stream& s, const Problem& all, real* context, const AttentionCapture& out) {
  const AttentionSize& z = all.size;
  const bool maps = out.probs || out.head_mean;
  const Problem needed = context || maps ? all : all.only_row(out.row_index);
  const HeadRuns runs = out.head_mean ? HeadRuns::mean(all) : HeadRuns::single(all);
  RowStats* stats = nullptr;
  real* sums = out.head_mean;
  if (maps || out.row) {
    const int64_t rows = z.batch * z.heads * z.queries, extra = out.head_mean ? runs.scratch(z) : 0;
    stats = static_cast<RowStats*>(
        s.scratch(size_t(rows) * sizeof(RowStats) + size_t(extra) * sizeof(real)));
    if (extra > 0) sums = reinterpret_cast<real*>(stats + rows);
  }
  gpu::launch(s,
              {needed.items() * needed.query_tiles(), threads, shared_bytes<width>(2), "attention"},
              tensor_context_kernel<width>, needed, context, stats);
  if (maps) launch_capture<width>(s, all, runs, stats, out.probs, sums);
  if (sums != out.head_mean)
    add_parts(s, sums, z.batch, runs.count, z.queries * z.keys, 1 / real(z.heads), out.head_mean);
  if (out.row) {
    const Problem row = all.only_row(out.row_index);
    launch_capture<width>(s, row, HeadRuns::single(row), stats, out.row, nullptr);
  }
}

}  // namespace

void tensor_attention(gpu::Stream& s, const real* q, const real* k, const real* v,
                      const AttentionSize& z, real scale, real* context,
                      const AttentionCapture& out) {
  if (!context && !out.probs && !out.head_mean && !out.row) return;
  if (z.batch <= 0 || z.heads <= 0 || z.queries <= 0) return;
  const Problem all(q, k, v, nullptr, z, scale);
  with_width(z.width, [&](auto w) { start<decltype(w)::width>(s, all, context, out); });
}

}  // namespace whence::k

#endif
