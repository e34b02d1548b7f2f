// Pictures of maps.
//
// A block of 512 threads makes a map's plane: thread t owns the cells t, t + 512, ... and sums
// their channels, the block finds the range, and every thread scales what it wrote. A thread draws
// a pixel. Bytes: 4 for each element of the map, 12 for each cell; 6 for each pixel, whose reads of
// the plane come from the caches. Bound by memory, or where doubles are slow by the 20 operations
// on them that a pixel takes.
#include <limits>

#include "kernels/cuda/gpu.cuh"
#include "kernels/picture.h"

namespace whence::k {
namespace {

constexpr int threads = 512, warps = threads / gpu::warp_size;
constexpr int draw_threads = 256;

// A value and where it is: of equal ones (zeros have signs) the range takes the first of the least
// and the last of the largest. NaN, once met, stays.
struct Found {
  real value;
  int64_t at;
};
__device__ Found least(const Found& a, const Found& b) {
  if (a.value != a.value) return a;
  const bool second =
      b.value != b.value || b.value < a.value || (b.value == a.value && b.at < a.at);
  return second ? b : a;
}
__device__ Found largest(const Found& a, const Found& b) {
  return b.value > a.value || (b.value == a.value && b.at > a.at) ? b : a;
}
__device__ Found from_lane(const Found& f, int distance) {
  return {__shfl_xor_sync(gpu::full_warp, f.value, distance),
          __shfl_xor_sync(gpu::full_warp, f.at, distance)};
}

// Sums over the channels, in ascending order, of the absolute values.
__device__ real cell_of(const Picture& p, int64_t cells, int64_t i) {
  if (!p.absolute) return p.map[i];
  real sum = 0;
  for (int64_t c = 0; c < p.channels; ++c) sum += std::abs(p.map[c * cells + i]);
  return sum;
}

__global__ void __launch_bounds__(threads) scale_maps_kernel(const Picture* pictures) {
  const Picture p = pictures[blockIdx.x];
  const int64_t cells = p.map_height * p.map_width;
  constexpr real endless = std::numeric_limits<real>::infinity();
  constexpr real nan = std::numeric_limits<real>::quiet_NaN();
  Found low{endless, cells}, high{-endless, -1};
  for (int64_t i = threadIdx.x; i < cells; i += threads) {
    const real value = cell_of(p, cells, i);
    p.plane[i] = value;
    low = least(low, {value - value == 0 ? value : nan, i});
    high = largest(high, {value, i});
  }
  for (int distance = 16; distance > 0; distance /= 2) {
    low = least(low, from_lane(low, distance));
    high = largest(high, from_lane(high, distance));
  }
  WHENCE_SHARED(Found, lows, [warps]);
  WHENCE_SHARED(Found, highs, [warps]);
  const int warp = int(threadIdx.x) / gpu::warp_size;
  if (threadIdx.x % gpu::warp_size == 0) {
    lows[warp] = low;
    highs[warp] = high;
  }
  __syncthreads();
  for (int w = 0; w < warps; ++w) {
    low = least(low, lows[w]);
    high = largest(high, highs[w]);
  }
  if (low.value != low.value || cells == 0) low.value = high.value = nan;
  const MapScale scale(low.value, high.value);
  for (int64_t i = threadIdx.x; i < cells; i += threads)
    p.plane[i] = scale.flat ? real(0) : scale(p.plane[i]);
  if (threadIdx.x > 0) return;
  p.range[0] = low.value;
  p.range[1] = high.value;
}

__global__ void __launch_bounds__(draw_threads)
    draw_maps_kernel(const Picture* pictures, int64_t blocks_each) {
  const int64_t picture = int64_t(blockIdx.x) / blocks_each;
  const int64_t pixel = (int64_t(blockIdx.x) - picture * blocks_each) * draw_threads + threadIdx.x;
  const Picture& p = pictures[picture];
  if (pixel >= p.height * p.width) return;
  const int64_t y = pixel / p.width, x = pixel - y * p.width;
  const uint8_t* from = p.image + 3 * pixel;
  uint8_t* to = p.drawn + 3 * pixel;
  if (!is_seen(p, x, y)) {
    draw_dim(from, to);
    return;
  }
  const double opacity = MapScale(p.range[0], p.range[1]).flat ? 0 : p.opacity;
  draw_over(p, opacity, across_map(p, x), down_map(p, y), from, to);
}

}  // namespace

void scale_maps(gpu::Stream& s, const Picture* pictures, int64_t count) {
  if (count > 0) gpu::launch(s, {count, threads}, scale_maps_kernel, pictures);
}

void draw_maps(gpu::Stream& s, const Picture* pictures, int64_t count, int64_t most_pixels) {
  if (count <= 0 || most_pixels <= 0) return;
  const int64_t blocks_each = gpu::pieces<int64_t>(most_pixels, draw_threads);
  gpu::launch(s, {count * blocks_each, draw_threads}, draw_maps_kernel, pictures, blocks_each);
}

}  // namespace whence::k
