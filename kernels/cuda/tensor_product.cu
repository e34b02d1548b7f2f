// Products on tensor cores: c = epilogue(a b^T) with the factors rounded to bf16 or tf32 and sums
// in f32 (mma.sync of compute capability 8.0 and later).
//
// `packed` holds b rounded, as rows [n][k]. A block of warps computes a tile of c in steps of 64
// bytes of k: 32 summed elements in bf16, 16 in tf32. Rows of both operands lie in shared memory
// 80 bytes apart: the eight 16-byte rows of an 8x8 matrix then start in different groups of four
// banks, so ldmatrix has no conflicts. b comes by asynchronous copies of 16 bytes, a through
// registers, where it is rounded; two stages take turns, one barrier for each step.
//
// To ldmatrix four tf32 are the same 16 bytes as eight bf16, so both formats share every address;
// they differ in the instruction and in how a is rounded. Every element is one chain over ascending
// k, whatever the tile, so bits do not depend on m. Bytes: a once (f32) for each tile of columns,
// b once (2 or 4 bytes) for each tile of rows, c once. Bound by the tensor cores for many rows, by
// reading b for few.
#include "kernels/cuda/epilogue.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/tensor_product.cuh"

#ifndef WHENCE_F64

namespace whence::k {
namespace {

struct InBf16 {
  using Element = gpu::Bf16;
  static constexpr int step = 32;
  static __device__ Element round(float x) { return gpu::to_bf16(x); }
  static __device__ void multiply(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    gpu::multiply_bf16(c, a, b);
  }
};
struct InTf32 {
  using Element = uint32_t;
  static constexpr int step = 16;
  static __device__ Element round(float x) { return gpu::to_tf32(x); }
  static __device__ void multiply(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    gpu::multiply_tf32(c, a, b);
  }
};

// A warp owns 16 row_blocks x 8 col_blocks elements; warps stand warp_rows x warp_cols.
template <int warp_rows, int warp_cols, int row_blocks_, int col_blocks_>
struct Warps {
  static constexpr int row_blocks = row_blocks_, col_blocks = col_blocks_;
  static constexpr int threads = 32 * warp_rows * warp_cols;
  static constexpr int rows = warp_rows * row_blocks * 16, cols = warp_cols * col_blocks * 8;
  static_assert(col_blocks % 2 == 0 && rows * 4 % threads == 0 && cols * 4 % threads == 0);
  static __device__ int first_row() { return int(threadIdx.x) / 32 / warp_cols * row_blocks * 16; }
  static __device__ int first_col() { return int(threadIdx.x) / 32 % warp_cols * col_blocks * 8; }
};
using WideWarps = Warps<2, 4, 4, 4>;   // 128 x 128, 256 threads
using SmallWarps = Warps<2, 2, 2, 4>;  // 64 x 64, 128 threads

constexpr int row_bytes = 80;  // 64 of data

template <class Format>
__global__ void tensor_pack_kernel(const real* b, int64_t n, int64_t k, int64_t stride_n,
                                   int64_t stride_k, typename Format::Element* packed) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < n * k) packed[i] = Format::round(b[i / k * stride_n + i % k * stride_k]);
}

// The rows of one operand's tile at one step, brought into shared memory.
template <class Format, class W>
struct Loader {
  using Element = typename Format::Element;
  static constexpr int each = W::rows * Format::step / W::threads;  // of a, by thread
  const real* a;
  int64_t a_stride, row, m, col, n, k;
  const Element* packed;

  // Lanes run along k: whole sectors of a's rows.
  __device__ void fetch_a(int64_t first, float (&part)[each]) const {
    for (int i = 0; i < each; ++i) {
      const int at = i * W::threads + int(threadIdx.x);
      const int64_t r = row + at / Format::step, x = first + at % Format::step;
      part[i] = r < m && x < k ? a[r * a_stride + x] : 0.f;
    }
  }
  __device__ void put_a(const float (&part)[each], unsigned char* stage) const {
    for (int i = 0; i < each; ++i) {
      const int at = i * W::threads + int(threadIdx.x);
      auto* line = reinterpret_cast<Element*>(stage + at / Format::step * row_bytes);
      line[at % Format::step] = Format::round(part[i]);
    }
  }
  // Four pieces of 16 bytes for each row.
  __device__ void copy_b(int64_t first, unsigned char* stage) const {
    constexpr int in_piece = 16 / int(sizeof(Element));
    for (auto i = int(threadIdx.x); i < W::cols * 4; i += W::threads) {
      const int64_t line = col + i / 4, x = first + i % 4 * in_piece;
      const bool present = line < n && x < k;
      gpu::copy_async(stage + i / 4 * row_bytes + i % 4 * 16, packed + (present ? line * k + x : 0),
                      present);
    }
    gpu::copy_async_commit();
  }
};

// acc += a b^T over the 64 bytes of a stage.
template <class Format, class W>
__device__ void multiply_stage(const unsigned char* a, const unsigned char* b,
                               float (&acc)[W::row_blocks][W::col_blocks][4]) {
  const int lane = int(threadIdx.x) % 32;
  // This lane's row of the four matrices of a 16 x 32-byte piece of a, and of b.
  const unsigned char* a_row =
      a + (W::first_row() + lane / 8 % 2 * 8 + lane % 8) * row_bytes + lane / 16 * 16;
  const unsigned char* b_row =
      b + (W::first_col() + lane / 16 * 8 + lane % 8) * row_bytes + lane / 8 % 2 * 16;
  for (int half = 0; half < 64; half += 32) {
    uint32_t right[W::col_blocks][2];
    for (int j = 0; j < W::col_blocks; j += 2) {
      uint32_t words[4];
      gpu::load_matrices(words, b_row + j * 8 * row_bytes + half);
      right[j][0] = words[0], right[j][1] = words[1];
      right[j + 1][0] = words[2], right[j + 1][1] = words[3];
    }
    for (int i = 0; i < W::row_blocks; ++i) {
      uint32_t left[4];
      gpu::load_matrices(left, a_row + i * 16 * row_bytes + half);
      for (int j = 0; j < W::col_blocks; ++j) Format::multiply(acc[i][j], left, right[j]);
    }
  }
}

