// What happens to a sum of a product before it is stored.
#pragma once

#include "kernels/cuda/gpu.cuh"
#include "kernels/product.h"

namespace whence::k {
namespace {

template <class... F>
__device__ real activate(Unary f, real x, List<F...>) {
  (void)((f == Unary(F{}) && (x = F::value(x), true)) || ...);
  return x;
}

// What becomes of the sum x for element `at` of the result, in column `col`.
__device__ real finished(const Epilogue& e, real x, int64_t col, int64_t at) {
  if (e.bias) x += e.bias[col];
  if (e.residual && e.residual_first) x += e.residual[at];
  x = activate(e.activation, x, Functions{});
  if (e.residual && !e.residual_first) x += e.residual[at];
  return x;
}

// Stores finished sums from the tile's first element on. The residual may be c:
// an element is read by the thread that writes it, before it does.
struct Finish {
  Epilogue e;
  real* c;
  int64_t c_stride, row, col;
  __device__ void operator()(int i, int j, real x) const {
    const int64_t at = (row + i) * c_stride + col + j;
    c[at] = finished(e, x, col + j, at);
  }
};

}  // namespace
}  // namespace whence::k
