// What CUDA gives device code, on the host: indices, barriers, warp operations, atomics. Included
// by kernels/cuda/gpu.cuh where the compiler is not nvcc. Every thread that a __shfl_sync or its
// kin names must come to it from the same line.
#pragma once

#include <atomic>
#include <cmath>
#include <cstring>
#include <string>
#include <type_traits>

#include "kernels/simt/engine.h"
#include "kernels/simt/sanitizers.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

// An array in shared memory: WHENCE_SHARED(float, tile, [32][33]). The tag tells instances of a
// template apart.
#define WHENCE_SHARED(type, name, dims)                                  \
  static char whence_tag_of_##name;                                      \
  auto& name = *static_cast<type(*) dims>(::whence::simt::static_shared( \
      {__FILE__, __LINE__}, &whence_tag_of_##name, sizeof(type dims)))

namespace whence::simt {

template <Dim Current::*which>
struct Index {
  template <unsigned Dim::*axis>
  struct Axis {
    operator unsigned() const { return current.*which.*axis; }  // NOLINT
  };
  Axis<&Dim::x> x;
  Axis<&Dim::y> y;
  Axis<&Dim::z> z;
};
inline constexpr Index<&Current::thread> threadIdx{};
inline constexpr Index<&Current::block> blockIdx{};
inline constexpr Index<&Current::threads> blockDim{};
inline constexpr Index<&Current::blocks> gridDim{};

#define WHENCE_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(WHENCE_SITE) { block_barrier({file, line}); }
inline void __syncwarp(uint32_t mask = 0xffffffff, WHENCE_SITE) {
  warp_barrier({file, line}, mask);
}
inline void __threadfence(WHENCE_SITE) { fence({file, line}); }
inline void __threadfence_block(WHENCE_SITE) { fence({file, line}); }

// What a lane brings to a warp operation and what it takes away.
template <class T>
struct Exchange {
  T value, result;
  unsigned source;
  Site site;
};

template <class T>
WHENCE_UNSEEN_BY_TSAN void exchange(void* const operands[32]) {
  for (int i = 0; i < 32; ++i) {
    if (!operands[i]) continue;
    auto* mine = static_cast<Exchange<T>*>(operands[i]);
    auto* from = static_cast<Exchange<T>*>(operands[mine->source]);
    if (!from)
      fault(mine->site, "lane " + std::to_string(i) + " reads lane " +
                            std::to_string(mine->source) + ", which is outside the mask");
    mine->result = from->value;
  }
}

template <class T>
T shuffle(const char* name, Site site, uint32_t mask, T value, unsigned source) {
  Exchange<T> e{value, value, source, site};
  warp_operation(name, site, mask, &e, exchange<T>);
  return e.result;
}

template <class T>
T __shfl_sync(uint32_t mask, T value, int source, int width = 32, WHENCE_SITE) {
  const unsigned base = lane_number() & ~unsigned(width - 1);
  return shuffle("__shfl_sync", {file, line}, mask, value,
                 base | (unsigned(source) & unsigned(width - 1)));
}
template <class T>
T __shfl_xor_sync(uint32_t mask, T value, int bits, int width = 32, WHENCE_SITE) {
  const unsigned lane = lane_number(), source = lane ^ unsigned(bits);
  const bool inside = (source & ~unsigned(width - 1)) <= (lane & ~unsigned(width - 1));
  return shuffle("__shfl_xor_sync", {file, line}, mask, value, inside ? source : lane);
}
template <class T>
T __shfl_down_sync(uint32_t mask, T value, unsigned by, int width = 32, WHENCE_SITE) {
  const unsigned lane = lane_number(), at = lane & unsigned(width - 1);
  return shuffle("__shfl_down_sync", {file, line}, mask, value,
                 at + by < unsigned(width) ? lane + by : lane);
}
template <class T>
T __shfl_up_sync(uint32_t mask, T value, unsigned by, int width = 32, WHENCE_SITE) {
  const unsigned lane = lane_number(), at = lane & unsigned(width - 1);
  return shuffle("__shfl_up_sync", {file, line}, mask, value, at >= by ? lane - by : lane);
}

struct Vote {
  bool value;
  uint32_t result;
};
WHENCE_UNSEEN_BY_TSAN inline void count_votes(void* const operands[32]) {
  uint32_t ballot = 0;
  for (int i = 0; i < 32; ++i)
    if (operands[i] && static_cast<Vote*>(operands[i])->value) ballot |= uint32_t{1} << i;
  for (int i = 0; i < 32; ++i)
    if (operands[i]) static_cast<Vote*>(operands[i])->result = ballot;
}
inline uint32_t __ballot_sync(uint32_t mask, bool value, WHENCE_SITE) {
  Vote v{value, 0};
  warp_operation("__ballot_sync", {file, line}, mask, &v, count_votes);
  return v.result;
}
inline bool __any_sync(uint32_t mask, bool value, WHENCE_SITE) {
  return __ballot_sync(mask, value, file, line) != 0;
}
inline bool __all_sync(uint32_t mask, bool value, WHENCE_SITE) {
  return __ballot_sync(mask, value, file, line) == mask;
}

template <class T>
T atomicAdd(T* at, std::type_identity_t<T> value, WHENCE_SITE) {
  preempt({file, line});
  return std::atomic_ref<T>(*at).fetch_add(value, std::memory_order_relaxed);
}
template <class T>
T atomicMax(T* at, std::type_identity_t<T> value, WHENCE_SITE) {
  preempt({file, line});
  std::atomic_ref<T> a(*at);
  T old = a.load(std::memory_order_relaxed);
  while (old < value && !a.compare_exchange_weak(old, value, std::memory_order_relaxed)) {
  }
  return old;
}

// Vector accesses must be aligned on a device; the host does not mind, so it is checked here.
inline void check_aligned(const void* at, size_t bytes, WHENCE_SITE) {
  if (reinterpret_cast<uintptr_t>(at) % bytes != 0)
    fault({file, line}, "a vector access of " + std::to_string(bytes) + " bytes is misaligned");
}

}  // namespace whence::simt

namespace whence {
using simt::__all_sync;
using simt::__any_sync;
using simt::__ballot_sync;
using simt::__shfl_down_sync;
using simt::__shfl_sync;
using simt::__shfl_up_sync;
using simt::__shfl_xor_sync;
using simt::__syncthreads;
using simt::__syncwarp;
using simt::__threadfence;
using simt::__threadfence_block;
using simt::atomicAdd;
using simt::atomicMax;
using simt::blockDim;
using simt::blockIdx;
using simt::gridDim;
using simt::threadIdx;
}  // namespace whence
