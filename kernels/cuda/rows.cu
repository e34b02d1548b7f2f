// Layer norm, softmax, log-softmax: one warp for each row, eight rows in a block.
//
// Lane l owns the elements l, l + 32, ... of its row, so a warp's accesses are adjacent. The row is
// read from memory once and from L1 afterwards. Bytes per element: 8 forward, 12 backward; bound by
// memory.
#include <algorithm>
#include <limits>

#include "kernels/cuda/gpu.cuh"
#include "kernels/rows.h"

namespace whence::k {
namespace {

constexpr int warps = 8, threads = warps * gpu::warp_size;

__device__ inline int64_t row_of_warp() {
  return int64_t(blockIdx.x) * warps + threadIdx.x / gpu::warp_size;
}
__device__ inline int64_t first_col() { return threadIdx.x % gpu::warp_size; }

// sum over the row's columns of f(column), the same bits in every lane
template <class F>
__device__ real row_sum(int64_t cols, F f) {
  real sum = 0;
  for (int64_t c = first_col(); c < cols; c += gpu::warp_size) sum += f(c);
  return gpu::warp_sum(sum);
}

struct At {  // x[c]
  const real* x;
  __device__ real operator()(int64_t c) const { return x[c]; }
};
struct Square {  // (x[c] - mean)^2
  const real* x;
  real mean;
  __device__ real operator()(int64_t c) const { return (x[c] - mean) * (x[c] - mean); }
};

struct Statistics {
  real mean, rstd;  // rstd = 1 / sqrt(var + eps)
};

// Two passes: the variance is taken about the mean that was found, which does not cancel.
__device__ Statistics statistics(const real* x, real eps, int64_t cols) {
  const real mean = row_sum(cols, At{x}) / real(cols);
  return {mean, 1 / std::sqrt(row_sum(cols, Square{x, mean}) / real(cols) + eps)};
}

__global__ void layer_norm_kernel(const real* x, const real* weight, const real* bias, real eps,
                                  int64_t rows, int64_t cols, real* y) {
  const int64_t row = row_of_warp();
  if (row >= rows) return;
  const real* in = x + row * cols;
  const Statistics t = statistics(in, eps, cols);
  for (int64_t c = first_col(); c < cols; c += gpu::warp_size)
    y[row * cols + c] = std::fma((in[c] - t.mean) * t.rstd, weight[c], bias[c]);
}

struct ScaledCotangent {  // g = dy weight
  const real *dy, *weight;
  __device__ real operator()(int64_t c) const { return dy[c] * weight[c]; }
};
struct TimesNormalised {  // g h, h = (x - mean) rstd
  ScaledCotangent g;
  const real* x;
  Statistics t;
  __device__ real operator()(int64_t c) const { return g(c) * ((x[c] - t.mean) * t.rstd); }
};

// dx = rstd (g - mean(g) - h mean(g h))
__global__ void layer_norm_bwd_kernel(const real* x, const real* weight, const real* dy, real eps,
                                      int64_t rows, int64_t cols, real* dx) {
  const int64_t row = row_of_warp();
  if (row >= rows) return;
  const real* in = x + row * cols;
  const Statistics t = statistics(in, eps, cols);
  const ScaledCotangent g{dy + row * cols, weight};
  const real mean_g = row_sum(cols, g) / real(cols);
  const real mean_gh = row_sum(cols, TimesNormalised{g, in, t}) / real(cols);
  // dx may be dy: a lane reads each element before it writes it, and the sums are complete.
  for (int64_t c = first_col(); c < cols; c += gpu::warp_size) {
    const real h = (in[c] - t.mean) * t.rstd;
    dx[row * cols + c] = t.rstd * std::fma(h, -mean_gh, g(c) - mean_g);
  }
}

__global__ void statistics_kernel(const real* x, real eps, int64_t rows, int64_t cols,
                                  Statistics* all) {
  const int64_t row = row_of_warp();
  if (row >= rows) return;
  const Statistics t = statistics(x + row * cols, eps, cols);
  if (first_col() == 0) all[row] = t;
}

// A block owns 32 columns of a chunk of 256 rows. Thread row r adds rows r, r + 8, ... of the
// chunk, and the eight sums are added: an order that the number of rows alone decides.
constexpr int across = 32, down = threads / across;
constexpr int64_t chunk = 256;

// partial[k, c] = sum of chunk k of column c
__global__ void __launch_bounds__(threads)
    layer_norm_bwd_weight_kernel(const real* x, const real* dy, const Statistics* all, int64_t rows,
                                 int64_t cols, real* partial) {
  const int64_t blocks = gpu::pieces<int64_t>(cols, across), k = int64_t(blockIdx.x) / blocks;
  const int col = int(threadIdx.x) % across, row = int(threadIdx.x) / across;
  const int64_t c = (int64_t(blockIdx.x) - k * blocks) * across + col;
  const int64_t end = c < cols ? std::min((k + 1) * chunk, rows) : 0;
  real sum = 0;
  for (int64_t r = k * chunk + row; r < end; r += down)
    sum = std::fma(dy[r * cols + c], (x[r * cols + c] - all[r].mean) * all[r].rstd, sum);
  WHENCE_SHARED(real, sums, [down][across]);
  sums[row][col] = sum;
  __syncthreads();
  if (row > 0 || c >= cols) return;
  for (int r = 1; r < down; ++r) sum += sums[r][col];
  partial[k * cols + c] = sum;
}

// y[c] = sum of partial[k, c] over k, ascending
__global__ void sum_chunks_kernel(const real* partial, int64_t chunks, int64_t cols, real* y) {
  const int64_t c = int64_t(blockIdx.x) * threads + threadIdx.x;
  if (c >= cols) return;
  real sum = 0;
  for (int64_t k = 0; k < chunks; ++k) sum += partial[k * cols + c];
  y[c] = sum;
}

__device__ real row_max(const real* x, int64_t cols) {
  real top = -std::numeric_limits<real>::infinity();  // x[0] would race with y[0], which it may be
  for (int64_t c = first_col(); c < cols; c += gpu::warp_size) top = gpu::larger(top, x[c]);
  return gpu::warp_max(top);
}

__global__ void row_largest_kernel(const real* x, int64_t rows, int64_t cols, real* y) {
  const int64_t row = row_of_warp();
  if (row >= rows) return;
  const real top = row_max(x + row * cols, cols);
  if (first_col() == 0) y[row] = top;
}

struct Exp {  // exp(x[c] - top)
  const real* x;
  real top;
  __device__ real operator()(int64_t c) const { return std::exp(x[c] - top); }
};
struct Product {  // a[c] b[c]
  const real *a, *b;
  __device__ real operator()(int64_t c) const { return a[c] * b[c]; }
};

__global__ void softmax_kernel(const real* x, int64_t rows, int64_t cols, real* y) {
  const int64_t row = row_of_warp();
  if (row >= rows) return;
  const Exp e{x + row * cols, row_max(x + row * cols, cols)};
  const real sum = row_sum(cols, e);
  for (int64_t c = first_col(); c < cols; c += gpu::warp_size) y[row * cols + c] = e(c) / sum;
}

__global__ void softmax_bwd_kernel(const real* y, const real* dy, int64_t rows, int64_t cols,
                                   real* dx) {
  const int64_t row = row_of_warp();
  if (row >= rows) return;
  const Product p{y + row * cols, dy + row * cols};
  const real dot = row_sum(cols, p);
  for (int64_t c = first_col(); c < cols; c += gpu::warp_size)
    dx[row * cols + c] = p.a[c] * (p.b[c] - dot);
}

__global__ void log_softmax_kernel(const real* x, int64_t rows, int64_t cols, real* y) {
  const int64_t row = row_of_warp();
  if (row >= rows) return;
  const Exp e{x + row * cols, row_max(x + row * cols, cols)};
  const real log_sum = std::log(row_sum(cols, e));
  for (int64_t c = first_col(); c < cols; c += gpu::warp_size)
    y[row * cols + c] = (e.x[c] - e.top) - log_sum;
}

__global__ void log_softmax_bwd_kernel(const real* y, const real* dy, int64_t rows, int64_t cols,
                                       real* dx) {
  const int64_t row = row_of_warp();
  if (row >= rows) return;
  const real sum = row_sum(cols, At{dy + row * cols});
  for (int64_t c = first_col(); c < cols; c += gpu::warp_size)
    dx[row * cols + c] = std::fma(std::exp(y[row * cols + c]), -sum, dy[row * cols + c]);
}

int64_t blocks(int64_t rows, int64_t cols) {
  return cols > 0 ? gpu::pieces<int64_t>(std::max<int64_t>(rows, 0), warps) : 0;
}

}  // namespace

void layer_norm(gpu::Stream& s, const real* x, const real* weight, const real* bias, real eps,
                int64_t rows, int64_t cols, real* y) {
  gpu::launch(s, {blocks(rows, cols), threads}, layer_norm_kernel, x, weight, bias, eps, rows, cols,
              y);
}

void layer_norm_bwd(gpu::Stream& s, const real* x, const real* weight, const real* dy, real eps,
                    int64_t rows, int64_t cols, real* dx) {
  gpu::launch(s, {blocks(rows, cols), threads}, layer_norm_bwd_kernel, x, weight, dy, eps, rows,
              cols, dx);
}

void layer_norm_bwd_weight(gpu::Stream& s, const real* x, const real* dy, real eps, int64_t rows,
                           int64_t cols, real* dweight) {
  if (cols <= 0) return;
  const int64_t chunks = std::max<int64_t>(gpu::pieces(rows, chunk), 1);
  const size_t statistics_bytes = size_t(rows) * sizeof(Statistics);
  auto* room = static_cast<unsigned char*>(
      s.scratch(statistics_bytes + size_t(chunks * cols) * sizeof(real)));
  auto* all = reinterpret_cast<Statistics*>(room);
  real* partial = chunks > 1 ? reinterpret_cast<real*>(room + statistics_bytes) : dweight;
  gpu::launch(s, {blocks(rows, cols), threads}, statistics_kernel, x, eps, rows, cols, all);
  gpu::launch(s, {chunks * gpu::pieces<int64_t>(cols, across), threads},
              layer_norm_bwd_weight_kernel, x, dy, all, rows, cols, partial);
  if (chunks > 1)
    gpu::launch(s, {gpu::pieces<int64_t>(cols, threads), threads}, sum_chunks_kernel, partial,
                chunks, cols, dweight);
}

void row_largest(gpu::Stream& s, const real* x, int64_t rows, int64_t cols, real* y) {
  gpu::launch(s, {gpu::pieces<int64_t>(std::max<int64_t>(rows, 0), warps), threads},
              row_largest_kernel, x, rows, cols, y);
}

void softmax(gpu::Stream& s, const real* x, int64_t rows, int64_t cols, real* y) {
  gpu::launch(s, {blocks(rows, cols), threads}, softmax_kernel, x, rows, cols, y);
}

void softmax_bwd(gpu::Stream& s, const real* y, const real* dy, int64_t rows, int64_t cols,
                 real* dx) {
  gpu::launch(s, {blocks(rows, cols), threads}, softmax_bwd_kernel, y, dy, rows, cols, dx);
}

void log_softmax(gpu::Stream& s, const real* x, int64_t rows, int64_t cols, real* y) {
  gpu::launch(s, {blocks(rows, cols), threads}, log_softmax_kernel, x, rows, cols, y);
}

void log_softmax_bwd(gpu::Stream& s, const real* y, const real* dy, int64_t rows, int64_t cols,
                     real* dx) {
  gpu::launch(s, {blocks(rows, cols), threads}, log_softmax_bwd_kernel, y, dy, rows, cols, dx);
}

}  // namespace whence::k
