// What happens to a sum of a product before it is stored.
#pragma once

#include "kernels/cuda/gpu.cuh"
#include "kernels/product.h"

namespace whence::k {
namespace {

__device__ real activate(Unary f, real x) {
  switch (f) {
    case Unary::identity:
      break;
    case Unary::relu:
      return unary_value<Unary::relu>(x);
    case Unary::gelu:
      return unary_value<Unary::gelu>(x);
    case Unary::gelu_tanh:
      return unary_value<Unary::gelu_tanh>(x);
    case Unary::gelu_quick:
      return unary_value<Unary::gelu_quick>(x);
    case Unary::tanh:
      return unary_value<Unary::tanh>(x);
  }
  return x;
}

// c = activation(sum + bias) + residual, from the tile's first element on. The residual may be c:
// an element is read by the thread that writes it, before it does.
struct Finish {
  Epilogue e;
  real* c;
  int64_t c_stride, row, col;
  __device__ void operator()(int i, int j, real x) const {
    if (e.bias) x += e.bias[col + j];
    x = activate(e.activation, x);
    const int64_t at = (row + i) * c_stride + col + j;
    if (e.residual) x += e.residual[at];
    c[at] = x;
  }
};

}  // namespace
}  // namespace whence::k
