// Batch norm with the statistics of a trained model: one pass over dense rows in vectors, with the
// scale of each channel computed once for a range of rows. Moves 8 bytes per element; bound by
// memory.
#include "kernels/conv.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/scratch.h"

namespace whence::k {
namespace {

using namespace cpu;

const real* channel_scale(const real* weight, const real* variance, real eps, int64_t cols) {
  real* scale = scratch<struct Scale>(cols);
  for (int64_t c = 0; c < cols; ++c) scale[c] = weight[c] / std::sqrt(variance[c] + eps);
  return scale;
}

}  // namespace

void norm_scale(Stream&, const real* weight, const real* variance, real eps, int64_t cols,
                real* scale) {
  for (int64_t c = 0; c < cols; ++c) scale[c] = weight[c] / std::sqrt(variance[c] + eps);
}

void batch_norm(Stream& s, const real* x, const real* weight, const real* bias, const real* mean,
                const real* variance, real eps, int64_t rows, int64_t cols, real* y) {
  parallel_ranges(s, rows, row_grain(cols), [&](int64_t begin, int64_t end) {
    const real* scale = channel_scale(weight, variance, eps, cols);
    for (int64_t r = begin; r < end; ++r)
      each_vec(cols, [&](int64_t c, auto n) {
        const Vec centred = load(x + r * cols + c, n) - load(mean + c, n);
        store(y + r * cols + c, fma(centred, load(scale + c, n), load(bias + c, n)), n);
      });
  });
}

void batch_norm_bwd(Stream& s, const real* dy, const real* weight, const real* variance, real eps,
                    int64_t rows, int64_t cols, real* dx) {
  parallel_ranges(s, rows, row_grain(cols), [&](int64_t begin, int64_t end) {
    const real* scale = channel_scale(weight, variance, eps, cols);
    for (int64_t r = begin; r < end; ++r)
      each_vec(cols, [&](int64_t c, auto n) {
        store(dx + r * cols + c, load(dy + r * cols + c, n) * load(scale + c, n), n);
      });
  });
}

}  // namespace whence::k
