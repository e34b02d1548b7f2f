// Sums over any subset of five axes.
//
// Neighbouring axes of the same kind are merged first. The terms of a result, counted row-major
// over the summed axes, are cut into chunks of a fixed length; a chunk is one sum in a fixed order,
// and so is the sum of the chunks: the order is a function of the number of terms alone.
//   innermost axis kept:   a block owns adjacent results, one in each column of its threads; the
//                          thread in row r adds terms r, r + down, ... and the rows are added.
//   innermost axis summed: a warp owns a result; lane l adds terms l, l + 32, ... and the lanes are
//                          added.
// Chunks are the second dimension of the work. Reads x once; bound by memory.
#include <algorithm>

#include "kernels/axes.h"
#include "kernels/cuda/gpu.cuh"
#include "kernels/elementwise.h"

namespace whence::k {
namespace {

constexpr int threads = 256, warps = threads / gpu::warp_size;
// Terms of a result that one column of a block, or one warp, adds.
constexpr int64_t column_chunk = 256, row_chunk = 1024;

// What is summed: a term's number has three digits, of the two summed axes and the innermost one
// (size 1 where that is kept).
struct Terms {
  AxisPair outer;
  int64_t inner;
  __device__ int64_t total() const { return outer.total() * inner; }
};

// sum of the terms first, first + stride, ... below end, at x. The digits of the stride are added
// to those of the place, with carries, as a division for each term would cost more than its load.
__device__ real sum_terms(const real* x, const Terms& t, int64_t first, int64_t stride,
                          int64_t end) {
  if (first >= end) return 0;
  const int64_t n2 = t.inner, n1 = t.outer.size[1];
  const int64_t by2 = stride % n2, by1 = stride / n2 % n1, by0 = stride / n2 / n1;
  int64_t i2 = first % n2, i1 = first / n2 % n1, i0 = first / n2 / n1;
  real sum = 0;
  for (int64_t at = first; at < end; at += stride) {
    sum += x[i0 * t.outer.step[0] + i1 * t.outer.step[1] + i2];
    i2 += by2;
    const bool carry2 = i2 >= n2;
    i2 -= carry2 ? n2 : 0;
    i1 += by1 + carry2;
    const bool carry1 = i1 >= n1;
    i1 -= carry1 ? n1 : 0;
    i0 += by0 + carry1;
  }
  return sum;
}

// partial[c, o] = scale * sum of chunk c of the terms of result o
template <int down>
__global__ void __launch_bounds__(threads)
    columns_kernel(const real* x, SumLayout l, int64_t outputs, int64_t length, real scale,
                   real* partial) {
  constexpr int across = threads / down;
  const int64_t blocks = gpu::pieces<int64_t>(outputs, across);
  const int64_t c = int64_t(blockIdx.x) / blocks;
  const int col = int(threadIdx.x) % across, row = int(threadIdx.x) / across;
  const int64_t o = (int64_t(blockIdx.x) - c * blocks) * across + col;
  const Terms t{l.summed, 1};
  real sum = 0;
  if (o < outputs) {
    const real* at = x + l.kept.offset(o / l.inner) + o % l.inner;
    sum = sum_terms(at, t, c * length + row, down, std::min((c + 1) * length, t.total()));
  }
  if constexpr (down > 1) {
    WHENCE_SHARED(real, sums, [down][across]);
    sums[row][col] = sum;
    __syncthreads();
    for (int r = 1; r < down && row == 0; ++r) sum += sums[r][col];
  }
  if (row == 0 && o < outputs) partial[c * outputs + o] = sum * scale;
}

__global__ void __launch_bounds__(threads)
    rows_kernel(const real* x, SumLayout l, int64_t outputs, int64_t chunks, int64_t length,
                real scale, real* partial) {
  const int64_t item = int64_t(blockIdx.x) * warps + threadIdx.x / gpu::warp_size;
  if (item >= outputs * chunks) return;
  const int64_t c = item / outputs, o = item - c * outputs;
  const int lane = int(threadIdx.x) % gpu::warp_size;
  const Terms t{l.summed, l.inner};
  const real sum = gpu::warp_sum(sum_terms(x + l.kept.offset(o), t, c * length + lane,
                                           gpu::warp_size, std::min((c + 1) * length, t.total())));
  if (lane == 0) partial[item] = sum * scale;
}

// partial[c, o] for all chunks of `length` terms.
void sum_chunks(gpu::Stream& s, const real* x, const SumLayout& l, int64_t outputs, int64_t chunks,
                int64_t length, real scale, real* partial) {
  const char* name = "reduce_sum";
  const auto shape = [&](int64_t items, int64_t in_a_block) {
    return gpu::Launch(gpu::pieces(items, in_a_block), threads, 0, name);
  };
  if (!l.inner_kept) {
    gpu::launch(s, shape(outputs * chunks, warps), rows_kernel, x, l, outputs, chunks, length,
                scale, partial);
  } else if (l.summed.total() <= 16) {  // too few terms to share out
    gpu::launch(s, shape(outputs, threads), columns_kernel<1>, x, l, outputs, length, scale,
                partial);
  } else {
    constexpr int down = 8, across = threads / down;
    gpu::Launch all = shape(outputs, across);
    all.blocks.x *= unsigned(chunks);
    gpu::launch(s, all, columns_kernel<down>, x, l, outputs, length, scale, partial);
  }
}

}  // namespace

void reduce_sum(gpu::Stream& s, const real* x, const std::array<int64_t, 5>& size,
                const std::array<bool, 5>& kept, real scale, real* y) {
  const SumLayout l = sum_layout(size, kept);
  const int64_t outputs = l.kept.total() * (l.inner_kept ? l.inner : 1);
  const int64_t terms = l.summed.total() * (l.inner_kept ? 1 : l.inner);
  if (outputs <= 0) return;
  const int64_t length = l.inner_kept ? column_chunk : row_chunk;
  const int64_t chunks = gpu::pieces(terms, length);
  if (chunks <= 1) return sum_chunks(s, x, l, outputs, 1, length, scale, y);
  auto* partial = static_cast<real*>(s.scratch(size_t(chunks * outputs) * sizeof(real)));
  sum_chunks(s, x, l, outputs, chunks, length, 1, partial);
  SumLayout of_chunks;  // by columns even where there is one result
  of_chunks.inner = outputs;
  of_chunks.summed.push(chunks, outputs);
  sum_chunks(s, partial, of_chunks, outputs, 1, chunks, scale, y);
}

}  // namespace whence::k
