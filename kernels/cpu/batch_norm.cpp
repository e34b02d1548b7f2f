// Batch norm with the statistics of a trained model: one pass over dense rows in vectors, with the
// scale of each channel computed once. Moves 8 bytes per element; bound by
// memory.
#include "kernels/conv.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/vec.h"

namespace whence::k {
namespace {

using namespace cpu;

// f(row, scale) for every row, in ranges of rows.
template <class F>
void each_row(Stream& s, const real* weight, const real* variance, real eps, int64_t rows,
              int64_t cols, F&& f) {
  const Scratch<real> scale(s, 1, cols);
  norm_scale(s, weight, variance, eps, cols, scale.of(0));
  parallel_ranges(s, rows, row_grain(cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) f(r, scale.of(0));
  });
}

}  // namespace

void norm_scale(Stream& s, const real* weight, const real* variance, real eps, int64_t cols,
                real* scale) {
  if (s.asking()) return;
  for (int64_t c = 0; c < cols; ++c) scale[c] = weight[c] / std::sqrt(variance[c] + eps);
}

void batch_norm(Stream& s, const real* x, const real* weight, const real* bias, const real* mean,
                const real* variance, real eps, int64_t rows, int64_t cols, real* y) {
  each_row(s, weight, variance, eps, rows, cols, [&](int64_t r, const real* scale) {
    each_vec(cols, [&](int64_t c, auto n) {
      const Vec centred = load(x + r * cols + c, n) - load(mean + c, n);
      store(y + r * cols + c, fma(centred, load(scale + c, n), load(bias + c, n)), n);
    });
  });
}

void batch_norm_bwd(Stream& s, const real* dy, const real* weight, const real* variance, real eps,
                    int64_t rows, int64_t cols, real* dx) {
  each_row(s, weight, variance, eps, rows, cols, [&](int64_t r, const real* scale) {
    each_vec(cols, [&](int64_t c, auto n) {
      store(dx + r * cols + c, load(dy + r * cols + c, n) * load(scale + c, n), n);
    });
  });
}

}  // namespace whence::k
