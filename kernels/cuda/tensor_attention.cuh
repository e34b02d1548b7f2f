// Attention on tensor cores with factors rounded to bf16 (Precision::bf16): what attention() and
// attention_bwd() do where the stream asks for it, and what their kernels share.
//
// A block of 4 warps works on tiles of 64 x 64 of a map; a warp owns 16 rows of it, and goes over
// the columns 16 at a time. Operands are f32 in global memory and are rounded when they are staged
// in shared memory, 64 rows of a head's whole width, filled up with zeros to a multiple of 32. Rows
// lie an odd number of 16-byte pieces apart: the eight rows of an 8x8 matrix start in different
// groups of four banks, so ldmatrix has no conflicts, plain or transposed.
//
// A 16 x 16 piece of a map is two blocks of 16x8 sums (ptx.cuh). Of block b, lane (g, t) owns
// columns 8 b + 2 t and the next, of rows g (elements 0, 1) and g + 8 (elements 2, 3). That is where
// the left operand of the next product wants them: rounded in pairs, a piece of a map becomes a
// left operand without leaving its lane.
#pragma once

#include "kernels/attention.h"
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/ptx.cuh"

namespace whence::k {

#ifdef WHENCE_F64
// The double-precision build has no tensor cores.
inline bool attention_on_tensor_cores(Precision, int64_t) { return false; }
inline void tensor_attention(gpu::Stream&, const real*, const real*, const real*,
                             const AttentionSize&, real, real*, const AttentionCapture&) {}
inline void tensor_attention_bwd(gpu::Stream&, const real*, const real*, const real*, const real*,
                                 const AttentionSize&, real, const AttentionGradients&) {}
#else
// Whole 8x8 matrices, and sums that fit into registers; other widths are computed in f32. Decided
// by the width alone, so that bits do not depend on what shares a call.
inline bool attention_on_tensor_cores(Precision precision, int64_t width) {
  return precision == Precision::bf16 && width > 0 && width % 8 == 0 && width <= 128;
}
void tensor_attention(gpu::Stream& s, const real* q, const real* k, const real* v,
                      const AttentionSize& z, real scale, real* context,
                      const AttentionCapture& out);
void tensor_attention_bwd(gpu::Stream& s, const real* q, const real* k, const real* v,
                          const real* dcontext, const AttentionSize& z, real scale,
                          const AttentionGradients& out);
#endif

}  // namespace whence::k

#ifndef WHENCE_F64

namespace whence::WHENCE_GPU::tensor_tile {

using map_tile::add_parts;
using map_tile::head_rows;
using map_tile::HeadRuns;
using map_tile::inside;
using map_tile::lowest;
using map_tile::MapBlock;
using map_tile::Problem;
using map_tile::Quad;
using map_tile::Rows;
using map_tile::RowStats;

inline constexpr int side = map_tile::side, warps = 4, threads = 32 * warps;
inline constexpr int step = 16, steps = side / step;  // columns of a map that are worked on at once
static_assert(side == 16 * warps);

template <int width>
inline constexpr int pitch = width + 8;
template <int width>
inline constexpr int tile_elements = side* pitch<width>;
template <int width>
constexpr size_t shared_bytes(int tiles) {
  return size_t(tiles) * tile_elements<width> * sizeof(Bf16);
}

__device__ inline int lane() { return int(threadIdx.x) % warp_size; }
__device__ inline int warp_row() { return int(threadIdx.x) / warp_size * 16; }
// In the tile: the row of a thread's elements 2 h, 2 h + 1, and in a piece that starts at column
// `first`: the column of element e of block b.
__device__ inline int own_row(int h) { return warp_row() + lane() / 4 + 8 * h; }
__device__ inline int own_col(int first, int b, int e) {
  return first + 8 * b + lane() % 4 * 2 + e % 2;
}

using Piece = float[2][4];  // a lane's part of 16 x 16 elements
template <int width>
using Sums = float[width / 8][4];  // a lane's part of 16 rows of sums

struct alignas(16) Words {
  uint32_t x[4];
};
struct alignas(8) Two {
  float x[2];
};

// Pieces of 8 elements of a tile, `start` and the next: to[r][c] = x[first + r][c], rounded; 0 beyond
// x. All `count` of a thread are on the way at a time.
template <int width, int count>
__device__ void stage_pieces(const Rows& x, int64_t first, bool quads, int start, Bf16* to) {
  constexpr int in_row = width / 8;
  const int height = inside(x.count, first);
  const real* const from = x.at + first * x.stride;
  Quad part[count][2];
  for (int i = 0; i < count; ++i) {
    const int at = start + i * threads + int(threadIdx.x), r = at / in_row, c = at % in_row * 8;
    const real* const piece = from + r * x.stride + c;
    part[i][0] = part[i][1] = Quad{};
    if (r >= height || c >= x.width) continue;
    if (quads) {
      part[i][0] = map_tile::quad(piece);
      part[i][1] = map_tile::quad(piece + 4);
    } else {
      for (int e = 0; e < 8; ++e) part[i][e / 4].x[e % 4] = piece[e];
    }
  }
  for (int i = 0; i < count; ++i) {
    const int at = start + i * threads + int(threadIdx.x), r = at / in_row, c = at % in_row * 8;
    Words words;
    for (int e = 0; e < 4; ++e)
      words.x[e] = pair(part[i][e / 2].x[e % 2 * 2], part[i][e / 2].x[e % 2 * 2 + 1]);
    *reinterpret_cast<Words*>(to + r * pitch<width> + c) = words;
  }
}
// 64 rows of x from `first` on.
template <int width>
__device__ void stage(const Rows& x, int64_t first, bool quads, Bf16* to) {
  constexpr int pieces = side * width / 8, each = pieces / threads;
  if constexpr (each <= 4) {
    stage_pieces<width, each>(x, first, quads, 0, to);
  } else {
    constexpr int few = each % 4 == 0 ? 4 : 3;
    static_assert(each % few == 0);
    WHENCE_UNROLL(1)
    for (int start = 0; start < pieces; start += few * threads)
      stage_pieces<width, few>(x, first, quads, start, to);
  }
}

// The warp's 16 rows of a tile as left operand: held in registers, after which the tile may be
// overwritten, or loaded each time, where the sums leave no room.
template <int width, bool held>
class Left {
 public:
  __device__ void load(const Bf16* tile) {
    row_ = tile + (warp_row() + lane() % 16) * pitch<width> + lane() / 16 * 8;
    if constexpr (held)
      for (int d = 0; d < width / 16; ++d) load_matrices(words_[d], row_ + d * 16);
  }
  __device__ void columns(int d, uint32_t (&words)[4]) const {  // 16 d and the next 15
    if constexpr (held)
      for (int i = 0; i < 4; ++i) words[i] = words_[d][i];
    else
      load_matrices(words, row_ + d * 16);
  }

