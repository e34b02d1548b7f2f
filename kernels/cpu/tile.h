// The inner loop of every product: a tile of c in registers.
//
//   c[i, j] (+)= sum_x a(i, x) * panel[x, j]        i < rows, j < vecs * lanes, x ascending
//
// `panel` holds panel_width columns of b side by side: element (x, j) at panel[x * panel_width +
// j]. Elements of `a` are broadcast from where they lie. For each x the tile loads `vecs` vectors
// of the panel, broadcasts `rows` elements and does rows * vecs fused multiply-adds, each into its
// own accumulator; with 14 x 2 of them two FMA units that take 4 cycles are always busy.
//
// An element of c is one chain of multiply-adds in ascending x, whatever tile it falls into and
// however the sum is cut into calls with `add`: the bits are those of the scalar loop.
#pragma once

#include <array>

#include "kernels/cpu/vec.h"

namespace whence::cpu {
inline namespace WHENCE_ISA {

// Rows of the largest tile: accumulators, the panel's vectors and one broadcast fill the registers
// (32 of them with AVX-512 and on 64-bit ARM, 16 otherwise).
#if defined(WHENCE_SMALL_TILES)
inline constexpr int tile_rows = 3;  // same bits; instrumented, large tiles take minutes to compile
#elif defined(__AVX512F__) || defined(__aarch64__)
inline constexpr int tile_rows = 14;
#else
inline constexpr int tile_rows = 6;
#endif
inline constexpr int panel_vecs = 2;
inline constexpr int panel_width = panel_vecs * lanes;

// Where the elements of a tile's left operand lie: a(i, x) = at[i * row + x * sum]. One of the two
// steps is 1.
struct Left {
  const real* at;
  int64_t row, sum;
};

// Memory that will be wanted soon: the tile asks for `step` bytes of it per summed element, into
// L2.
struct Ahead {
  const char* at = nullptr;
  int64_t step = 0;
};

// f(0), ..., f(n - 1) with constant arguments: what keeps the accumulators in registers throughout,
// where a loop over an array would pass them through memory before and after the sum.
#define WHENCE_INLINE __attribute__((always_inline))
template <int n, class F>
WHENCE_INLINE inline void unrolled(F&& f) {
  [&]<int... i>(std::integer_sequence<int, i...>) WHENCE_INLINE {
    (f(std::integral_constant<int, i>()), ...);
  }
  (std::make_integer_sequence<int, n>());
}

// Which part of the panel's elements count.
struct Whole {
  static Vec of(Vec b) { return b; }
};
struct Positive {
  static Vec of(Vec b) { return larger(b, Vec{}); }
};
struct Negative {
  static Vec of(Vec b) { return smaller(b, Vec{}); }
};

template <int rows, int vecs, bool rows_adjacent, bool add, class Part>
void tile_of(const Left& a, const real* panel, int64_t sums, real* c, int64_t c_stride,
             const Ahead& next) {
  Vec acc[rows * vecs];
  unrolled<rows * vecs>([&](auto i) WHENCE_INLINE {
    acc[i] = add ? load(c + i / vecs * c_stride + i % vecs * lanes) : Vec{};
  });
  const real* at = a.at;
  const int64_t step = rows_adjacent ? a.sum : a.row;
  const char* ahead = next.at;
  for (int64_t x = 0; x < sums; ++x) {
    Vec b[vecs];
    unrolled<vecs>([&](auto v) WHENCE_INLINE { b[v] = Part::of(load(panel + v * lanes)); });
    unrolled<rows>([&](auto i) WHENCE_INLINE {
      const Vec ai = splat(rows_adjacent ? at[i] : at[i * step]);
      unrolled<vecs>([&](auto v)
                         WHENCE_INLINE { acc[i * vecs + v] = fma(ai, b[v], acc[i * vecs + v]); });
    });
    __builtin_prefetch(ahead, 0, 2);
    ahead += next.step;
    panel += panel_width;
    at += rows_adjacent ? step : 1;
  }
  unrolled<rows * vecs>(
      [&](auto i) WHENCE_INLINE { store(c + i / vecs * c_stride + i % vecs * lanes, acc[i]); });
}

using Tile = void (*)(const Left&, const real*, int64_t, real*, int64_t, const Ahead&);

template <int vecs, bool rows_adjacent, bool add, class Part = Whole, int... rows>
constexpr std::array<Tile, sizeof...(rows)> tiles_of(std::integer_sequence<int, rows...>) {
  return {&tile_of<rows + 1, vecs, rows_adjacent, add, Part>...};
}

// Computes rows x width of c from one panel, 1 <= rows <= tile_rows, 1 <= width <= panel_width. c
// has room for whole vectors: ceil(width / lanes) * lanes columns are written.
inline void tile(int64_t rows, int64_t width, const Left& a, const real* panel, int64_t sums,
                 real* c, int64_t c_stride, bool add, const Ahead& next = {}) {
  using Rows = std::make_integer_sequence<int, tile_rows>;
  static constexpr std::array<Tile, tile_rows> kinds[2][2][panel_vecs] = {
      {{tiles_of<1, false, false>(Rows()), tiles_of<2, false, false>(Rows())},
       {tiles_of<1, false, true>(Rows()), tiles_of<2, false, true>(Rows())}},
      {{tiles_of<1, true, false>(Rows()), tiles_of<2, true, false>(Rows())},
       {tiles_of<1, true, true>(Rows()), tiles_of<2, true, true>(Rows())}}};
  const bool rows_adjacent = a.sum != 1;
  kinds[rows_adjacent][add][width > lanes][size_t(rows - 1)](a, panel, sums, c, c_stride, next);
}

// The same with a part of the panel, for left operands whose summed elements are adjacent.
template <class Part>
void part_tile(int64_t rows, int64_t width, const Left& a, const real* panel, int64_t sums, real* c,
               int64_t c_stride, const Ahead& next) {
  using Rows = std::make_integer_sequence<int, tile_rows>;
  static constexpr std::array<Tile, tile_rows> kinds[panel_vecs] = {
      tiles_of<1, false, false, Part>(Rows()), tiles_of<2, false, false, Part>(Rows())};
  kinds[width > lanes][size_t(rows - 1)](a, panel, sums, c, c_stride, next);
}

// Cuts [0, count) into pieces of at most `most`, as equal as possible: piece i is [cut(i), cut(i +
// 1)).
struct Cuts {
  int64_t count, pieces;
  Cuts(int64_t count_, int64_t most) : count(count_), pieces((count_ + most - 1) / most) {}
  int64_t cut(int64_t i) const { return count * i / pieces; }
  int64_t longest() const { return pieces > 0 ? (count + pieces - 1) / pieces : 0; }
};

}  // namespace WHENCE_ISA
}  // namespace whence::cpu
