// Convolutions as gathered products (tile.cuh), depthwise ones directly, and batch norm.
//
// A block computes a tile of result pixels x result channels of one group. A row of its left
// operand is a result pixel: its summed elements (taps, then channels) lie in the source where the
// taps reach, and are 0 outside the image. `packed` holds the weights as rows [to][taps][from] of
// each phase and group, so channels are adjacent in both operands: sectors of 32 bytes as in
// product.cu. Bytes: the source once for each tap and strip of channels (mostly from L2), the
// weights once for each tile of pixels, the result once. Bound by the FMA units; for groups of few
// channels by the empty columns of a tile. cuDNN comes first where it is there (library_conv.cu).
//
// Depthwise: a thread owns an element of the result, neighbours are channels. Bound by the reads
// of its taps from L1 and L2.
#include "kernels/conv.h"
#include "kernels/cuda/epilogue.cuh"
#include "kernels/cuda/library_conv.cuh"
#include "kernels/cuda/tile.cuh"

namespace whence::k {
namespace {

constexpr int threads = 256;

// A place in the source, or the way from one to another: the offset of the element and, for what
// is outside the image, row and column.
struct Place {
  int64_t at;
  int32_t y, x;
};
__device__ inline Place operator+(const Place& a, const Place& b) {
  return {a.at + b.at, a.y + b.y, a.x + b.x};
}

// The source as tile.cuh indexes it: 0 outside the image.
struct Source {
  const real* data;
  uint32_t height, width;
  __device__ real operator[](const Place& p) const {
    return uint32_t(p.y) < height && uint32_t(p.x) < width ? data[p.at] : real(0);
  }
};

struct Adjacent {
  __device__ int64_t operator()(int64_t i) const { return i; }
};

// An operand of tile_product whose lines and summed elements are places.
template <bool sums_adjacent, class SumOf>
struct Gathered {
  Source at;
  const Place* lines;  // [side], in shared memory
  SumOf sum_of;
};
template <class T, bool sums_adjacent, class SumOf>
__device__ Walk walk(const Gathered<sums_adjacent, SumOf>&) {
  return walk<T>(Operand<sums_adjacent, Adjacent>{});
}

struct Strided {
  int64_t step;
  __device__ int64_t operator()(int64_t i) const { return i * step; }
};

// Summed element -> the way from a pixel's first tap to it. A kernel has fewer than 2^32 elements.
struct ToTap {
  const Gather& g;  // the kernel's argument: its numbers need no registers
  __device__ Place operator()(int64_t sum) const {
    const auto from = uint32_t(g.from), across = uint32_t(g.across.taps);
    const uint32_t tap = uint32_t(sum) / from, channel = uint32_t(sum) - tap * from;
    const uint32_t i = tap / across, j = tap - i * across;
    const int32_t y = int32_t(i) * int32_t(g.down.hop), x = int32_t(j) * int32_t(g.across.hop);
    const int64_t pixel = int64_t(y) * int32_t(g.source_width) + x;
    return {pixel * (g.groups * g.from) + channel, y, x};
  }
};

// Result pixel -> the place of its first tap, channel 0.
struct ToPixel {
  const Gather& g;
  __device__ Place operator()(int64_t row) const {
    const int64_t v = row % g.across.count, line = row / g.across.count;
    const int64_t u = line % g.down.count, b = line / g.down.count;
    const int64_t y = u * g.down.stride + g.down.offset, x = v * g.across.stride + g.across.offset;
    return {((b * g.source_height + y) * g.source_width + x) * g.groups * g.from, int32_t(y),
            int32_t(x)};
  }
};

// The offset of a result pixel.
__device__ int64_t result_at(const Gather& g, int64_t row) {
  const int64_t v = row % g.across.count, line = row / g.across.count;
  const int64_t u = line % g.down.count, b = line / g.down.count;
  const int64_t y = g.down.first + u * g.down.step, x = g.across.first + v * g.across.step;
  return ((b * g.result_height + y) * g.result_width + x) * g.groups * g.to;
}

struct FinishPixels {
  Epilogue e;
  real* result;
  const int64_t* pixels;  // offsets of the tile's pixels, in shared memory
  int64_t col;
  __device__ void operator()(int i, int j, real x) const {
    const int64_t at = pixels[i] + col + j;
    result[at] = finished(e, x, col + j, at);
  }
};

// A block's group and first row and column there; tiles of one strip of rows are neighbours.
struct Corner {
  int64_t group, row, col;
};
__device__ Corner corner(int64_t rows, int64_t cols, int64_t side) {
  const int64_t across = gpu::pieces<int64_t>(cols, side), down = gpu::pieces<int64_t>(rows, side);
  const int64_t block = blockIdx.x, strip = block / across;
  return {strip / down, strip % down * side, block % across * side};
}

template <class T>
__global__ void __launch_bounds__(T::threads, T::resident)
    conv_kernel(Gather g, const real* source, const real* packed, Epilogue epilogue, real* result) {
  WHENCE_SHARED(Place, first_taps, [T::side]);
  WHENCE_SHARED(int64_t, pixels, [T::side]);
  WHENCE_SHARED(int64_t, cols, [T::side]);
  const int64_t rows = g.rows(), sums = g.sums();
  const Corner c = corner(rows, g.to, T::side);
  for (auto t = int(threadIdx.x); t < T::side; t += T::threads) {
    const int64_t row = std::min(c.row + t, rows - 1);
    first_taps[t] = ToPixel{g}(row) + Place{c.group * g.from, 0, 0};
    pixels[t] = result_at(g, row);
    cols[t] = std::min(c.col + t, g.to - 1) * sums;
  }
  __syncthreads();
  const Source image{source, uint32_t(g.source_height), uint32_t(g.source_width)};
  tile_product<T>(Gathered<true, ToTap>{image, first_taps, ToTap{g}},
                  Operand<true, Adjacent>{packed + c.group * g.to * sums, cols, {}}, sums,
                  int(std::min<int64_t>(T::side, rows - c.row)),
                  int(std::min<int64_t>(T::side, g.to - c.col)),
                  FinishPixels{epilogue, result, pixels, c.group * g.to + c.col});
}

// dweight[o, c, tap] = sum over pixels of dy[pixel, o] times what the tap reads there.
struct StoreSlopes {
  real* dweight;
  int64_t row, col, from, taps;  // of the group's [to][from][taps]
  __device__ void operator()(int i, int j, real x) const {
    const int64_t k = col + j;
    dweight[((row + i) * from + k % from) * taps + k / from] = x;
  }
};

template <class T>
__global__ void __launch_bounds__(T::threads, T::resident)
    conv_bwd_weight_kernel(Gather g, const real* x, const real* dy, real* dweight) {
  WHENCE_SHARED(int64_t, outputs, [T::side]);
  WHENCE_SHARED(Place, taps, [T::side]);
  const int64_t sums = g.sums();
  const Corner c = corner(g.to, sums, T::side);
  for (auto t = int(threadIdx.x); t < T::side; t += T::threads) {
    outputs[t] = c.group * g.to + std::min(c.row + t, g.to - 1);
    taps[t] = ToTap{g}(std::min(c.col + t, sums - 1)) + Place{c.group * g.from, 0, 0};
  }
  __syncthreads();
  const Source image{x, uint32_t(g.source_height), uint32_t(g.source_width)};
  tile_product<T>(Operand<false, Strided>{dy, outputs, {g.groups * g.to}},
                  Gathered<false, ToPixel>{image, taps, ToPixel{g}}, g.rows(),
                  int(std::min<int64_t>(T::side, g.to - c.row)),
                  int(std::min<int64_t>(T::side, sums - c.col)),
                  StoreSlopes{dweight + c.group * g.to * sums, c.row, c.col, g.from, g.taps()});
}

// Each packed element of a phase: [group][to][tap][from].
__global__ void __launch_bounds__(threads)
    conv_pack_kernel(Gather g, const real* weight, real* packed) {
  const int64_t i = int64_t(blockIdx.x) * threads + threadIdx.x, in_group = g.to * g.sums();
  if (i >= g.groups * in_group) return;
  const int64_t group = i / in_group, at = i - group * in_group, to = at / g.sums();
  const int64_t sum = at - to * g.sums(), tap = sum / g.from, from = sum - tap * g.from;
  packed[i] =
      weight[group * g.weight_group + to * g.weight_to + from * g.weight_from + g.kernel_tap(tap)];
}

// The taps of a depthwise phase, [tap][channel].
__global__ void __launch_bounds__(threads)
    depthwise_pack_kernel(Gather g, const real* weight, real* packed) {
  const int64_t i = int64_t(blockIdx.x) * threads + threadIdx.x;
  if (i >= g.groups * g.taps()) return;
  const int64_t tap = i / g.groups, channel = i - tap * g.groups;
  packed[i] = weight[channel * g.weight_group + g.kernel_tap(tap)];
}

__global__ void __launch_bounds__(threads)
    depthwise_kernel(Gather g, const real* source, const real* packed, Epilogue epilogue,
                     real* result) {
  const int64_t i = int64_t(blockIdx.x) * threads + threadIdx.x, channels = g.groups;
  if (i >= g.rows() * channels) return;
  const int64_t row = i / channels, channel = i - row * channels;
  const Place first = ToPixel{g}(row);
  real sum = 0;
  for (int64_t j = 0; j < g.down.taps; ++j) {
    const int64_t y = first.y + j * g.down.hop;
    if (y < 0 || y >= g.source_height) continue;
    for (int64_t k = 0; k < g.across.taps; ++k) {
      const int64_t x = first.x + k * g.across.hop;
      if (x < 0 || x >= g.source_width) continue;
      const int64_t away = j * g.down.hop * g.source_width + k * g.across.hop;
      sum = std::fma(source[first.at + away * channels + channel],
                     packed[(j * g.across.taps + k) * channels + channel], sum);
    }
  }
  const int64_t at = result_at(g, row) + channel;
  result[at] = finished(epilogue, sum, channel, at);
}

// Where a phase's weights begin.
int64_t phase_offset(const Gather& g) { return g.before * g.groups * g.from * g.to; }

void convolve(gpu::Stream& s, const char* name, const real* source, const real* packed,
              const ConvSize& z, bool backward, const Epilogue& epilogue, real* result) {
  if (z.pointwise()) {
    const int64_t from = backward ? z.outputs : z.channels, to = backward ? z.channels : z.outputs;
    product(s, source, from, packed, z.batch * z.height * z.width, to, from, epilogue, result, to);
    return;
  }
  each_gather(z, backward, [&](const Gather& g) {
    if (g.rows() <= 0 || g.to <= 0) return;
    const real* phase = packed + phase_offset(g);
    if (z.depthwise()) {
      const int64_t blocks = gpu::pieces<int64_t>(g.rows() * g.groups, threads);
      gpu::launch(s, {blocks, threads, 0, name}, depthwise_kernel, g, source, phase, epilogue,
                  result);
      return;
    }
    if (library_conv(s, g, source, phase, epilogue, result)) return;
    with_tile(g.groups, g.rows(), g.to, [&](auto tile) {
      using T = decltype(tile);
      const int64_t blocks =
          g.groups * gpu::pieces<int64_t>(g.rows(), T::side) * gpu::pieces<int64_t>(g.to, T::side);
      gpu::launch(s, {blocks, T::threads, 0, name}, conv_kernel<T>, g, source, phase, epilogue,
                  result);
    });
  });
}

// y = (x - mean) scale + bias of channel i % cols, scale = weight / sqrt(variance + eps).
__global__ void __launch_bounds__(threads)
    batch_norm_kernel(const real* x, const real* weight, const real* bias, const real* mean,
                      const real* variance, real eps, int64_t count, int64_t cols, real* y) {
  const int64_t i = int64_t(blockIdx.x) * threads + threadIdx.x;
  if (i >= count) return;
  const int64_t c = i % cols;
  y[i] = std::fma(x[i] - mean[c], weight[c] / std::sqrt(variance[c] + eps), bias[c]);
}
__global__ void __launch_bounds__(threads)
    batch_norm_bwd_kernel(const real* dy, const real* weight, const real* variance, real eps,
                          int64_t count, int64_t cols, real* dx) {
  const int64_t i = int64_t(blockIdx.x) * threads + threadIdx.x;
  if (i >= count) return;
  const int64_t c = i % cols;
  dx[i] = dy[i] * (weight[c] / std::sqrt(variance[c] + eps));
}
__global__ void __launch_bounds__(threads)
    norm_scale_kernel(const real* weight, const real* variance, real eps, int64_t cols,
                      real* scale) {
  const int64_t c = int64_t(blockIdx.x) * threads + threadIdx.x;
  if (c < cols) scale[c] = weight[c] / std::sqrt(variance[c] + eps);
}

int64_t blocks_for(int64_t count) {
  return gpu::pieces<int64_t>(std::max<int64_t>(count, 0), threads);
}

}  // namespace

void conv_pack(gpu::Stream& s, const real* weight, const ConvSize& z, bool backward, real* packed) {
  if (z.pointwise()) {
    const int64_t in = z.channels, out = z.outputs;
    return backward ? pack(s, weight, in, out, 1, in, packed)
                    : pack(s, weight, out, in, in, 1, packed);
  }
  each_gather(z, backward, [&](const Gather& g) {
    if (z.depthwise())
      gpu::launch(s, {blocks_for(g.groups * g.taps()), threads}, depthwise_pack_kernel, g, weight,
                  packed + phase_offset(g));
    else
      gpu::launch(s, {blocks_for(g.groups * g.to * g.sums()), threads}, conv_pack_kernel, g, weight,
                  packed + phase_offset(g));
  });
}

void conv(gpu::Stream& s, const real* x, const real* packed, const ConvSize& size,
          const Epilogue& epilogue, real* y) {
  convolve(s, "conv", x, packed, size, false, epilogue, y);
}

void conv_bwd(gpu::Stream& s, const real* dy, const real* packed, const ConvSize& size,
              const Epilogue& epilogue, real* dx) {
  convolve(s, "conv_bwd", dy, packed, size, true, epilogue, dx);
}

void conv_bwd_weight(gpu::Stream& s, const real* x, const real* dy, const ConvSize& z,
                     real* dweight) {
  each_gather(z, false, [&](const Gather& g) {
    if (g.to <= 0 || g.sums() <= 0) return;
    with_tile(g.groups, g.to, g.sums(), [&](auto tile) {
      using T = decltype(tile);
      const int64_t blocks =
          g.groups * gpu::pieces<int64_t>(g.to, T::side) * gpu::pieces<int64_t>(g.sums(), T::side);
      gpu::launch(s, {blocks, T::threads, 0, "conv_bwd_weight"}, conv_bwd_weight_kernel<T>, g, x,
                  dy, dweight);
    });
  });
}

void norm_scale(gpu::Stream& s, const real* weight, const real* variance, real eps, int64_t cols,
                real* scale) {
  gpu::launch(s, {blocks_for(cols), threads}, norm_scale_kernel, weight, variance, eps, cols,
              scale);
}

void batch_norm(gpu::Stream& s, const real* x, const real* weight, const real* bias,
                const real* mean, const real* variance, real eps, int64_t rows, int64_t cols,
                real* y) {
  gpu::launch(s, {blocks_for(rows * cols), threads}, batch_norm_kernel, x, weight, bias, mean,
              variance, eps, rows * cols, cols, y);
}

void batch_norm_bwd(gpu::Stream& s, const real* dy, const real* weight, const real* variance,
                    real eps, int64_t rows, int64_t cols, real* dx) {
  gpu::launch(s, {blocks_for(rows * cols), threads}, batch_norm_bwd_kernel, dy, weight, variance,
              eps, rows * cols, cols, dx);
}

}  // namespace whence::k
