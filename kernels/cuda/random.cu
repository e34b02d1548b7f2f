// Philox4x32-10 and what is made of its words: one thread for each block of four variates.
//
// The formulas are those of kernels/random.h, so the bits are the processor's. Writes 4 bytes per
// element; bound by the generator's 20 wide products per block and the logarithm (normal).
#include "kernels/cuda/gpu.cuh"
#include "kernels/random.h"

namespace whence::k {
namespace {

constexpr int threads = 256;

struct Four {
  real of[4];
};

struct UniformOf {
  __device__ Four operator()(const std::array<uint32_t, 4>& w) const {
    using E = Exact<real>;
    Four y;
    for (int j = 0; j < 4; ++j) y.of[j] = uniform_of<real>(E::Integer(w[j] >> 8));
    return y;
  }
};
struct NormalOf {
  __device__ Four operator()(const std::array<uint32_t, 4>& w) const {
    using E = Exact<real>;
    const auto a = normal_pair_of<real>(E::Integer(w[0] >> 8), E::Integer(w[1] >> 8));
    const auto b = normal_pair_of<real>(E::Integer(w[2] >> 8), E::Integer(w[3] >> 8));
    return {a.cosine, a.sine, b.cosine, b.sine};
  }
};

template <class F>
__global__ void __launch_bounds__(threads)
    random_kernel(F f, RandomKey key, int64_t count, real* y) {
  const uint64_t block = uint64_t(blockIdx.x) * threads + threadIdx.x;
  const int64_t first = int64_t(block) * 4;
  if (first >= count) return;
  const Four four = f(philox({uint32_t(block), uint32_t(block >> 32), key.draw, key.item},
                             {uint32_t(key.seed), uint32_t(key.seed >> 32)}));
  for (int j = 0; j < 4; ++j)
    if (first + j < count) y[first + j] = four.of[j];
}

template <class F>
__global__ void __launch_bounds__(threads)
    random_rows_kernel(F f, const int32_t* keys, int64_t count, real* y) {
  const int64_t across = gpu::pieces<int64_t>(count, 4 * threads);
  const int64_t row = int64_t(blockIdx.x) / across;
  const uint64_t block = uint64_t(int64_t(blockIdx.x) % across) * threads + threadIdx.x;
  const int64_t first = int64_t(block) * 4;
  if (first >= count) return;
  const int32_t* key = keys + 4 * row;
  const Four four =
      f(philox({uint32_t(block), uint32_t(block >> 32), uint32_t(key[3]), uint32_t(key[2])},
               {uint32_t(key[0]), uint32_t(key[1])}));
  for (int j = 0; j < 4; ++j)
    if (first + j < count) y[row * count + first + j] = four.of[j];
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
