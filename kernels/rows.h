// Operations on the rows of a matrix: layer norm, softmax, log-softmax. x is [rows, cols], dense.
#pragma once

#include "kernels/kernel.h"

namespace whence::k {

// y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias, with the biased variance
// (Ba, Kiros and Hinton 2016). weight and bias are [cols].
WHENCE_KERNEL(layer_norm, const real* x, const real* weight, const real* bias, real eps,
              int64_t rows, int64_t cols, real* y);
// dx for the above; statistics are recomputed from x. dx may be dy.
WHENCE_KERNEL(layer_norm_bwd, const real* x, const real* weight, const real* dy, real eps,
              int64_t rows, int64_t cols, real* dx);
// dweight = sum_rows dy * normalised(x), rows added in a fixed order that depends on their
// number alone. (The bias's gradient is a plain reduce_sum of dy.)
WHENCE_KERNEL(layer_norm_bwd_weight, const real* x, const real* dy, real eps, int64_t rows,
              int64_t cols, real* dweight);

// y[r] = the largest element of row r; NaN if there is one, -infinity for an empty row.
WHENCE_KERNEL(row_largest, const real* x, int64_t rows, int64_t cols, real* y);

// y = exp(x) / sum exp(x), computed from x - max(x). y may be x.
WHENCE_KERNEL(softmax, const real* x, int64_t rows, int64_t cols, real* y);
// dx = y * (dy - sum(y * dy)). dx may be dy.
WHENCE_KERNEL(softmax_bwd, const real* y, const real* dy, int64_t rows, int64_t cols, real* dx);
// y = x - max(x) - log(sum exp(x - max(x))). y may be x.
WHENCE_KERNEL(log_softmax, const real* x, int64_t rows, int64_t cols, real* y);
// dx = dy - exp(y) * sum(dy). dx may be dy.
WHENCE_KERNEL(log_softmax_bwd, const real* y, const real* dy, int64_t rows, int64_t cols, real* dx);

}  // namespace whence::k
