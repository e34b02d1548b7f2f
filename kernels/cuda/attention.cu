// Attention with capture, in tiles of 64 queries x 64 keys (kernels/cuda/attention.cuh).
//
//   context_kernel   A block owns 64 queries of a head and up to 64 columns of their context. It
//                    goes through the keys once; what was summed before a larger score came is
//                    scaled down. Leaves the row statistics where a capture needs them.
//   capture_kernel   A block owns 64 queries x 64 keys of one head, or of a run of heads that it
//                    adds in order. P from the scores and the statistics: captured bits do not
//                    depend on what else is asked for, and what is not captured never reaches
//                    memory.
//
// Bytes: q and context once, k and v once for every 64 queries (from L2), and what is captured.
// Bound by the FMA units: two products for the context, a third for captures.
#include "kernels/cuda/attention_steps.cuh"
#include "kernels/cuda/tensor_attention.cuh"

namespace whence::k {
namespace {

using namespace gpu::map_tile;
using gpu::map_tile::threads;

// context = P v; statistics of the rows. Either may be null.
__global__ void __launch_bounds__(threads, 2)
    context_kernel(Problem p, real* context, RowStats* stats) {
  real* const shared = gpu::dynamic_shared<real>();
  real *const queries = shared, *const rows = shared + tile_reals, *const map = rows + tile_reals;
  const int64_t chunks = context ? p.chunks() : 1, chunk = blockIdx.x % chunks;
  const int64_t tile = blockIdx.x / chunks % p.query_tiles();
  const int64_t item = blockIdx.x / chunks / p.query_tiles();
  const int64_t query = p.first_query + tile * side;
  Rows q = head_rows(p.q, p.size.queries, p.size, item);
  q.count = p.end_query;
  const Rows k = head_rows(p.k, p.size.keys, p.size, item);
  const Rows v = head_rows(p.v, p.size.keys, p.size, item);
  const int height = inside(p.end_query, query);
  RowSoftmax softmax;
  Tile sum = {};
  for (int64_t key = 0; key < p.size.keys; key += side) {
    const int cols = inside(p.size.keys, key);
    Tile s;
    scores({q, query, queries, key > 0 && q.width <= side}, {k, key, rows, false}, p.quads, s);
    real decay[micro];
    softmax.add(cols, p.scale, s, decay);
    if (!context) continue;
    for (int i = 0; i < micro; ++i)
      for (int j = 0; j < micro; ++j) sum[i][j] *= decay[i];
    keep_map(s, map);
    __syncthreads();  // the keys have been read
    stage(v, key, chunk * side, p.quads, rows);
    __syncthreads();
    add_map_times_rows(map, rows, height, cols, sum);
  }
  for (int i = 0; i < micro; ++i) {
    const RowStats row = softmax.finish(i);
    for (int j = 0; j < micro; ++j) sum[i][j] = p.size.keys > 0 ? sum[i][j] * row.inverse : real(0);
    if (stats && chunk == 0 && thread_x() == 0 && own_row(i) < height)
      stats[item * p.size.queries + query + own_row(i)] = row;
  }
  if (context) store_rows(sum, p.size.queries, query, chunk * side, p.size, item, context);
}

// probs [B, H, ...] and the sums of the runs of heads [B, runs, ...]; either may be null.
__global__ void __launch_bounds__(threads, 2)
    capture_kernel(Problem p, HeadRuns runs, const RowStats* stats, real* probs, real* sums) {
  real* const shared = gpu::dynamic_shared<real>();
  const MapBlock block(p, runs);
  Tile sum = {};
  for (int64_t head = block.head; head < block.end_head; ++head) {
    const int64_t item = block.sample * p.size.heads + head;
    Rows q = head_rows(p.q, p.size.queries, p.size, item);
    q.count = p.end_query;
    const Rows k = head_rows(p.k, p.size.keys, p.size, item);
    Tile s;
    scores({q, block.query, shared, false}, {k, block.key, shared + tile_reals, false}, p.quads, s);
    to_probabilities(stats + item * p.size.queries + block.query, inside(p.end_query, block.query),
                     inside(p.size.keys, block.key), p.scale, s);
    for (int i = 0; i < micro; ++i)
      for (int j = 0; j < micro; ++j) sum[i][j] += s[i][j];
    if (probs) store_map(s, 1, p, block.query, block.key, item, probs);
  }
  if (sums) store_map(sum, runs.factor(), p, block.query, block.key, block.run, sums);
}

constexpr size_t shared_bytes(int tiles) { return size_t(tiles) * tile_reals * sizeof(real); }

struct Portable {
  gpu::Stream& s;

  void context(const Problem& p, real* context, RowStats* stats) const {
    const int64_t chunks = context ? p.chunks() : 1;
    gpu::launch(s, {p.items() * p.query_tiles() * chunks, threads, shared_bytes(3)}, context_kernel,
                p, context, stats);
  }
  void capture(const Problem& p, const HeadRuns& runs, const RowStats* stats, real* probs,
               real* sums) const {
    gpu::launch(s, {map_blocks(p, runs), threads, shared_bytes(2)}, capture_kernel, p, runs, stats,
                probs, sums);
  }
};

}  // namespace

void attention(gpu::Stream& s, const real* q, const real* k, const real* v, const AttentionSize& z,
               real scale, real* context, const AttentionCapture& out) {
  if (!context && !out.probs && !out.head_mean && !out.row) return;
  if (z.batch <= 0 || z.heads <= 0 || z.queries <= 0) return;
  if (attention_on_tensor_cores(s.precision, z.width))
    return tensor_attention(s, q, k, v, z, scale, context, out);
  run_attention(s, Problem(q, k, v, nullptr, z, scale), context, out, Portable{s});
}

}  // namespace whence::k
