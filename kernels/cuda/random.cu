// Philox4x32-10 and what is made of its words: one thread for each block of four variates.
//
// The formulas are those of kernels/random.h, so the bits are the processor's. Writes 4 bytes per
// element; bound by the generator's 20 wide products per block and the logarithm (normal).
#include "kernels/cuda/gpu.cuh"
#include "kernels/random.h"

namespace whence::k {
namespace {

constexpr int threads = 256;

using Four = std::array<real, 4>;

struct UniformOf {
  __device__ Four operator()(const std::array<uint32_t, 4>& w) const {
    using E = Exact<real>;
    Four y{};
    for (size_t j = 0; j < 4; ++j) y[j] = uniform_of<real>(E::Integer(w[j] >> 8));
    return y;
  }
};
struct NormalOf {
  __device__ Four operator()(const std::array<uint32_t, 4>& w) const { return normal_four(w); }
};

template <class F>
__global__ void __launch_bounds__(threads)
    random_kernel(F f, RandomKey key, int64_t count, real* y) {
  const uint64_t block = uint64_t(blockIdx.x) * threads + threadIdx.x;
  const int64_t first = int64_t(block) * 4;
  if (first >= count) return;
  const Four four = f(words_of(key, block));
  for (int j = 0; j < 4; ++j)
    if (first + j < count) y[first + j] = four[size_t(j)];
}

template <class F>
__global__ void __launch_bounds__(threads)
    random_rows_kernel(F f, const int32_t* keys, int64_t count, real* y) {
  const int64_t across = gpu::pieces<int64_t>(count, 4 * threads);
  const int64_t row = int64_t(blockIdx.x) / across;
  const uint64_t block = uint64_t(int64_t(blockIdx.x) % across) * threads + threadIdx.x;
  const int64_t first = int64_t(block) * 4;
  if (first >= count) return;
  const Four four = f(words_of(key_of(keys + 4 * row), block));
  for (int j = 0; j < 4; ++j)
    if (first + j < count) y[row * count + first + j] = four[size_t(j)];
}

template <class F>
void each_block(gpu::Stream& s, const char* name, F f, const RandomKey& key, int64_t count,
                real* y) {
  if (count <= 0) return;
  const gpu::Launch shape(gpu::pieces<int64_t>(count, 4 * threads), threads, 0, name);
  gpu::launch(s, shape, random_kernel<F>, f, key, count, y);
}

}  // namespace

void random_normal(gpu::Stream& s, const RandomKey& key, int64_t count, real* y) {
  each_block(s, "random_normal", NormalOf{}, key, count, y);
}

void random_normal_rows(gpu::Stream& s, const int32_t* keys, int64_t rows, int64_t count, real* y) {
  if (rows <= 0 || count <= 0) return;
  gpu::launch(s, {rows * gpu::pieces<int64_t>(count, 4 * threads), threads},
              random_rows_kernel<NormalOf>, NormalOf{}, keys, count, y);
}

void random_uniform(gpu::Stream& s, const RandomKey& key, int64_t count, real* y) {
  each_block(s, "random_uniform", UniformOf{}, key, count, y);
}

}  // namespace whence::k
