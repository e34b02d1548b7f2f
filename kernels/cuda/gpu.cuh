// The only include of a kernel file: CUDA under nvcc, the emulator under a host compiler.
//
// What a kernel file may use, so that both run it: threadIdx and its kin, __syncthreads,
// __syncwarp, the _sync warp operations with their true mask, integer atomics, and what is below.
// Launches go through gpu::launch, shared memory through WHENCE_SHARED and gpu::dynamic_shared.
// Between a write to shared memory and another thread's read stands a barrier, also inside a warp;
// no thread returns before the last barrier; no block waits for another.
#pragma once

#include "kernels/dim.h"
#include "kernels/kernel.h"

#ifdef __CUDACC__
#include <cuda_runtime.h>

#include "kernels/cuda/stream.h"
#define WHENCE_GPU cuda
// An array in shared memory: WHENCE_SHARED(float, tile, [32][33]).
#define WHENCE_SHARED(type, name, dims) __shared__ __align__(16) type name dims
#else
#include "kernels/simt/device.h"
#include "kernels/simt/stream.h"
#define WHENCE_GPU simt
#endif

// Before a loop: how often the device's compiler repeats its body.
#ifdef __CUDACC__
#define WHENCE_PRAGMA(text) _Pragma(#text)
#define WHENCE_UNROLL(n) WHENCE_PRAGMA(unroll n)
#else
#define WHENCE_UNROLL(n)
#endif

namespace whence {
namespace gpu = WHENCE_GPU;
}

namespace whence::WHENCE_GPU {

inline constexpr int warp_size = 32;
inline constexpr uint32_t full_warp = 0xffffffff;

// Where and how a kernel runs. The name in messages is that of the function that launches it.
struct Launch {
  k::Dim blocks, threads;
  size_t shared_bytes;
  const char* name;
  Launch(k::Dim b, k::Dim t, size_t shared = 0, const char* caller = __builtin_FUNCTION())
      : blocks(b), threads(t), shared_bytes(shared), name(caller) {}
};

#ifdef __CUDACC__
template <class T>
__device__ T* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char whence_dynamic_shared[];
  return reinterpret_cast<T*>(whence_dynamic_shared);
}

// Queues kernel(args...) on every thread of the shape; an empty grid is skipped.
template <class... P, class... A>
void launch(Stream& s, const Launch& shape, void (*kernel)(P...), A... args) {
  if (shape.blocks.count() == 0 || s.asking()) return;
  s.prepare_launch(reinterpret_cast<const void*>(kernel), shape.shared_bytes, shape.name);
  const auto native = [](k::Dim d) { return dim3(d.x, d.y, d.z); };
  kernel<<<native(shape.blocks), native(shape.threads), shape.shared_bytes,
           static_cast<cudaStream_t>(s.native())>>>(P(args)...);
  s.check_launch(shape.name);
}
#else
template <class T>
T* dynamic_shared() {
  return static_cast<T*>(simt::dynamic_shared());
}

template <class... P, class... A>
void launch(Stream& s, const Launch& shape, void (*kernel)(P...), A... args) {
  if (shape.blocks.count() == 0 || s.asking()) return;
  s.launch({shape.name, shape.blocks, shape.threads, shape.shared_bytes},
           [=] { kernel(P(args)...); });
}
#endif

// The number of pieces of `size` that cover `count`.
template <class I>
__host__ __device__ constexpr I pieces(I count, I size) {
  return (count + size - 1) / size;
}

// Reductions. Every lane gets the result; partners exchange at distances 16, 8, ... 1, so that all
// lanes add the same pairs and get the same bits.
template <class T>
__device__ T warp_sum(T x) {
  for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(full_warp, x, distance);
  return x;
}
// NaN wins.
template <class T>
__device__ T larger(T a, T b) {
  return a > b || a != a ? a : b;
}
template <class T>
__device__ T warp_max(T x) {
  for (int distance = 16; distance > 0; distance /= 2)
    x = larger(x, __shfl_xor_sync(full_warp, x, distance));
  return x;
}

struct Add {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};

}  // namespace whence::WHENCE_GPU