template <class Format, class W>
__global__ void __launch_bounds__(W::threads)
    tensor_product_kernel(const real* a, int64_t a_stride, const typename Format::Element* packed,
                          int64_t m, int64_t n, int64_t k, Epilogue epilogue, real* c,
                          int64_t c_stride) {
  WHENCE_SHARED(unsigned char, stage_a, [2][W::rows * row_bytes]);
  WHENCE_SHARED(unsigned char, stage_b, [2][W::cols * row_bytes]);
  const int64_t across = gpu::pieces<int64_t>(n, W::cols);
  const int64_t row = int64_t(blockIdx.x) / across * W::rows;
  const int64_t col = int64_t(blockIdx.x) % across * W::cols;
  const Loader<Format, W> load{a, a_stride, row, m, col, n, k, packed};
  float acc[W::row_blocks][W::col_blocks][4] = {}, part[Loader<Format, W>::each];

  load.copy_b(0, stage_b[0]);
  load.fetch_a(0, part);
  int stage = 0;
  for (int64_t first = 0; first < k; first += Format::step, stage ^= 1) {
    load.put_a(part, stage_a[stage]);
    gpu::copy_async_wait<0>();
    // Everybody's part of this stage has come, and nobody reads the other stage any more.
    __syncthreads();
    if (const int64_t next = first + Format::step; next < k) {
      load.copy_b(next, stage_b[stage ^ 1]);
      load.fetch_a(next, part);
    }
    multiply_stage<Format, W>(stage_a[stage], stage_b[stage], acc);
  }

  // One element of every block at a time moves to the front, so that what `store` does is there
  // once for each column block and not for each element.
  const Finish store{epilogue, c, c_stride, row, col};
  const int lane = int(threadIdx.x) % 32;
  constexpr int elements = W::row_blocks * 4;
  WHENCE_UNROLL(1)
  for (int e = 0; e < elements; ++e) {
    const int r = W::first_row() + e / 4 * 16 + lane / 4 + e / 2 % 2 * 8;
    for (int j = 0; j < W::col_blocks; ++j) {
      const int l = W::first_col() + j * 8 + lane % 4 * 2 + e % 2;
      if (row + r < m && col + l < n) store(r, l, acc[0][j][0]);
      for (int x = 0; x + 1 < elements; ++x)
        acc[x / 4][j][x % 4] = acc[(x + 1) / 4][j][(x + 1) % 4];
    }
  }
}

template <class Format, class W>
void start(gpu::Stream& s, const real* a, int64_t a_stride, const real* packed, int64_t m,
           int64_t n, int64_t k, const Epilogue& epilogue, real* c, int64_t c_stride) {
  gpu::launch(s,
              {gpu::pieces<int64_t>(m, W::rows) * gpu::pieces<int64_t>(n, W::cols), W::threads, 0,
               "tensor_product"},
              tensor_product_kernel<Format, W>, a, a_stride,
              reinterpret_cast<const typename Format::Element*>(packed), m, n, k, epilogue, c,
              c_stride);
}

template <class Format>
void start(gpu::Stream& s, const real* a, int64_t a_stride, const real* packed, int64_t m,
           int64_t n, int64_t k, const Epilogue& epilogue, real* c, int64_t c_stride) {
  // Wide tiles where they give a large device enough blocks.
  if (gpu::pieces<int64_t>(m, WideWarps::rows) * gpu::pieces<int64_t>(n, WideWarps::cols) >= 128)
    start<Format, WideWarps>(s, a, a_stride, packed, m, n, k, epilogue, c, c_stride);
  else
    start<Format, SmallWarps>(s, a, a_stride, packed, m, n, k, epilogue, c, c_stride);
}

template <class Format>
void start_pack(gpu::Stream& s, const real* b, int64_t n, int64_t k, int64_t stride_n,
                int64_t stride_k, real* packed) {
  gpu::launch(s, {gpu::pieces<int64_t>(n * k, 256), 256, 0, "tensor_pack"},
              tensor_pack_kernel<Format>, b, n, k, stride_n, stride_k,
              reinterpret_cast<typename Format::Element*>(packed));
}

}  // namespace

void tensor_pack(gpu::Stream& s, const real* b, int64_t n, int64_t k, int64_t stride_n,
                 int64_t stride_k, real* packed) {
  if (s.precision == Precision::bf16)
    start_pack<InBf16>(s, b, n, k, stride_n, stride_k, packed);
  else
    start_pack<InTf32>(s, b, n, k, stride_n, stride_k, packed);
}

void tensor_product(gpu::Stream& s, const real* a, int64_t a_stride, const real* packed, int64_t m,
                    int64_t n, int64_t k, const Epilogue& epilogue, real* c, int64_t c_stride) {
  if (s.precision == Precision::bf16)
    start<InBf16>(s, a, a_stride, packed, m, n, k, epilogue, c, c_stride);
  else
    start<InTf32>(s, a, a_stride, packed, m, n, k, epilogue, c, c_stride);
}

}  // namespace whence::k

#endif