 private:
  const Bf16* row_;
  uint32_t words_[held ? width / 16 : 1][4];
};

// out[r][n] = sum_d left[r][d] tile[first + n][d]
template <int width, bool held>
__device__ void scores(const Left<width, held>& left, const Bf16* tile, int first, Piece& out) {
  const Bf16* const row =
      tile + (first + lane() / 16 * 8 + lane() % 8) * pitch<width> + lane() / 8 % 2 * 8;
  for (int b = 0; b < 2; ++b)
    for (int e = 0; e < 4; ++e) out[b][e] = 0;
  for (int d = 0; d < width / 16; ++d) {
    uint32_t words[4], columns[4];
    left.columns(d, columns);
    load_matrices(words, row + d * 16);
    multiply_bf16(out[0], columns, {words[0], words[1]});
    multiply_bf16(out[1], columns, {words[2], words[3]});
  }
}

// sum[r][d] += sum_n map[r][n] tile[first + n][d], the map rounded
template <int width>
__device__ void add_map_times_rows(const Piece& map, const Bf16* tile, int first,
                                   Sums<width>& sum) {
  const uint32_t left[4] = {pair(map[0][0], map[0][1]), pair(map[0][2], map[0][3]),
                            pair(map[1][0], map[1][1]), pair(map[1][2], map[1][3])};
  const Bf16* const row = tile + (first + lane() % 16) * pitch<width> + lane() / 16 * 8;
  for (int d = 0; d < width / 8; d += 2) {
    uint32_t words[4];
    load_matrices<true>(words, row + d * 8);
    multiply_bf16(sum[d], left, {words[0], words[1]});
    multiply_bf16(sum[d + 1], left, {words[2], words[3]});
  }
}

// Over the four lanes that share rows; all get the result.
template <class F>
__device__ float join_lanes(float x, F f) {
  x = f(x, __shfl_xor_sync(full_warp, x, 2));
  return f(x, __shfl_xor_sync(full_warp, x, 1));
}

// Scores times scale log2(e) are exponents of two.
__device__ inline float to_exponents(real scale) { return scale * 1.44269504f; }
__device__ inline float probability(const RowStats& row, float score, float factor) {
  return std::exp2((score - row.top) * factor) * row.inverse;
}

// Softmax statistics of a thread's two rows while tiles of keys come one after the other: the
// largest score so far and this thread's part of the sum of exponentials relative to it.
struct RowSoftmax {
  float top[2] = {lowest, lowest}, sum[2] = {};

