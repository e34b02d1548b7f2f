// Pooling: a thread owns an element of the result, neighbouring threads neighbouring channels.
//
// A warp reads the same window position of 32 channels: whole sectors. Bytes: x once (windows that
// overlap, or a maximum that is looked for again, read it from L1 and L2), the result once; bound
// by those reads.
#include <limits>

#include "kernels/cuda/gpu.cuh"
#include "kernels/pool.h"

namespace whence::k {
namespace {

constexpr int threads = 256;

// A thread's element in an image [batch, height, width, channels].
struct Cell {
  int64_t b, y, x, c;
};
__device__ Cell cell(int64_t i, int64_t height, int64_t width, int64_t channels) {
  const int64_t pixel = i / channels, line = pixel / width;
  return {line / height, line % height, pixel - line * width, i - pixel * channels};
}
__device__ int64_t element() { return int64_t(blockIdx.x) * threads + threadIdx.x; }

// The largest element of a window so far; a later one must be larger, or NaN.
struct Best {
  real value = -std::numeric_limits<real>::infinity();
  int64_t place = -1;  // in the image [height][width]
  __device__ void meet(real v, int64_t at) {
    if (v > value || v != v) {
      value = v;
      place = at;
    }
  }
};

// `image` is the channel's element of the first pixel.
__device__ Best best_of(const PoolSize& z, Span down, Span across, const real* image) {
  Best best;
  for (int64_t y = down.begin; y < down.end; ++y)
    for (int64_t x = across.begin; x < across.end; ++x) {
      const int64_t place = y * z.width + x;
      best.meet(image[place * z.channels], place);
    }
  return best;
}

__global__ void __launch_bounds__(threads)
    max_pool_kernel(const real* x, PoolSize z, int64_t count, real* y) {
  const int64_t i = element();
  if (i >= count) return;
  const Cell at = cell(i, z.out_height, z.out_width, z.channels);
  const real* image = x + at.b * z.height * z.width * z.channels + at.c;
  y[i] = best_of(z, window_span(z, at.y, z.height), window_span(z, at.x, z.width), image).value;
}

__global__ void __launch_bounds__(threads)
    max_pool_bwd_kernel(const real* x, const real* dy, PoolSize z, int64_t count, real* dx) {
  const int64_t i = element();
  if (i >= count) return;
  const Cell at = cell(i, z.height, z.width, z.channels);
  const real* image = x + at.b * z.height * z.width * z.channels + at.c;
  const Span rows = windows_of(z, at.y, z.out_height), cols = windows_of(z, at.x, z.out_width);
  real sum = 0;
  for (int64_t h = rows.begin; h < rows.end; ++h)
    for (int64_t w = cols.begin; w < cols.end; ++w) {
      const Best best = best_of(z, window_span(z, h, z.height), window_span(z, w, z.width), image);
      if (best.place == at.y * z.width + at.x)
        sum += dy[((at.b * z.out_height + h) * z.out_width + w) * z.channels + at.c];
    }
  dx[i] = sum;
}

__global__ void __launch_bounds__(threads)
    max_pool_rescale_kernel(real epsilon, const real* x, const real* x0, int64_t references,
                            const real* dy, PoolSize z, int64_t count, real* dx) {
  const int64_t i = element();
  if (i >= count) return;
  const Cell at = cell(i, z.height, z.width, z.channels);
  const int64_t sample = z.height * z.width * z.channels;
  const real* image = x + at.b * sample + at.c;
  const real* reference = x0 + at.b % references * sample + at.c;
  const int64_t here = at.y * z.width + at.x;
  const Span rows = windows_of(z, at.y, z.out_height), cols = windows_of(z, at.x, z.out_width);
  const real d = image[here * z.channels] - reference[here * z.channels];
  const bool near = d < epsilon && d > -epsilon;
  real sum = 0;
  for (int64_t h = rows.begin; h < rows.end; ++h)
    for (int64_t w = cols.begin; w < cols.end; ++w) {
      const Span down = window_span(z, h, z.height), across = window_span(z, w, z.width);
      Best y, y0;
      WHENCE_UNROLL(1)  // 60 registers; unrolled both ways 104
      for (int64_t r = down.begin; r < down.end; ++r) {
        WHENCE_UNROLL(1)
        for (int64_t c = across.begin; c < across.end; ++c) {
          const int64_t place = r * z.width + c;
          y.meet(image[place * z.channels], place);
          y0.meet(reference[place * z.channels], place);
        }
      }
      const real top = gpu::larger(y.value, y0.value);
      real share = 0;
      if (y.place == here) share = near ? real(1) : top - y0.value;
      if (y0.place == here && !near) share += y.value - top;
      sum += share * dy[((at.b * z.out_height + h) * z.out_width + w) * z.channels + at.c];
    }
  dx[i] = near ? sum : sum / d;
}

__global__ void __launch_bounds__(threads)
    average_pool_kernel(const real* x, PoolSize z, bool count_padding, int64_t count, real* y) {
  const int64_t i = element();
  if (i >= count) return;
  const Cell at = cell(i, z.out_height, z.out_width, z.channels);
  const real* image = x + at.b * z.height * z.width * z.channels + at.c;
  const Span down = window_span(z, at.y, z.height), across = window_span(z, at.x, z.width);
  real sum = 0;
  for (int64_t h = down.begin; h < down.end; ++h)
    for (int64_t w = across.begin; w < across.end; ++w)
      sum += image[(h * z.width + w) * z.channels];
  y[i] = sum / real(window_count(z, at.y, z.height, count_padding) *
                    window_count(z, at.x, z.width, count_padding));
}

__global__ void __launch_bounds__(threads)
    average_pool_bwd_kernel(const real* dy, PoolSize z, bool count_padding, int64_t count,
                            real* dx) {
  const int64_t i = element();
  if (i >= count) return;
  const Cell at = cell(i, z.height, z.width, z.channels);
  const Span rows = windows_of(z, at.y, z.out_height), cols = windows_of(z, at.x, z.out_width);
  real sum = 0;
  for (int64_t h = rows.begin; h < rows.end; ++h)
    for (int64_t w = cols.begin; w < cols.end; ++w)
      sum += dy[((at.b * z.out_height + h) * z.out_width + w) * z.channels + at.c] /
             real(window_count(z, h, z.height, count_padding) *
                  window_count(z, w, z.width, count_padding));
  dx[i] = sum;
}

int64_t inputs(const PoolSize& z) { return z.batch * z.height * z.width * z.channels; }
int64_t outputs(const PoolSize& z) { return z.batch * z.out_height * z.out_width * z.channels; }
int64_t blocks(int64_t count) { return gpu::pieces<int64_t>(count, threads); }

}  // namespace

void max_pool(gpu::Stream& s, const real* x, const PoolSize& size, real* y) {
  const int64_t count = outputs(size);
  gpu::launch(s, {blocks(count), threads}, max_pool_kernel, x, size, count, y);
}

void max_pool_bwd(gpu::Stream& s, const real* x, const real* dy, const PoolSize& size, real* dx) {
  const int64_t count = inputs(size);
  gpu::launch(s, {blocks(count), threads}, max_pool_bwd_kernel, x, dy, size, count, dx);
}

void max_pool_rescale(gpu::Stream& s, real epsilon, const real* x, const real* x0,
                      int64_t references, const real* dy, const PoolSize& size, real* dx) {
  const int64_t count = inputs(size);
  gpu::launch(s, {blocks(count), threads}, max_pool_rescale_kernel, epsilon, x, x0, references, dy,
              size, count, dx);
}

void average_pool(gpu::Stream& s, const real* x, const PoolSize& size, bool count_padding,
                  real* y) {
  const int64_t count = outputs(size);
  gpu::launch(s, {blocks(count), threads}, average_pool_kernel, x, size, count_padding, count, y);
}

void average_pool_bwd(gpu::Stream& s, const real* dy, const PoolSize& size, bool count_padding,
                      real* dx) {
  const int64_t count = inputs(size);
  gpu::launch(s, {blocks(count), threads}, average_pool_bwd_kernel, dy, size, count_padding, count,
              dx);
}

}  // namespace whence::k
