// The inner loop of products: one square tile of the result for each block of threads.
//
//   acc[i, j] = sum_x a(i, x) * b(j, x)        one chain of fma() for each element, x ascending
//
// A line is a row of the tile as far as a is concerned, a column as far as b is; element x of a
// line lies at at[lines[line] + sum_of(x)], any strides. A stage is the next T::step summed
// elements of all lines of both operands, in shared memory with the lines adjacent; two stages
// take turns, so that one barrier for each step is enough: while a stage is multiplied the next
// one is on its way from memory into registers, and it is put where the last one has been read.
//
// A thread owns row_each x col_each elements, in groups of up to four adjacent ones. The 32 lanes
// of a warp stand 4 x 8: their reads of a stage are 4 and 8 neighbouring groups, without bank
// conflicts, and the others get theirs by broadcast. Bytes: each operand once for every T::side
// lines of the other. Bound by the FMA units for wide tiles (four 16-byte reads of shared memory
// for 64 multiply-adds).
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/cuda/gpu.cuh"
#include "kernels/product.h"

namespace whence::k {
// Kernel files are linked into one program twice, for the device and for its emulation.
namespace {

template <int side_, int row_each_, int col_each_>
struct Tile {
  static constexpr int side = side_;  // rows and columns
  static constexpr int row_each = row_each_, col_each = col_each_;
  static constexpr int row_threads = side / row_each, col_threads = side / col_each;
  static constexpr int threads = row_threads * col_threads;
  static constexpr int resident = 512 / threads;  // blocks on a multiprocessor: up to 128 registers
  static constexpr int row_group = std::min(row_each, 4), col_group = std::min(col_each, 4);
  // 8 KB for each operand and stage: small tiles, which wait for memory and not for multiply-adds,
  // get long steps. The wide one needs its registers for sums.
  static constexpr int step = side > 64 ? 8 : 8192 / int(sizeof(real)) / side;
  // Summed elements that are multiplied at a time.
  static constexpr int unrolled = side > 64 ? 2 : 4;
  // Lines are padded by 4 elements, see Walk.
  static constexpr int padded = side + 4;
  // Of an operand's stage, by thread: in 8 summed elements, and in all.
  static constexpr int in_eight = side * 8 / threads, elements = in_eight * step / 8;
  static_assert(step % 8 == 0 && side * 8 % threads == 0 && col_threads % 8 == 0 &&
                row_threads % 4 == 0);

  using Stage = real[step][padded];

