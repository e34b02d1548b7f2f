// Elementwise functions, broadcasting pairs, sums over axes, and block copies.
#pragma once

#include <array>

#include "kernels/kernel.h"
#include "kernels/scalar.h"
#include "kernels/unary.h"

namespace whence::k {

// (f(x) - f(x0)) / (x - x0), and f'(x) where x and the reference x0 differ by less than epsilon
// (DeepLIFT's Rescale rule, Shrikumar et al. 2017, arXiv 1704.02685).
template <class F, class T>
WHENCE_HD inline T rescale_slope(T x, T x0, T epsilon) {
  using M = Math<T>;
  const T d = x - x0, rise = F::value(x) - F::value(x0);
  const auto near = (d < epsilon) & (d > -epsilon);
  return M::where(near, F::slope(x), rise / M::where(near, M::constant(1), d));
}

// y = f(x). y may be x.
WHENCE_KERNEL(unary, Unary f, const real* x, int64_t count, real* y);
// dx = dy * f'(x). dx may be dy.
WHENCE_KERNEL(unary_bwd, Unary f, const real* x, const real* dy, int64_t count, real* dx);
// dx = dy * the slope of f between x and its reference (rescale_slope). `references` elements of
// x0 serve every so many of x in turn: all have one of their own, or all samples the same. dx may
// be dy.
WHENCE_KERNEL(rescale, Unary f, real epsilon, const real* x, const real* x0, int64_t references,
              const real* dy, int64_t count, real* dx);
// y = factor * x + shift. y may be x.
WHENCE_KERNEL(affine, const real* x, real factor, real shift, int64_t count, real* y);

// Index space of a broadcast: five sizes (leading ones are 1) and the step of each operand in
// elements (0 where it is broadcast). The result is dense.
struct Broadcast {
  std::array<int64_t, 5> size{1, 1, 1, 1, 1}, a{}, b{};
};
// y = f(a, b). y may be a or b where that operand is not broadcast.
WHENCE_KERNEL(binary, Binary f, const real* a, const real* b, const Broadcast& space, real* y);
// y = the quotient of a and b. y may be a or b likewise.
WHENCE_KERNEL(divide, Division how, real epsilon, const real* a, const real* b,
              const Broadcast& space, real* y);

// y = scale * sum of x over the axes where `kept` is false; x is dense of the given sizes, y is
// dense over the kept axes. Sums run in a fixed order that depends on the number of terms
// alone.
WHENCE_KERNEL(reduce_sum, const real* x, const std::array<int64_t, 5>& size,
              const std::array<bool, 5>& kept, real scale, real* y);

// state[slot[r], i] += weight[r] * x[r, i] for every row r of x [rows, count] in ascending order;
// rows with a negative slot are left out.
WHENCE_KERNEL(accumulate, const real* x, const real* weight, const int32_t* slot, int64_t rows,
              int64_t count, real* state);

// Copies `outer` blocks of `inner` adjacent elements; block i goes from src + i * src_step to
// dst + i * dst_step.
WHENCE_KERNEL(copy_blocks, const real* src, int64_t src_step, int64_t outer, int64_t inner,
              real* dst, int64_t dst_step);
// y[i * step] = value for i < count.
WHENCE_KERNEL(fill, real value, int64_t count, int64_t step, real* y);

// Non-overlapping patches: x [B, C, H, W] to y [B, (H/P)*(W/P), C*P*P]; patches in row-major order,
// elements of a patch as in a convolution weight (channel, row, column). H and W are multiples of
// P.
struct PatchSize {
  int64_t batch, channels, height, width, patch;
};
WHENCE_KERNEL(patchify, const real* x, const PatchSize& size, real* y);
// The inverse, which is also the gradient.
WHENCE_KERNEL(unpatchify, const real* y, const PatchSize& size, real* x);

}  // namespace whence::k
