// Einsums of two operands with arbitrary strides.
//
// The general path cuts the result into blocks of rows x columns. A block packs its columns of b
// into panels and gathers its rows of a where they do not already lie as a tile reads them, some
// hundred summed elements at a time, and multiplies them with the tiles of the plain product. A
// vector times a matrix reads the matrix once from where it lies: down its columns if they are
// adjacent in memory, else transposing lanes x lanes elements in registers. Everywhere an element
// is one chain of multiply-adds in ascending order of the sum. Blocks go to threads.
//
// Bytes: both operands and the result about once (each operand again for every 100 to 250 rows or
// columns of the other). Bound by the FMA units, or by reading the matrix for a vector.
#include <span>

#include "kernels/cpu/panel.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/transpose.h"
#include "kernels/product.h"

namespace whence::k {
namespace {

using namespace cpu;

constexpr int64_t block_rows = 8 * tile_rows, block_sums = 512;
constexpr int64_t block_cols = (256 + panel_width - 1) / panel_width * panel_width;
// Multiply-adds that are worth a thread.
constexpr int64_t work_per_thread = 1 << 18;

using Offsets = std::span<const int64_t>;

int64_t extent(const Contraction::Role& role) {
  int64_t n = 1;
  for (int i = 0; i < role.count; ++i) n *= role.axes[size_t(i)].size;
  return n;
}

// Writes the offsets of one operand for every index of a role, row-major over the role's axes, and
// moves `to` behind them.
Offsets offsets(const Contraction::Role& role, int64_t Axis::*step, int64_t*& to) {
  int64_t* const out = to;
  const int64_t count = extent(role);
  if (count > 0) out[0] = 0;
  // Axis by axis, the last index first: what an index becomes lies where no earlier one does.
  for (int64_t i = 0, have = 1; i < role.count && count > 0; ++i) {
    const Axis& axis = role.axes[size_t(i)];
    for (int64_t at = have; at-- > 0;)
      for (int64_t j = axis.size; j-- > 0;) out[at * axis.size + j] = out[at] + j * (axis.*step);
    have *= axis.size;
  }
  to += count;
  return {out, size_t(count)};
}

// The common distance of the offsets [first, first + count), or 0 if there is none. A single offset
// counts as adjacent to the next one.
int64_t step_of(Offsets at, int64_t first, int64_t count) {
  if (count <= 1) return 1;
  const int64_t step = at[size_t(first + 1)] - at[size_t(first)];
  for (int64_t i = first + 1; i + 1 < first + count; ++i) {
    if (at[size_t(i + 1)] - at[size_t(i)] != step) return 0;
  }
  return step;
}

struct Index {
  Offsets loops_a, loops_b, loops_c, rows_a, rows_c, cols_b, cols_c, sums_a, sums_b;
  // How many offsets there are.
  static int64_t count(const Contraction& l) {
    return 3 * extent(l.loops) + 2 * (extent(l.rows) + extent(l.cols) + extent(l.sums));
  }
  Index(const Contraction& l, int64_t* at)
      : loops_a(offsets(l.loops, &Axis::a, at)),
        loops_b(offsets(l.loops, &Axis::b, at)),
        loops_c(offsets(l.loops, &Axis::c, at)),
        rows_a(offsets(l.rows, &Axis::a, at)),
        rows_c(offsets(l.rows, &Axis::c, at)),
        cols_b(offsets(l.cols, &Axis::b, at)),
        cols_c(offsets(l.cols, &Axis::c, at)),
        sums_a(offsets(l.sums, &Axis::a, at)),
        sums_b(offsets(l.sums, &Axis::b, at)) {}
  int64_t loops() const { return int64_t(loops_a.size()); }
  int64_t rows() const { return int64_t(rows_a.size()); }
  int64_t cols() const { return int64_t(cols_b.size()); }
  int64_t sums() const { return int64_t(sums_a.size()); }
};

// The same einsum with a and b exchanged; multiplication commutes, so the bits are the same.
Contraction exchanged(Contraction l) {
  std::swap(l.rows, l.cols);
  for (auto* role : {&l.loops, &l.rows, &l.cols, &l.sums})
    for (Axis& axis : role->axes) std::swap(axis.a, axis.b);
  return l;
}

void store_scaled(const real* sums, int64_t count, real scale, Offsets cols_c, int64_t first,
                  real* c) {
  const int64_t* at = cols_c.data() + first;
  if (step_of(cols_c, first, count) == 1) {
    real* to = c + at[0];
    each_vec(count, [&](int64_t i, auto n) { store(to + i, load(sums + i, n) * splat(scale), n); });
  } else {
    for (int64_t i = 0; i < count; ++i) c[at[i]] = sums[i] * scale;
  }
}

// What a thread needs for blocks of at most so many rows and columns: rows of a that were gathered,
// panels of b, sums.
struct BlockParts {
  Layout layout;
  int64_t rows, panels, sums;
  BlockParts(int64_t most_rows, int64_t most_cols, int64_t most_sums)
      : rows(layout.add(most_rows * (most_sums + lanes))),
        panels(layout.add(panels_count(most_cols, most_sums))),
        sums(layout.add(most_rows * sums_stride(most_cols))) {}
  static int64_t sums_stride(int64_t cols) { return (cols + lanes - 1) / lanes * lanes; }
};

// One block of the result of one loop index.
struct Block {
  const Index& x;
  const real *a, *b;  // of this loop index
  int64_t row, rows, col, cols;
  const BlockParts& parts;
  real* scratch;