  // The first row and column of this thread, and its i-th row and j-th column.
  static __device__ int first_row() {
    const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
    return (warp / (col_threads / 8) * 4 + lane / 8) * row_group;
  }
  static __device__ int first_col() {
    const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
    return (warp % (col_threads / 8) * 8 + lane % 8) * col_group;
  }
  static __device__ int row(int first, int i) {
    return first + i / row_group * (row_threads * row_group) + i % row_group;
  }
  static __device__ int col(int first, int j) {
    return first + j / col_group * (col_threads * col_group) + j % col_group;
  }
};

using WideTile = Tile<128, 8, 8>;   // 256 threads
using MiddleTile = Tile<64, 4, 4>;  // 256 threads
using SmallTile = Tile<32, 2, 4>;   // 128 threads
using TinyTile = Tile<16, 1, 2>;    // 128 threads

// Calls f with the tile to use for `loops` results of rows x cols: the largest one whose half is
// not enough for the result; wide and middle tiles only where there are 128 of them, so that a
// large device is not left idle. The bits do not depend on it.
template <class F>
void with_tile(int64_t loops, int64_t rows, int64_t cols, F f) {
  const int64_t least = std::min(rows, cols);
  const auto tiles = [&](int64_t side) {
    return loops * gpu::pieces(rows, side) * gpu::pieces(cols, side);
  };
  if (least > 64 && tiles(WideTile::side) >= 128) return f(WideTile{});
  if (least > 32 && tiles(MiddleTile::side) >= 128) return f(MiddleTile{});
  if (least > 16) return f(SmallTile{});
  return f(TinyTile{});
}

// sums_adjacent: summed elements are neighbours in memory; otherwise lines may be.
template <bool sums_adjacent, class SumOf>
struct Operand {
  const real* at;
  const int64_t* lines;  // [side] offsets, in shared memory
  SumOf sum_of;          // offset of a summed element
};

// An operand of which a part counts.
template <bool sums_adjacent, class SumOf>
struct PartOperand : Operand<sums_adjacent, SumOf> {
  Part part;
};
template <class X>
__device__ real counted(const X&, real x) {
  return x;
}
template <bool sums_adjacent, class SumOf>
__device__ real counted(const PartOperand<sums_adjacent, SumOf>& b, real x) {
  return (b.part == Part::positive) == (x > 0) ? x : real(0);
}

// Which elements of a stage a thread moves: in every 8 summed elements, element j of in_eight lies
// on line + j * line_step, at sum + j * sum_step.
//
// Where summed elements are adjacent, a warp reads 8 of them, a 32-byte sector, on each of 4 lines,
// and puts them into banks padded * sum + line: all different, thanks to the padding. Otherwise a
// warp reads and puts neighbouring lines.
struct Walk {
  int line, sum, line_step, sum_step;
};
template <class T, bool sums_adjacent, class SumOf>
__device__ Walk walk(const Operand<sums_adjacent, SumOf>&) {
  const auto t = int(threadIdx.x);
  if (sums_adjacent) return {t / 8, t % 8, T::threads / 8, 0};
  return {t % T::side, t / T::side, 0, T::threads / T::side};
}

// The thread's part of the stage that begins at summed element `first` and has `count`.
template <class T, class X>
__device__ void fetch(const X& x, const Walk& w, int64_t first, int count,
                      real (&part)[T::elements]) {
  for (int i = 0; i < T::elements; ++i) {
    const int j = i % T::in_eight, sum = w.sum + j * w.sum_step + i / T::in_eight * 8;
    const int line = w.line + j * w.line_step;
    part[i] = sum < count ? counted(x, x.at[x.lines[line] + x.sum_of(first + sum)]) : real(0);
  }
}
template <class T>
__device__ void put(const real (&part)[T::elements], const Walk& w, typename T::Stage& stage) {
  for (int i = 0; i < T::elements; ++i) {
    const int j = i % T::in_eight, sum = w.sum + j * w.sum_step + i / T::in_eight * 8;
    stage[sum][w.line + j * w.line_step] = part[i];
  }
}

template <class T>
__device__ void multiply(const typename T::Stage& a, const typename T::Stage& b, int row, int col,
                         int count, real (&acc)[T::row_each][T::col_each]) {
  WHENCE_UNROLL(T::unrolled)
  for (int x = 0; x < count; ++x) {
    real left[T::row_each], right[T::col_each];
    for (int i = 0; i < T::row_each; ++i) left[i] = a[x][T::row(row, i)];
    for (int j = 0; j < T::col_each; ++j) right[j] = b[x][T::col(col, j)];
    for (int i = 0; i < T::row_each; ++i)
      for (int j = 0; j < T::col_each; ++j) acc[i][j] = std::fma(left[i], right[j], acc[i][j]);
  }
}

// Calls store(row, col, sum) for the elements of the block's tile, of which rows x cols exist.
// Lines beyond those must have an offset that can be read. All threads of the block call.
template <class T, class A, class B, class Store>
__device__ void tile_product(const A& a, const B& b, int64_t sums, int rows, int cols,
                             Store store) {
  WHENCE_SHARED(real, stages, [2][2][T::step][T::padded]);
  const Walk walk_a = walk<T>(a), walk_b = walk<T>(b);
  const int first_row = T::first_row(), first_col = T::first_col();
  const bool owns = first_row < rows && first_col < cols;
  real acc[T::row_each][T::col_each] = {}, part_a[T::elements], part_b[T::elements];
  const auto count_at = [&](int64_t first) {
    return int(std::min<int64_t>(T::step, sums - first));
  };
  if (sums > 0) {
    fetch<T>(a, walk_a, 0, count_at(0), part_a);
    fetch<T>(b, walk_b, 0, count_at(0), part_b);
  }
  int stage = 0;
  for (int64_t first = 0; first < sums; first += T::step, stage ^= 1) {
    put<T>(part_a, walk_a, stages[stage][0]);
    put<T>(part_b, walk_b, stages[stage][1]);
    __syncthreads();
    const int64_t next = first + T::step;
    if (next < sums) {
      fetch<T>(a, walk_a, next, count_at(next), part_a);
      fetch<T>(b, walk_b, next, count_at(next), part_b);
    }
    if (!owns) continue;
    if (next <= sums)
      multiply<T>(stages[stage][0], stages[stage][1], first_row, first_col, T::step, acc);
    else  // not padded with zeros: fma(0, 0, -0) is 0
      multiply<T>(stages[stage][0], stages[stage][1], first_row, first_col, count_at(first), acc);
  }
  if (!owns) return;
  // One row at a time moves to the front, so that what `store` does is there once for each column
  // and not for each element.
  WHENCE_UNROLL(1)
  for (int i = 0; i < T::row_each; ++i) {
    const int row = T::row(first_row, i);
    WHENCE_UNROLL(T::col_each)
    for (int j = 0; j < T::col_each; ++j) {
      const int col = T::col(first_col, j);
      if (row < rows && col < cols) store(row, col, acc[0][j]);
    }
    for (int k = 0; k + 1 < T::row_each; ++k)
      for (int j = 0; j < T::col_each; ++j) acc[k][j] = acc[k + 1][j];
  }
}

}  // namespace
}  // namespace whence::k
