// What the kernels of attention on tensor cores share: tiles of 64 x 64 of a map, their factors
// rounded to bf16.
//
// A block of 4 warps works on tiles of 64 x 64 of a map; a warp owns 16 rows of it, and goes over
// the columns 16 at a time. Operands are f32 in global memory and are rounded on their way: to
// registers for the rows that a warp owns, to shared memory for those that all warps multiply with,
// a head's whole width, filled up with zeros to a multiple of 32. Rows lie an odd number of 16-byte
// pieces apart there: the eight rows of an 8x8 matrix start in different groups of four banks, so
// ldmatrix has no conflicts, plain or transposed. Where all rows of a head fit, they are brought
// once, and the warps go their own ways from there.
//
// A 16 x 16 piece of a map is two blocks of 16x8 sums (ptx.cuh). Of block b, lane (g, t) owns
// columns 8 b + 2 t and the next, of rows g (elements 0, 1) and g + 8 (elements 2, 3). That is
// where the left operand of the next product wants them: rounded in pairs, a piece of a map becomes
// a left operand without leaving its lane.
#pragma once

#include <algorithm>

#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/ptx.cuh"

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

// The rows of an operand that belong to the queries or keys of a head.
__device__ inline Rows query_rows(const Problem& p, const real* operand, int64_t item) {
  Rows rows = head_rows(operand, p.size.queries, p.size, item);
  rows.count = p.end_query;
  return rows;
}
__device__ inline Rows key_rows(const Problem& p, const real* operand, int64_t item) {
  return head_rows(operand, p.size.keys, p.size, item);
}

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

// Pieces of 8 elements of a tile, `start` and the next: to[r][c] = x[first + r][c], rounded; 0
// beyond x. All `count` of a thread are on the way at a time.
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

// 16 rows as left operand: held in registers, or loaded from a tile each time, where the sums leave
// no room.
template <int width, bool held>
class Left {
 public:
  // Rows first + own_row of x, from global memory; 0 beyond x. Eight lines of 32 bytes at a time.
  __device__ void read(const Rows& x, int64_t first, bool quads) {
    static_assert(held);
    WHENCE_UNROLL(2)
    for (int h = 0; h < 2; ++h) {
      const bool exists = first + own_row(h) < x.count;
      const real* const row = x.at + (exists ? (first + own_row(h)) * x.stride : 0);
      WHENCE_UNROLL(16)
      for (int d = 0; d < width / 8; ++d) {
        const int c = own_col(8 * d, 0, 0);
        uint32_t& word = words_[d / 2][d % 2 * 2 + h];
        word = 0;
        if (!exists || c >= x.width) continue;
        const Two two = quads ? *reinterpret_cast<const Two*>(row + c) : Two{{row[c], row[c + 1]}};
        word = pair(two.x[0], two.x[1]);
      }
    }
  }
  // The warp's rows of a tile, which stays as it is.
  __device__ void keep(const Bf16* tile) {
    static_assert(!held);
    row_ = tile + (warp_row() + lane() % 16) * pitch<width> + lane() / 16 * 8;
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

// Do left operands stay in registers, beside the sums? Else they have shared tiles.
template <int width>
inline constexpr bool left_is_held = width <= 64;

// How the blocks of a kernel that owns tiles of one side of the maps go through the other side.
struct Walk {
  int64_t run;  // tiles that a block owns, one after the other
  bool whole;   // all rows of the other side fit into shared memory

  // Where they fit, they are brought once for several owned tiles, as long as there are blocks
  // enough. What a tile's results are made of, and in which order, does not change.
  template <int width>
  static Walk of(int64_t items, int64_t owned_tiles, int64_t rows) {
    constexpr size_t most_bytes = 80 << 10;  // two blocks on a multiprocessor
    constexpr int64_t enough_blocks = 384;
    if (shared_bytes<width>(1) * 2 * size_t(pieces<int64_t>(rows, side)) > most_bytes)
      return {1, false};
    const int64_t most =
        std::max<int64_t>(1, std::min(items * owned_tiles / enough_blocks, owned_tiles));
    const int64_t ways = std::max<int64_t>(1, pieces(owned_tiles, most));
    return {std::max<int64_t>(1, pieces(owned_tiles, ways)), true};  // runs of equal length
  }
  WHENCE_HD int64_t blocks(int64_t items, int64_t owned_tiles) const {
    return items * pieces(owned_tiles, run);
  }
  WHENCE_HD int tiles(int64_t rows) const {  // in shared memory, of two operands
    return whole ? 2 * int(pieces<int64_t>(rows, side)) : 2;
  }
};

struct NoColumns {
  __device__ void operator()(int64_t, int64_t) const {}
};

// Rows of two operands in shared memory, all of them or a tile of each. b may be absent.
template <int width>
class Sides {
 public:
  __device__ Sides(const Rows& a, const Rows& b, bool quads, bool whole, Bf16* to)
      : a_(a),
        b_(b),
        quads_(quads),
        whole_(whole),
        to_a_(to),
        to_b_(to + (whole ? pieces<int64_t>(a.count, side) : 1) * tile_elements<width>) {}

  // Makes the tiles that start at row `first` current; also(first, at) may bring more for the rows
  // from `first` on, to place `at`. All threads call.
  template <class Also = NoColumns>
  __device__ void bring(int64_t first, const Also& also = {}) {
    at_ = whole_ ? first : 0;
    if (whole_ && staged_) return;
    __syncthreads();  // the tiles have been read
    const int64_t begin = whole_ ? 0 : first, end = whole_ ? a_.count : first + 1;
    WHENCE_UNROLL(1)
    for (int64_t row = begin; row < end; row += side) {
      stage<width>(a_, row, quads_, to_a_ + (row - begin) * pitch<width>);
      if (b_.at) stage<width>(b_, row, quads_, to_b_ + (row - begin) * pitch<width>);
      also(row, row - begin);
    }
    __syncthreads();
    staged_ = true;
  }
  __device__ const Bf16* a() const { return to_a_ + at_ * pitch<width>; }
  __device__ const Bf16* b() const { return to_b_ + at_ * pitch<width>; }
  __device__ int64_t at() const { return at_; }  // their first row in shared memory

 private:
  Rows a_, b_;
  bool quads_, whole_, staged_ = false;
  Bf16 *to_a_, *to_b_;
  int64_t at_ = 0;
};

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