  // Sums [from, from + count) cut where the step of `at` changes: f(first, count, step).
  template <class F>
  static void each_run(Offsets at, int64_t from, int64_t count, F&& f) {
    for (int64_t i = from; i < from + count;) {
      const int64_t step = i + 1 < from + count ? at[size_t(i + 1)] - at[size_t(i)] : 1;
      int64_t end = i + 1;
      while (end < from + count && at[size_t(end)] - at[size_t(end - 1)] == step) ++end;
      f(i, end - i, step);
      i = end;
    }
  }

  Left gather_rows(int64_t from, int64_t count) const {
    const int64_t row_step = step_of(x.rows_a, row, rows),
                  sum_step = step_of(x.sums_a, from, count);
    const real* at = a + x.rows_a[size_t(row)] + x.sums_a[size_t(from)];
    const bool collides = row_step * int64_t(sizeof(real)) % 2048 == 0;
    if (row_step > 0 && sum_step == 1 && !collides) return {at, row_step, 1};
    if (row_step == 1 && sum_step > 1) return {at, 1, sum_step};
    const int64_t stride = count + lanes;
    real* copy = scratch + parts.rows;
    for (int64_t i = 0; i < rows; ++i) {
      const real* line = a + x.rows_a[size_t(row + i)];
      real* to = copy + i * stride - from;
      each_run(x.sums_a, from, count, [&](int64_t first, int64_t n, int64_t step) {
        const real* source = line + x.sums_a[size_t(first)];
        for (int64_t j = 0; j < n; ++j) to[first + j] = source[j * step];
      });
    }
    return {copy, stride, 1};
  }

  const real* pack_cols(int64_t from, int64_t count) const {
    real* panels = scratch + parts.panels;
    for (int64_t j = 0; j < cols; j += panel_width) {
      const int64_t width = std::min<int64_t>(panel_width, cols - j);
      const int64_t col_step = step_of(x.cols_b, col + j, width);
      const int64_t* at = x.cols_b.data() + col + j;
      each_run(x.sums_b, from, count, [&](int64_t first, int64_t n, int64_t step) {
        real* panel = panels + j * count + (first - from) * panel_width;
        const real* source = b + x.sums_b[size_t(first)];
        if (col_step != 0) {
          pack_panel(source + at[0], width, n, col_step, step, panel);
          return;
        }
        for (int64_t s = 0; s < n; ++s)
          for (int64_t i = 0; i < panel_width; ++i) {
            panel[s * panel_width + i] = i < width ? source[at[i] + s * step] : real(0);
          }
      });
    }
    return panels;
  }

