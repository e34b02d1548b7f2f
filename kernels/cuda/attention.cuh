// What the kernels of attention share: 64 x 64 tiles of a map [query, key] and their products.
//
// A block of 256 threads, 16 x 16, works on one tile. Thread (y, x) owns the elements
//   of a map:             queries 4 y + i, keys x + 16 j
//   of rows times width:  rows 4 y + i, columns 4 x + j          with i, j in 0 .. 3.
// Operands are staged in shared memory as they lie in global memory, 64 rows of up to 64 columns;
// rows are 68 apart, so that the loads of four adjacent elements that all products are made of
// touch every bank once. A head wider than 64 is staged in chunks.
#pragma once

#include <algorithm>
#include <limits>

#include "kernels/attention.h"
#include "kernels/cuda/gpu.cuh"

namespace whence::WHENCE_GPU::map_tile {

inline constexpr int micro = 4, side = 64, across = side / micro, threads = across * across;
inline constexpr int pitch = side + micro, tile_reals = side * pitch;
inline constexpr real lowest = -std::numeric_limits<real>::infinity();

__device__ inline int thread_x() { return int(threadIdx.x) % across; }
__device__ inline int thread_y() { return int(threadIdx.x) / across; }
__device__ inline int own_row(int i) { return micro * thread_y() + i; }    // of a map
__device__ inline int own_col(int j) { return thread_x() + across * j; }   // of a map
__device__ inline int own_width(int j) { return micro * thread_x() + j; }  // of rows times width
__device__ inline int inside(int64_t count, int64_t first) {  // rows of a tile that exist
  return int(std::min<int64_t>(side, count - first));
}

using Tile = real[micro][micro];  // a thread's elements of a tile

struct alignas(16) Quad {
  real x[micro];
};
__device__ inline Quad quad(const real* at) { return *reinterpret_cast<const Quad*>(at); }

// What the kernels work on. dcontext is null in the forward pass.
struct Problem {
  const real *q, *k, *v, *dcontext;
  k::AttentionSize size;
  real scale;
  int64_t first_query, end_query;  // the query rows that are worked on
  bool quads;                      // may rows be read as Quads?

