// Products of matrices: the one inner loop that everything linear goes through.
//
// Letters: m rows of a, n columns (rows of b), k summed. The bits of an element of c depend neither
// on m, nor on the tile it falls into, nor on the number of threads: it is a chain of fused
// multiply-adds in ascending k (on the CPU product() adds up chains of 256), or on a GPU what one
// algorithm of cuBLASLt makes of it, which is chosen by everything but m.
#pragma once

#include <array>

#include "kernels/kernel.h"
#include "kernels/unary.h"

namespace whence::k {

// Number of reals that `pack` writes for an operand of n rows and k summed elements.
int64_t packed_count(int64_t n, int64_t k);

// Copies b, whose element (n, k) lies at b[n * stride_n + k * stride_k], into the panels that
// `product` reads. Weights are packed once, when they are bound.
WHENCE_KERNEL(pack, const real* b, int64_t n, int64_t k, int64_t stride_n, int64_t stride_k,
              real* packed);

// What happens to a sum before it is stored: c = activation(sum + bias[n]) + residual[m, n], or
// activation(sum + bias[n] + residual[m, n]) with residual_first.
struct Epilogue {
  const real* bias = nullptr;  // [n]
  Unary activation = Identity{};
  const real* residual = nullptr;  // same layout as c; may be c itself
  bool residual_first = false;
};

// c[m, n] = epilogue(sum_k a[m, k] * b[n, k]). Rows of a and of c are a_stride and c_stride apart,
// elements inside a row are adjacent.
WHENCE_KERNEL(product, const real* a, int64_t a_stride, const real* packed, int64_t m, int64_t n,
              int64_t k, const Epilogue& epilogue, real* c, int64_t c_stride);

// Which part of the right operand counts.
enum class Part : uint8_t {
  all,
  positive,  // max(b, 0)
  negative,  // min(b, 0)
};
// The same with a part of b: rules of relevance that tell signs apart read the weights that the
// network itself has packed. Computed in f32, from what `pack` writes in f32.
WHENCE_KERNEL(part_product, Part part, const real* a, int64_t a_stride, const real* packed,
              int64_t m, int64_t n, int64_t k, const Epilogue& epilogue, real* c, int64_t c_stride);

// One group of adjacent letters of an einsum: its size and the step each operand takes for it
// (0 where the operand does not have it).
struct Axis {
  int64_t size = 1, a = 0, b = 0, c = 0;
};
// The letters of a two-operand einsum by role. `loops` are in the result and in one or both
// operands; `rows` in a and c; `cols` in b and c; `sums` in a and b.
struct Contraction {
  static constexpr int max_groups = 5;  // one for each axis a tensor can have
  struct Role {
    std::array<Axis, max_groups> axes{};
    int count = 0;
  };
  Role loops, rows, cols, sums;
};
// c = sum over `sums` of a * b, times scale. Strides are arbitrary. One row or one column (a vector
// times a matrix) reads the matrix once, unpacked.
WHENCE_KERNEL(contract, const real* a, const real* b, real* c, const Contraction& letters,
              real scale);

}  // namespace whence::k
