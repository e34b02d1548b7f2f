// Sums over any subset of five axes.
//
// Neighbouring axes of the same kind are merged first, so that at most two shapes of inner loop are
// left. Innermost axis kept: rows of x are added, in ascending order, to a row of y. Innermost axis
// summed: lane l of one vector adds elements l, l + lanes, ... of every run in ascending order, and
// the lanes are added at the end. Output elements go to threads. Reads x once; bound by memory.
#include <array>

#include "kernels/axes.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vec.h"

namespace whence::k {
namespace {

using namespace cpu;

// y[0, vecs * lanes) = scale * sum of the rows of x at the offsets of `summed`: one accumulator a
// vector, so that a row's part is read in one go.
template <int vecs>
void sum_columns(const real* x, const AxisPair& summed, int64_t rows, real scale, real* y) {
  Vec sum[vecs] = {};
  for (int64_t r = 0; r < rows; ++r) {
    const real* at = x + (summed.count == 1 ? r * summed.step[0] : summed.offset(r));
    for (int v = 0; v < vecs; ++v) sum[v] += load(at + v * lanes);
  }
  for (int v = 0; v < vecs; ++v) store(y + v * lanes, sum[v] * splat(scale));
}

void sum_rows(const real* x, const AxisPair& summed, real scale, int64_t width, real* y) {
  const int64_t rows = summed.total();
  int64_t i = 0;
  for (; i + 8 * lanes <= width; i += 8 * lanes) sum_columns<8>(x + i, summed, rows, scale, y + i);
  for (; i + lanes <= width; i += lanes) sum_columns<1>(x + i, summed, rows, scale, y + i);
  if (i == width) return;
  Vec sum{};
  for (int64_t r = 0; r < rows; ++r) sum += load(x + summed.offset(r) + i, width - i);
  store(y + i, sum * splat(scale), width - i);
}

real sum_runs(const real* x, const AxisPair& summed, real scale, int64_t run) {
  const int64_t runs = summed.total();
  Vec sum{};
  for (int64_t r = 0; r < runs; ++r) {
    const real* at = x + summed.offset(r);
    each_vec(run, [&](int64_t i, auto n) { sum += load(at + i, n); });
  }
  return sum_lanes(sum) * scale;
}

}  // namespace

void reduce_sum(Stream& s, const real* x, const std::array<int64_t, 5>& size,
                const std::array<bool, 5>& kept, real scale, real* y) {
  const SumLayout l = sum_layout(size, kept);
  const int64_t outputs = l.kept.total(), terms = l.summed.total();
  if (!l.inner_kept) {
    parallel_ranges(s, outputs, row_grain(terms * l.inner), [&](int64_t begin, int64_t end) {
      for (int64_t o = begin; o < end; ++o) {
        y[o] = sum_runs(x + l.kept.offset(o), l.summed, scale, l.inner);
      }
    });
    return;
  }
  // Pieces of 16 vectors of an output row, so that one long row is shared out as well.
  const int64_t piece = 16 * lanes;
  const int64_t pieces = (l.inner + piece - 1) / piece;
  parallel_ranges(s, outputs * pieces, row_grain(terms * piece), [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t o = item / pieces, i = item % pieces * piece;
      sum_rows(x + l.kept.offset(o) + i, l.summed, scale, std::min(piece, l.inner - i),
               y + o * l.inner + i);
    }
  });
}

}  // namespace whence::k