  Problem(const real* q_, const real* k_, const real* v_, const real* dcontext_,
          const k::AttentionSize& z, real scale_)
      : q(q_),
        k(k_),
        v(v_),
        dcontext(dcontext_),
        size(z),
        scale(scale_),
        first_query(0),
        end_query(z.queries),
        quads(z.width % micro == 0) {
    for (const real* at : {q, k, v, dcontext})
      quads = quads && reinterpret_cast<uintptr_t>(at) % alignof(Quad) == 0;
  }
  Problem only_row(int64_t query) const {
    Problem one = *this;
    one.first_query = query;
    one.end_query = query + 1;
    return one;
  }
  WHENCE_HD int64_t items() const { return size.batch * size.heads; }
  WHENCE_HD int64_t query_tiles() const { return pieces<int64_t>(end_query - first_query, side); }
  WHENCE_HD int64_t key_tiles() const { return pieces<int64_t>(size.keys, side); }
  // Blocks that share a map because a result is wider than a tile.
  WHENCE_HD int64_t chunks() const {
    return std::max<int64_t>(1, pieces<int64_t>(size.width, side));
  }
};

// Rows of an operand that belong to one head of one sample.
struct Rows {
  const real* at;
  int64_t stride, count, width;
};
__device__ inline Rows head_rows(const real* operand, int64_t rows, const k::AttentionSize& z,
                                 int64_t item) {
  const int64_t sample = item / z.heads, head = item % z.heads;
  return {operand + (sample * rows * z.heads + head) * z.width, z.heads * z.width, rows, z.width};
}

// to[r][c] = x[first + r][column + c], 0 beyond x. Adjacent threads read adjacent elements.
__device__ inline void stage(const Rows& x, int64_t first, int64_t column, bool quads, real* to) {
  const int height = inside(x.count, first), width = inside(x.width, column);
  const real* const from = x.at + first * x.stride + column;
  if (quads) {
    const int c = own_width(0);
    for (int r = thread_y(); r < side; r += across) {
      Quad value{};
      if (r < height && c < width) value = quad(from + r * x.stride + c);
      *reinterpret_cast<Quad*>(to + r * pitch + c) = value;
    }
  } else {
    for (int c = thread_x(); c < side; c += across)
      for (int r = thread_y(); r < side; r += across)
        to[r * pitch + c] = r < height && c < width ? from[r * x.stride + c] : real(0);
  }
}

// out[i][j] += sum_d x[own_row(i)][d] y[own_col(j)][d] for d < width. Elements of a row are added
// one after the other: their bits do not depend on where in a tile the row lies.
__device__ inline void add_rows_times_rows(const real* x, const real* y, int rows, int width,
                                           Tile& out) {
  if (own_row(0) >= rows) return;
  for (int d = 0; d < width; d += micro) {
    Quad a[micro];
    for (int i = 0; i < micro; ++i) a[i] = quad(x + own_row(i) * pitch + d);
    for (int j = 0; j < micro; ++j) {
      const Quad b = quad(y + own_col(j) * pitch + d);
      for (int e = 0; e < micro; ++e)
        for (int i = 0; i < micro; ++i) out[i][j] = std::fma(a[i].x[e], b.x[e], out[i][j]);
    }
  }
}

// out[i][j] += sum_n map[own_row(i)][n] y[n][own_width(j)] for n < cols
__device__ inline void add_map_times_rows(const real* map, const real* y, int rows, int cols,
                                          Tile& out) {
  if (own_row(0) >= rows) return;
  for (int n = 0; n < cols; n += micro) {
    Quad a[micro];
    for (int i = 0; i < micro; ++i) a[i] = quad(map + own_row(i) * pitch + n);
    for (int e = 0; e < micro; ++e) {
      const Quad b = quad(y + (n + e) * pitch + own_width(0));
      for (int i = 0; i < micro; ++i)
        for (int j = 0; j < micro; ++j) out[i][j] = std::fma(a[i].x[e], b.x[j], out[i][j]);
    }
  }
}

// out[i][j] += sum_m map[m][own_row(i)] y[m][own_width(j)] for m < rows: the map is transposed, so
// the tile has `cols` rows.
__device__ inline void add_map_transposed_times_rows(const real* map, const real* y, int rows,
                                                     int cols, Tile& out) {
  if (own_row(0) >= cols) return;
  for (int m = 0; m < rows; ++m) {
    const Quad a = quad(map + m * pitch + own_row(0)), b = quad(y + m * pitch + own_width(0));
    for (int i = 0; i < micro; ++i)
      for (int j = 0; j < micro; ++j) out[i][j] = std::fma(a.x[i], b.x[j], out[i][j]);
  }
}

__device__ inline void keep_map(const Tile& tile, real* map) {
  for (int i = 0; i < micro; ++i)
    for (int j = 0; j < micro; ++j) map[own_row(i) * pitch + own_col(j)] = tile[i][j];
}

// 64 rows of an operand and the shared tile that they are staged in.
struct Operand {
  Rows rows;
  int64_t first;
  real* tile;
  bool staged;  // the tile holds them already, whole
};

// out = x y^T over the whole width of the head. Ends with the last chunk of both in their tiles.
__device__ inline void scores(const Operand& x, const Operand& y, bool quads, Tile& out) {
  for (int i = 0; i < micro; ++i)
    for (int j = 0; j < micro; ++j) out[i][j] = 0;
  int64_t column = 0;
  do {
    __syncthreads();  // what the tiles held has been read
    if (!x.staged) stage(x.rows, x.first, column, quads, x.tile);
    if (!y.staged) stage(y.rows, y.first, column, quads, y.tile);
    __syncthreads();
    add_rows_times_rows(x.tile, y.tile, inside(x.rows.count, x.first), inside(x.rows.width, column),
                        out);
    column += side;
  } while (column < x.rows.width);
}

// Over the 16 threads that share rows; all get the result.
template <class F>
__device__ real join_row(real x, F f) {
  for (int distance = across / 2; distance > 0; distance /= 2)
    x = f(x, __shfl_xor_sync(full_warp, x, distance, across));
  return x;
}
struct LargerNumber {  // NaN loses: it shows in the sum
  __device__ real operator()(real a, real b) const { return a < b ? b : a; }
};

// What makes probabilities of a row's scores: p = exp(scale (s - top)) inverse.
struct RowStats {
  real top, inverse;
  __device__ real probability(real s, real scale) const {
    return std::exp((s - top) * scale) * inverse;
  }
};

// Softmax statistics of a thread's rows while tiles of keys come one after the other: the largest
// score so far and this thread's part of the sum of exponentials relative to it.
struct RowSoftmax {
  real top[micro] = {lowest, lowest, lowest, lowest}, sum[micro] = {};

  // A row whose scores are all -inf so far has exponentials of 0, and a sum of 0 in the end.
  __device__ real origin(int i) const { return top[i] == lowest ? real(0) : top[i]; }