  // A row whose scores are all -inf so far has exponentials of 0, and a sum of 0 in the end.
  __device__ float origin(int h) const { return top[h] == lowest ? 0.f : top[h]; }

  // s becomes exp(scale (s - top)), 0 from `cols` on; what was summed up before counts decay times.
  __device__ void add(int cols, float factor, Piece (&s)[steps], float (&decay)[2]) {
    const map_tile::LargerNumber larger;
    for (int h = 0; h < 2; ++h) {
      float best = top[h];
      for (int i = 0; i < steps; ++i)
        for (int b = 0; b < 2; ++b)
          for (int e = 2 * h; e < 2 * h + 2; ++e)
            if (own_col(i * step, b, e) < cols) best = larger(best, s[i][b][e]);
      best = join_lanes(best, larger);
      decay[h] = best == top[h]     ? 1.f
                 : top[h] == lowest ? 0.f
                                    : std::exp2((top[h] - best) * factor);
      top[h] = best;
      sum[h] *= decay[h];
      for (int i = 0; i < steps; ++i)
        for (int b = 0; b < 2; ++b)
          for (int e = 2 * h; e < 2 * h + 2; ++e) {
            float& x = s[i][b][e];
            x = own_col(i * step, b, e) < cols ? std::exp2((x - origin(h)) * factor) : 0.f;
            sum[h] += x;
          }
    }
  }
  // All threads of the warp call.
  __device__ RowStats finish(int h) const { return {origin(h), 1 / join_lanes(sum[h], Add{})}; }
};

// x becomes P of a piece; 0 from `cols` on. `rows` are those of the thread's two rows.
__device__ inline void to_probabilities(const RowStats (&rows)[2], int first, int cols,
                                        float factor, Piece& x) {
  for (int b = 0; b < 2; ++b)
    for (int e = 0; e < 4; ++e)
      x[b][e] = own_col(first, b, e) < cols ? probability(rows[e / 2], x[b][e], factor) : 0.f;
}

// The statistics of a thread's two rows; probabilities are 0 in rows that do not exist.
__device__ inline void load_stats(const RowStats* of_tile, int height, RowStats (&rows)[2]) {
  for (int h = 0; h < 2; ++h)
    rows[h] = own_row(h) < height ? of_tile[own_row(h)] : RowStats{0, 0};
}

__device__ inline void store_two(float* to, float a, float b) {
  if (reinterpret_cast<uintptr_t>(to) % sizeof(Two) == 0) {
    *reinterpret_cast<Two*>(to) = {{a, b}};
  } else {
    to[0] = a;
    to[1] = b;
  }
}

// out[first + row][...] = sum * factor[h], the rows that exist; [rows, heads * width]
template <int width>
__device__ void store_rows(const Sums<width>& sum, const float (&factor)[2], int64_t rows,
                           int64_t first, const k::AttentionSize& z, int64_t item, real* out) {
  const int64_t sample = item / z.heads, head = item % z.heads;
  for (int h = 0; h < 2; ++h) {
    const int64_t row = first + own_row(h);
    if (row >= rows) continue;
    real* const to = out + ((sample * rows + row) * z.heads + head) * z.width;
    for (int d = 0; d < width / 8; ++d)
      if (8 * d < z.width)
        store_two(to + own_col(8 * d, 0, 0), sum[d][2 * h] * factor[h],
                  sum[d][2 * h + 1] * factor[h]);
  }
}

// A piece of a map [map_index, end_query - first_query, keys], from column `first` of the tile on.
__device__ inline void store_map(const Piece& piece, float factor, const Problem& p, int64_t query,
                                 int64_t key, int first, int64_t map_index, real* out) {
  const int64_t rows = p.end_query - p.first_query;
  for (int h = 0; h < 2; ++h) {
    const int64_t row = query + own_row(h);
    if (row >= p.end_query) continue;
    real* const to = out + (map_index * rows + row - p.first_query) * p.size.keys;
    for (int b = 0; b < 2; ++b) {
      const int64_t col = key + own_col(first, b, 0);
      if (col + 1 < p.size.keys)
        store_two(to + col, piece[b][2 * h] * factor, piece[b][2 * h + 1] * factor);
      else if (col < p.size.keys)
        to[col] = piece[b][2 * h] * factor;
    }
  }
}

template <int width_>
struct Width {
  static constexpr int width = width_;
};
// f(Width<w>): the narrowest tiles that hold a head.
template <class F>
void with_width(int64_t width, F&& f) {
  if (width <= 32)
    f(Width<32>{});
  else if (width <= 64)
    f(Width<64>{});
  else if (width <= 96)
    f(Width<96>{});
  else
    f(Width<128>{});
}

}  // namespace whence::WHENCE_GPU::tensor_tile

#endif
