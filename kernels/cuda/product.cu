// Products with plain rows as right operand and a fused epilogue: by the library where it can
// (library_product.cu), else by the kernel below.
//
// `packed` holds b as rows [n][k], k adjacent: both operands are read alike, in sectors of 32 bytes
// along k (tile.cuh). A block computes a tile of c; the blocks of one strip of rows are neighbours,
// so that the strip stays in L2. Bytes: a once for each 32 to 128 columns, b once for each 32 to
// 128 rows, c once. Bound by the FMA units, for few rows by reading b.
#include "kernels/cuda/epilogue.cuh"
#include "kernels/cuda/library_product.cuh"
#include "kernels/cuda/tensor_product.cuh"
#include "kernels/cuda/tile.cuh"
#include "kernels/product.h"

namespace whence::k {
namespace {

constexpr int pack_side = 32, pack_lines = 8;

// A block copies pack_side x pack_side elements, 8 lines at a time, through shared memory: the
// lanes of a warp run along the side of b that is adjacent in memory, and then along k. The odd
// width keeps a column's elements in different banks.
__global__ void pack_kernel(const real* b, int64_t n, int64_t k, int64_t stride_n, int64_t stride_k,
                            real* packed) {
  WHENCE_SHARED(real, square, [pack_side][pack_side + 1]);  // [n][k]
  const int64_t across = gpu::pieces<int64_t>(k, pack_side);
  const int64_t row = int64_t(blockIdx.x) / across * pack_side;
  const int64_t col = int64_t(blockIdx.x) % across * pack_side;
  const bool rows_adjacent = stride_n < stride_k;
  const auto lane = int(threadIdx.x % pack_side), line = int(threadIdx.x / pack_side);
  for (int l = line; l < pack_side; l += pack_lines) {
    const int i = rows_adjacent ? lane : l, j = rows_adjacent ? l : lane;
    if (row + i < n && col + j < k) square[i][j] = b[(row + i) * stride_n + (col + j) * stride_k];
  }
  __syncthreads();
  for (int l = line; l < pack_side; l += pack_lines)
    if (row + l < n && col + lane < k) packed[(row + l) * k + col + lane] = square[l][lane];
}

struct Adjacent {
  __device__ int64_t operator()(int64_t i) const { return i; }
};

using Rows = Operand<true, Adjacent>;
// The right operand on its lines.
struct Whole {
  const real* packed;
  __device__ Rows on(const int64_t* lines) const { return {packed, lines, {}}; }
};
struct PartOf {
  const real* packed;
  Part part;
  __device__ PartOperand<true, Adjacent> on(const int64_t* lines) const {
    return {{packed, lines, {}}, part};
  }
};

template <class T, class Right>
__global__ void __launch_bounds__(T::threads, T::resident)
    product_kernel(const real* a, int64_t a_stride, Right right, int64_t m, int64_t n, int64_t k,
                   Epilogue epilogue, real* c, int64_t c_stride) {
  WHENCE_SHARED(int64_t, lines, [2][T::side]);
  const int64_t across = gpu::pieces<int64_t>(n, T::side);
  const int64_t row = int64_t(blockIdx.x) / across * T::side;
  const int64_t col = int64_t(blockIdx.x) % across * T::side;
  for (auto t = int(threadIdx.x); t < T::side; t += T::threads) {
    lines[0][t] = std::min(row + t, m - 1) * a_stride;
    lines[1][t] = std::min(col + t, n - 1) * k;
  }
  __syncthreads();
  tile_product<T>(
      Rows{a, lines[0], {}}, right.on(lines[1]), k, int(std::min<int64_t>(T::side, m - row)),
      int(std::min<int64_t>(T::side, n - col)), Finish{epilogue, c, c_stride, row, col});
}

template <class Right>
void start(gpu::Stream& s, const char* name, const real* a, int64_t a_stride, Right right,
           int64_t m, int64_t n, int64_t k, const Epilogue& epilogue, real* c, int64_t c_stride) {
  with_tile(1, m, n, [&](auto tile) {
    using T = decltype(tile);
    gpu::launch(
        s,
        {gpu::pieces<int64_t>(m, T::side) * gpu::pieces<int64_t>(n, T::side), T::threads, 0, name},
        product_kernel<T, Right>, a, a_stride, right, m, n, k, epilogue, c, c_stride);
  });
}

}  // namespace

void pack(gpu::Stream& s, const real* b, int64_t n, int64_t k, int64_t stride_n, int64_t stride_k,
          real* packed) {
  if (n <= 0 || k <= 0) return;
  if (on_tensor_cores(s.precision, k)) return tensor_pack(s, b, n, k, stride_n, stride_k, packed);
  gpu::launch(s,
              {gpu::pieces<int64_t>(n, pack_side) * gpu::pieces<int64_t>(k, pack_side),
               pack_side * pack_lines},
              pack_kernel, b, n, k, stride_n, stride_k, packed);
}

void product(gpu::Stream& s, const real* a, int64_t a_stride, const real* packed, int64_t m,
             int64_t n, int64_t k, const Epilogue& epilogue, real* c, int64_t c_stride) {
  if (m <= 0 || n <= 0) return;
  if (library_product(s, a, a_stride, packed, m, n, k, epilogue, c, c_stride)) return;
  if (on_tensor_cores(s.precision, k))
    return tensor_product(s, a, a_stride, packed, m, n, k, epilogue, c, c_stride);
  start(s, "product", a, a_stride, Whole{packed}, m, n, k, epilogue, c, c_stride);
}

void part_product(gpu::Stream& s, Part part, const real* a, int64_t a_stride, const real* packed,
                  int64_t m, int64_t n, int64_t k, const Epilogue& epilogue, real* c,
                  int64_t c_stride) {
  if (m <= 0 || n <= 0) return;
  if (part == Part::all) return product(s, a, a_stride, packed, m, n, k, epilogue, c, c_stride);
  start(s, "part_product", a, a_stride, PartOf{packed, part}, m, n, k, epilogue, c, c_stride);
}

}  // namespace whence::k