  // s becomes exp(scale (s - top)), 0 from `cols` on; what was summed up before counts decay times.
  __device__ void add(int cols, real scale, Tile& s, real (&decay)[micro]) {
    for (int i = 0; i < micro; ++i) {
      real best = top[i];
      for (int j = 0; j < micro; ++j)
        if (own_col(j) < cols) best = LargerNumber{}(best, s[i][j]);
      best = join_row(best, LargerNumber{});
      decay[i] = best == top[i]     ? real(1)
                 : top[i] == lowest ? real(0)
                                    : std::exp((top[i] - best) * scale);
      top[i] = best;
      sum[i] *= decay[i];
      for (int j = 0; j < micro; ++j) {
        s[i][j] = own_col(j) < cols ? std::exp((s[i][j] - origin(i)) * scale) : real(0);
        sum[i] += s[i][j];
      }
    }
  }
  // All threads call.
  __device__ RowStats finish(int i) const { return {origin(i), 1 / join_row(sum[i], Add{})}; }
};

// out[row][column + ...] = tile, where both exist
__device__ inline void store_rows(const Tile& tile, int64_t rows, int64_t first, int64_t column,
                                  const k::AttentionSize& z, int64_t item, real* out) {
  const int64_t sample = item / z.heads, head = item % z.heads;
  for (int i = 0; i < micro; ++i) {
    const int64_t row = first + own_row(i);
    if (row >= rows) continue;
    real* to = out + ((sample * rows + row) * z.heads + head) * z.width;
    for (int j = 0; j < micro; ++j)
      if (column + own_width(j) < z.width) to[column + own_width(j)] = tile[i][j];
  }
}

// A tile of a map [map_index, end_query - first_query, keys].
__device__ inline void store_map(const Tile& tile, real factor, const Problem& p, int64_t query,
                                 int64_t key, int64_t map_index, real* out) {
  for (int i = 0; i < micro; ++i) {
    const int64_t row = query + own_row(i);
    if (row >= p.end_query) continue;
    const int64_t rows = p.end_query - p.first_query;
    real* to = out + (map_index * rows + row - p.first_query) * p.size.keys + key;
    for (int j = 0; j < micro; ++j)
      if (key + own_col(j) < p.size.keys) to[own_col(j)] = tile[i][j] * factor;
  }
}

// s becomes P of the tile; 0 outside of it. `stats` are those of the tile's first row.
__device__ inline void to_probabilities(const RowStats* stats, int rows, int cols, real scale,
                                        Tile& s) {
  for (int i = 0; i < micro; ++i) {
    const RowStats row = own_row(i) < rows ? stats[own_row(i)] : RowStats{0, 0};
    for (int j = 0; j < micro; ++j)
      s[i][j] = own_row(i) < rows && own_col(j) < cols ? row.probability(s[i][j], scale) : real(0);
  }
}

// A mean over heads, split so that even one sample fills a device: each block adds a run of heads,
// and the runs are added afterwards, both in ascending order. A function of the map's size alone.
struct HeadRuns {
  int64_t heads, count;
  static HeadRuns single(const Problem& p) { return {1, p.size.heads}; }
  static HeadRuns mean(const Problem& p) {
    constexpr int64_t enough_blocks = 64;
    const int64_t tiles = std::max<int64_t>(1, p.query_tiles() * p.key_tiles());
    const int64_t most = std::clamp<int64_t>(enough_blocks / tiles, 1, p.size.heads);
    const int64_t heads = pieces(p.size.heads, most);
    return {heads, pieces(p.size.heads, heads)};
  }
  // Reals in scratch for the maps of the runs; a single run leaves its map in the result.
  int64_t scratch(const k::AttentionSize& z) const {
    return count > 1 ? z.batch * count * z.queries * z.keys : 0;
  }
  WHENCE_HD real factor() const { return count > 1 ? real(1) : 1 / real(heads); }
};

// Which heads and which tile a block of a map's kernel has.
struct MapBlock {
  int64_t query, key, sample, run, head, end_head;
  __device__ MapBlock(const Problem& p, const HeadRuns& runs) {
    key = blockIdx.x % p.key_tiles() * side;
    const int64_t rest = blockIdx.x / p.key_tiles();
    query = p.first_query + rest % p.query_tiles() * side;
    run = rest / p.query_tiles();
    sample = run / runs.count;
    head = run % runs.count * runs.heads;
    end_head = std::min(head + runs.heads, p.size.heads);
  }
};
inline int64_t map_blocks(const Problem& p, const HeadRuns& runs) {
  return p.size.batch * runs.count * p.query_tiles() * p.key_tiles();
}

// out[b, i] = factor * sum_m parts[b, m, i], m ascending; a thread for each element.
static __global__ void add_parts_kernel(const real* parts, int64_t count, int64_t elements,
                                        int64_t all, real factor, real* out) {
  const int64_t at = int64_t(blockIdx.x) * threads + threadIdx.x;
  if (at >= all) return;
  const real* from = parts + at / elements * count * elements + at % elements;
  real sum = 0;
  for (int64_t m = 0; m < count; ++m) sum += from[m * elements];
  out[at] = sum * factor;
}
inline void add_parts(Stream& s, const real* parts, int64_t batch, int64_t count, int64_t elements,
                      real factor, real* out) {
  launch(s, {pieces<int64_t>(batch * elements, threads), threads}, add_parts_kernel, parts, count,
         elements, batch * elements, factor, out);
}

}  // namespace whence::WHENCE_GPU::map_tile