  void compute(real scale, real* c) const {
    const int64_t stride = BlockParts::sums_stride(cols);
    real* sums = scratch + parts.sums;
    if (x.sums() == 0) std::fill_n(sums, rows * stride, real(0));
    for (int64_t from = 0; from < x.sums(); from += block_sums) {
      const int64_t count = std::min(block_sums, x.sums() - from);
      const real* panels = pack_cols(from, count);
      multiply(gather_rows(from, count), rows, panels, cols, count, sums, stride, from > 0);
    }
    for (int64_t i = 0; i < rows; ++i) {
      store_scaled(sums + i * stride, cols, scale, x.cols_c, col, c + x.rows_c[size_t(row + i)]);
    }
  }
};

void blocks(const Stream& s, const real* a, const real* b, real* c, const Index& x, real scale) {
  int64_t rows = std::min(block_rows, x.rows()), cols = std::min(block_cols, x.cols());
  const int64_t work = x.rows() * x.cols() * std::max<int64_t>(x.sums(), 1);
  const int64_t threads =
      std::clamp<int64_t>(x.loops() * work / work_per_thread, 1, std::max(s.threads, 1));
  // Smaller blocks where there would be too few to share out evenly.
  while (threads > 1 && cols > panel_width &&
         x.loops() * Cuts(x.rows(), rows).pieces * Cuts(x.cols(), cols).pieces < 4 * threads) {
    cols = std::max<int64_t>(panel_width, cols / 2 / panel_width * panel_width);
  }
  const Cuts down(x.rows(), rows), across(x.cols(), cols);
  const int64_t items = x.loops() * down.pieces * across.pieces;
  const Stream team{int(threads), s.loan};
  const BlockParts parts(down.longest(), across.longest(), std::min(block_sums, x.sums()));
  const Scratch<real> scratch(s, workers(team, items), parts.layout.total());
  parallel_items(team, items, [&](int64_t item, int64_t worker) {
    const int64_t j = item % across.pieces, i = item / across.pieces % down.pieces;
    const auto loop = size_t(item / across.pieces / down.pieces);
    const Block block{x,
                      a + x.loops_a[loop],
                      b + x.loops_b[loop],
                      down.cut(i),
                      down.cut(i + 1) - down.cut(i),
                      across.cut(j),
                      across.cut(j + 1) - across.cut(j),
                      parts,
                      scratch.of(worker)};
    block.compute(scale, c + x.loops_c[loop]);
  });
}

// sums[j] = sum_x a[x * a_step] * b[j + x * b_step], j < cols <= 4 lanes: down the columns.
template <int vecs>
void down_columns(const real* a, int64_t a_step, const real* b, int64_t b_step, int64_t sums,
                  int64_t cols, real* out) {
  Vec acc[vecs] = {};
  const int64_t whole = (vecs - 1) * lanes, rest = cols - whole;
  for (int64_t x = 0; x < sums; ++x) {
    const Vec ax = splat(a[x * a_step]);
    const real* row = b + x * b_step;
    for (int v = 0; v + 1 < vecs; ++v) acc[v] = fma(ax, load(row + v * lanes), acc[v]);
    const Vec last = rest == lanes ? load(row + whole) : load(row + whole, rest);
    acc[vecs - 1] = fma(ax, last, acc[vecs - 1]);
  }
  for (int v = 0; v < vecs; ++v) store(out + v * lanes, acc[v]);
}

// sums[j] = sum_x a[x * a_step] * b[j * b_step + x], j < cols <= lanes.
void along_rows(const real* a, int64_t a_step, const real* b, int64_t b_step, int64_t sums,
                int64_t cols, real* out) {
  Vec acc{};
  for (int64_t x = 0; x < sums; x += lanes) {
    const int64_t depth = std::min<int64_t>(lanes, sums - x);
    Vec t[lanes];
    for (int64_t j = 0; j < lanes; ++j) {
      const real* row = b + j * b_step + x;
      t[j] = j >= cols ? Vec{} : depth == lanes ? load(row) : load(row, depth);
    }
    transpose(t);
    for (int64_t i = 0; i < depth; ++i) acc = fma(splat(a[(x + i) * a_step]), t[i], acc);
  }
  store(out, acc);
}

// One row of the result per loop index, with one step along the columns and one along the sum.
bool vector_path(const Stream& s, const real* a, const real* b, real* c, const Index& x,
                 real scale) {
  const int64_t col_step = step_of(x.cols_b, 0, x.cols()),
                sum_step = step_of(x.sums_b, 0, x.sums()), a_step = step_of(x.sums_a, 0, x.sums());
  if (x.rows() != 1 || a_step == 0 || sum_step == 0 || col_step == 0) return false;
  const bool down = col_step == 1;
  if (!down && sum_step != 1) return false;
  constexpr int64_t piece = 4 * lanes;
  const int64_t pieces = (x.cols() + piece - 1) / piece;
  parallel_ranges(
      s, x.loops() * pieces, row_grain(piece * x.sums()), [&](int64_t begin, int64_t end) {
        alignas(vec_bytes) real sums[piece];
        for (int64_t item = begin; item < end; ++item) {
          const auto loop = size_t(item / pieces);
          const int64_t first = item % pieces * piece, cols = std::min(piece, x.cols() - first);
          const real* vector = a + x.loops_a[loop];
          const real* matrix = b + x.loops_b[loop] + first * col_step;
          if (down) {
            constexpr decltype(&down_columns<1>) kinds[] = {down_columns<1>, down_columns<2>,
                                                            down_columns<3>, down_columns<4>};
            kinds[(cols - 1) / lanes](vector, a_step, matrix, sum_step, x.sums(), cols, sums);
          } else {
            for (int64_t j = 0; j < cols; j += lanes) {
              along_rows(vector, a_step, matrix + j * col_step, col_step, x.sums(),
                         std::min<int64_t>(lanes, cols - j), sums + j);
            }
          }
          store_scaled(sums, cols, scale, x.cols_c, first, c + x.loops_c[loop]);
        }
      });
  return true;
}

// One element of the result per loop index: nothing to share between elements.
void single_elements(const Stream& s, const real* a, const real* b, real* c, const Index& x,
                     real scale) {
  parallel_ranges(s, x.loops(), row_grain(4 * x.sums()), [&](int64_t begin, int64_t end) {
    for (int64_t loop = begin; loop < end; ++loop) {
      const real *pa = a + x.loops_a[size_t(loop)], *pb = b + x.loops_b[size_t(loop)];
      Vec sum{};
      for (size_t i = 0; i < x.sums_a.size(); ++i) {
        sum = fma(splat(pa[x.sums_a[i]]), splat(pb[x.sums_b[i]]), sum);
      }
      c[x.loops_c[size_t(loop)]] = sum[0] * scale;
    }
  });
}

}  // namespace

void contract(Stream& s, const real* a, const real* b, real* c, const Contraction& letters,
              real scale) {
  const Scratch<int64_t> memory(s, 1, Index::count(letters));
  Index x(letters, memory.of(0));
  if (x.loops() == 0 || x.rows() == 0 || x.cols() == 0) return;
  if (x.rows() == 1 && x.cols() == 1) return single_elements(s, a, b, c, x, scale);
  // Columns are the side that is stored in vectors, and the side of the matrix for a vector.
  const bool rows_adjacent = step_of(x.rows_c, 0, x.rows()) == 1;
  const bool cols_adjacent = step_of(x.cols_c, 0, x.cols()) == 1;
  if (x.rows() > 1 && (x.cols() == 1 || (rows_adjacent && !cols_adjacent))) {
    std::swap(a, b);
    x = Index(exchanged(letters), memory.of(0));
  }
  if (!vector_path(s, a, b, c, x, scale)) blocks(s, a, b, c, x, scale);
}

}  // namespace whence::k
