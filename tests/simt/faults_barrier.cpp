// Planted faults: barriers of a block that are missing or that not all threads reach.
#include "tests/simt/planted.h"

namespace whence::simt_test {
namespace {

constexpr int threads = 64;

template <bool mended>
__global__ void before_read(float* y) {
  WHENCE_SHARED(float, tile, [threads]);
  const int i = int(threadIdx.x);
  tile[i] = float(i);
  if constexpr (mended) __syncthreads();
  y[i] = tile[threads - 1 - i];
}
std::vector<float> barrier_before_read(simt::Stream& s, bool mended) {
  return result_of(s, threads, [&](float* y) {
    gpu::launch(s, {1, threads}, mended ? before_read<true> : before_read<false>, y);
  });
}

// y[i] = sum over rounds of what the neighbour wrote in that round
template <bool mended>
__global__ void before_reuse(float* y) {
  WHENCE_SHARED(float, tile, [threads]);
  const int i = int(threadIdx.x);
  float sum = 0;
  for (int round = 1; round <= 3; ++round) {
    tile[i] = float(round);
    __syncthreads();
    sum += tile[(i + 33) % threads];
    if constexpr (mended) __syncthreads();
  }
  y[i] = sum;
}
std::vector<float> barrier_before_reuse(simt::Stream& s, bool mended) {
  return result_of(s, threads, [&](float* y) {
    gpu::launch(s, {1, threads}, mended ? before_reuse<true> : before_reuse<false>, y);
  });
}

template <bool mended>
__global__ void in_branches(float* y) {
  WHENCE_SHARED(float, tile, [threads]);
  const int i = int(threadIdx.x);
  tile[i] = float(i);
  if constexpr (mended) {
    __syncthreads();
    y[i] = i < 32 ? tile[i + 32] : -tile[i - 32];
  } else if (i < 32) {
    __syncthreads();
    y[i] = tile[i + 32];
  } else {
    __syncthreads();
    y[i] = -tile[i - 32];
  }
}
std::vector<float> divergent_barrier(simt::Stream& s, bool mended) {
  return result_of(s, threads, [&](float* y) {
    gpu::launch(s, {1, threads}, mended ? in_branches<true> : in_branches<false>, y);
  });
}
std::vector<float> branches() {
  std::vector<float> y = ramp(threads, 32);
  for (int i = 32; i < threads; ++i) y[size_t(i)] = float(32 - i);
  return y;
}

// Adds the elements i, i + threads, ... of n in rounds, where n is no multiple of the block.
template <bool mended>
__global__ void strided(const float* x, int n, float* y) {
  WHENCE_SHARED(float, tile, [threads]);
  const int i = int(threadIdx.x);
  float sum = 0;
  for (int c = i; c < (mended ? (n + threads - 1) / threads * threads : n); c += threads) {
    tile[i] = c < n ? x[c] : 0;
    __syncthreads();
    sum += tile[threads - 1 - i];
    __syncthreads();
  }
  y[i] = sum;
}
std::vector<float> uneven_trip_counts(simt::Stream& s, bool mended) {
  const std::vector<float> ones(100, 1);
  return result_of(s, threads, [&](float* y) {
    gpu::launch(s, {1, threads}, mended ? strided<true> : strided<false>, ones.data(), 100, y);
  });
}
std::vector<float> twice_for_late() {
  std::vector<float> y(threads, 2);
  for (size_t i = 0; i < 28; ++i) y[i] = 1;  // the last 28 threads have one element
  return y;
}

template <bool mended>
__global__ void returns(const float* x, int n, float* y) {
  WHENCE_SHARED(float, tile, [threads]);
  const int i = int(threadIdx.x);
  if constexpr (!mended)
    if (i >= n) return;
  tile[i] = i < n ? x[i] : 0;
  __syncthreads();
  if (i < n) y[i] = tile[n - 1 - i];
}
std::vector<float> early_return(simt::Stream& s, bool mended) {
  const std::vector<float> x = ramp(50);
  return result_of(s, 50, [&](float* y) {
    gpu::launch(s, {1, threads}, mended ? returns<true> : returns<false>, x.data(), 50, y);
  });
}

// Two sums that share a buffer, as the reductions of gpu.cuh do.
template <bool mended>
__global__ void sums(float* y) {
  WHENCE_SHARED(float, partial, [2]);
  const int i = int(threadIdx.x);
  float all = 0;
  for (int round = 1; round <= 2; ++round) {
    const float sum = gpu::warp_sum(float(round));
    if (i % 32 == 0) partial[i / 32] = sum;
    __syncthreads();
    all += partial[0] + partial[1];
    if constexpr (mended) __syncthreads();
  }
  y[i] = all;
}
std::vector<float> reductions_in_a_row(simt::Stream& s, bool mended) {
  return result_of(s, threads, [&](float* y) {
    gpu::launch(s, {1, threads}, mended ? sums<true> : sums<false>, y);
  });
}

}  // namespace

std::vector<Planted> barrier_faults() {
  return {
      {"barrier_before_read", "no barrier between a write and another thread's read",
       by_schedules | by_tsan, "WRONG", barrier_before_read, ramp(threads, threads - 1, -1)},
      {"barrier_before_reuse", "no barrier between a read and the next round's write",
       by_schedules | by_tsan, "WRONG", barrier_before_reuse, std::vector<float>(threads, 6)},
      {"divergent_barrier", "each branch has a barrier of its own", by_schedules,
       "divergent barrier: another thread of the block waits at faults_barrier.cpp:",
       divergent_barrier, branches()},
      {"uneven_trip_counts", "a barrier in a loop that some threads leave earlier", by_schedules,
       "faults_barrier.cpp:", uneven_trip_counts, twice_for_late()},
      {"early_return", "threads without work return before a barrier", by_schedules,
       "faults_barrier.cpp:", early_return, ramp(50, 49, -1)},
      {"reductions_in_a_row", "two reductions use one buffer without a barrier between them",
       by_schedules | by_tsan, "WRONG", reductions_in_a_row, std::vector<float>(threads, 192)},
  };
}

}  // namespace whence::simt_test
