// Copies: blocks, constants, patches.
//
// A block of 256 threads owns 1,024 adjacent elements; thread t moves those at t, t + 256, t + 512
// and t + 768, so that a warp's accesses follow each other in runs. Moves each element once in and
// once out; bound by memory.
#include "kernels/cuda/gpu.cuh"
#include "kernels/elementwise.h"

namespace whence::k {
namespace {

constexpr int threads = 256, per_thread = 4, per_block = threads * per_thread;

// Where an element comes from and where it goes.
struct Move {
  int64_t from, to;
};

struct Blocks {  // element `i % inner` of block `i / inner`
  int64_t src_step, dst_step, inner;
  __device__ Move operator()(int64_t i) const {
    const int64_t block = i / inner, at = i - block * inner;
    return {block * src_step + at, block * dst_step + at};
  }
};

// Element i of the patches [batch, down, across, channels, patch, patch] and of the image
// [batch, channels, down, patch, across, patch].
struct Patches {
  int64_t channels, down, across, patch;
  bool to_image;
  __device__ Move operator()(int64_t i) const {
    int64_t rest = i;
    const int64_t col = rest % patch;
    rest /= patch;
    const int64_t row = rest % patch;
    rest /= patch;
    const int64_t channel = rest % channels;
    rest /= channels;
    const int64_t x = rest % across;
    rest /= across;
    const int64_t y = rest % down, sample = rest / down;
    const int64_t line = ((sample * channels + channel) * down + y) * patch + row;
    const int64_t pixel = (line * across + x) * patch + col;
    return to_image ? Move{i, pixel} : Move{pixel, i};
  }
};

template <class Map>
__global__ void __launch_bounds__(threads)
    move_kernel(Map map, int64_t count, const real* src, real* dst) {
  const int64_t first = int64_t(blockIdx.x) * per_block + threadIdx.x;
  real value[per_thread] = {};
  int64_t to[per_thread] = {};
  for (int j = 0; j < per_thread; ++j) {
    if (first + j * threads >= count) continue;
    const Move move = map(first + j * threads);
    value[j] = src[move.from];
    to[j] = move.to;
  }
  for (int j = 0; j < per_thread; ++j)
    if (first + j * threads < count) dst[to[j]] = value[j];
}

__global__ void __launch_bounds__(threads)
    fill_kernel(real value, int64_t count, int64_t step, real* y) {
  const int64_t first = int64_t(blockIdx.x) * per_block + threadIdx.x;
  for (int j = 0; j < per_thread; ++j)
    if (first + j * threads < count) y[(first + j * threads) * step] = value;
}

gpu::Launch shape(const char* name, int64_t count) {
  return {gpu::pieces<int64_t>(count, per_block), threads, 0, name};
}

void move_patches(gpu::Stream& s, const char* name, const PatchSize& size, bool to_image,
                  const real* src, real* dst) {
  if (size.patch <= 0) return;
  const Patches map{size.channels, size.height / size.patch, size.width / size.patch, size.patch,
                    to_image};
  const int64_t count = size.batch * size.channels * size.height * size.width;
  if (count > 0) gpu::launch(s, shape(name, count), move_kernel<Patches>, map, count, src, dst);
}

}  // namespace

void copy_blocks(gpu::Stream& s, const real* src, int64_t src_step, int64_t outer, int64_t inner,
                 real* dst, int64_t dst_step) {
  if (outer <= 0 || inner <= 0) return;
  gpu::launch(s, shape("copy_blocks", outer * inner), move_kernel<Blocks>,
              Blocks{src_step, dst_step, inner}, outer * inner, src, dst);
}

void fill(gpu::Stream& s, real value, int64_t count, int64_t step, real* y) {
  if (count > 0) gpu::launch(s, shape("fill", count), fill_kernel, value, count, step, y);
}

void patchify(gpu::Stream& s, const real* x, const PatchSize& size, real* y) {
  move_patches(s, "patchify", size, false, x, y);
}

void unpatchify(gpu::Stream& s, const real* y, const PatchSize& size, real* x) {
  move_patches(s, "unpatchify", size, true, y, x);
}

}  // namespace whence::k
