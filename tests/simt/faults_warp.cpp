// Planted faults: warp operations and what lanes of a warp assume of each other.
#include "tests/simt/planted.h"

namespace whence::simt_test {
namespace {

template <bool mended>
__global__ void neighbours(float* y) {
  WHENCE_SHARED(float, tile, [32]);
  const int lane = int(threadIdx.x);
  tile[lane] = float(lane);
  if constexpr (mended) __syncwarp();
  y[lane] = tile[lane ^ 1];
}
std::vector<float> warp_barrier_before_read(simt::Stream& s, bool mended) {
  return result_of(s, 32, [&](float* y) {
    gpu::launch(s, {1, 32}, mended ? neighbours<true> : neighbours<false>, y);
  });
}
std::vector<float> swapped_pairs() {
  std::vector<float> y(32);
  for (unsigned i = 0; i < 32; ++i) y[i] = float(i ^ 1);
  return y;
}

// The reduction that was common while warps ran in step.
template <bool mended>
__global__ void tree(float* y) {
  WHENCE_SHARED(float, sum, [64]);
  volatile float* at = sum;
  const int lane = int(threadIdx.x);
  at[lane] = 1;
  at[lane + 32] = 1;
  if constexpr (mended) __syncwarp();
  for (int distance = 32; distance > 0; distance /= 2) {
    const float other = lane < distance ? at[lane + distance] : 0;
    if constexpr (mended) __syncwarp();
    at[lane] = at[lane] + other;
    if constexpr (mended) __syncwarp();
  }
  if (lane == 0) y[0] = at[0];
}
std::vector<float> lockstep(simt::Stream& s, bool mended) {
  return result_of(s, 1, [&](float* y) {
    gpu::launch(s, {1, 32}, mended ? tree<true> : tree<false>, y);
  });
}

template <bool mended>
__global__ void half(float* y) {
  const int lane = int(threadIdx.x);
  float x = float(lane);
  if (lane < 16) x = __shfl_xor_sync(mended ? 0xffffu : gpu::full_warp, x, 1);
  __syncwarp();
  y[lane] = x;
}
std::vector<float> mask_of_absent_lanes(simt::Stream& s, bool mended) {
  return result_of(s, 32, [&](float* y) {
    gpu::launch(s, {1, 32}, mended ? half<true> : half<false>, y);
  });
}
std::vector<float> swapped_half() {
  std::vector<float> y = swapped_pairs();
  for (size_t i = 16; i < 32; ++i) y[i] = float(i);
  return y;
}

template <bool mended>
__global__ void foreign_mask(float* y) {
  const int lane = int(threadIdx.x);
  const uint32_t mine = lane < 16 ? 0xffffu : 0xffff0000u;
  y[lane] = __shfl_sync(mended ? mine : 0xffffu, float(lane), 3, 16);
}
std::vector<float> mask_without_the_caller(simt::Stream& s, bool mended) {
  return result_of(s, 32, [&](float* y) {
    gpu::launch(s, {1, 32}, mended ? foreign_mask<true> : foreign_mask<false>, y);
  });
}
std::vector<float> third_of_half() {
  std::vector<float> y(32, 3);
  for (size_t i = 16; i < 32; ++i) y[i] = 19;
  return y;
}

template <bool mended>
__global__ void outside(float* y) {
  const int lane = int(threadIdx.x);
  float x = float(lane);
  if (lane < 16) x = __shfl_sync(0xffffu, x, mended ? 15 : 20);
  y[lane] = x;
}
std::vector<float> lane_outside_the_mask(simt::Stream& s, bool mended) {
  return result_of(s, 32, [&](float* y) {
    gpu::launch(s, {1, 32}, mended ? outside<true> : outside<false>, y);
  });
}
std::vector<float> fifteens() {
  std::vector<float> y = ramp(32);
  for (size_t i = 0; i < 16; ++i) y[i] = 15;
  return y;
}

template <bool mended>
__global__ void tail_sum(const float* x, int n, float* y) {
  const int lane = int(threadIdx.x);
  if constexpr (!mended)
    if (lane >= n) return;
  const float sum = gpu::warp_sum(lane < n ? x[lane] : 0.0f);
  if (lane == 0) y[0] = sum;
}
std::vector<float> exited_lane(simt::Stream& s, bool mended) {
  const std::vector<float> ones(24, 1);
  return result_of(s, 1, [&](float* y) {
    gpu::launch(s, {1, 32}, mended ? tail_sum<true> : tail_sum<false>, ones.data(), 24, y);
  });
}

template <bool mended>
__global__ void votes(float* y) {
  const int lane = int(threadIdx.x);
  uint32_t odd = 0;
  if constexpr (mended) {
    odd = __ballot_sync(gpu::full_warp, lane % 2 == 1);
  } else if (lane % 2 == 1) {
    odd = __ballot_sync(gpu::full_warp, true);
  } else {
    odd = __ballot_sync(gpu::full_warp, false);
  }
  y[lane] = float(odd >> 16);
}
std::vector<float> operation_in_branches(simt::Stream& s, bool mended) {
  return result_of(s, 32, [&](float* y) {
    gpu::launch(s, {1, 32}, mended ? votes<true> : votes<false>, y);
  });
}

// A shuffle brings values but orders no memory.
template <bool mended>
__global__ void after_shuffle(float* y) {
  WHENCE_SHARED(float, tile, [32]);
  const int lane = int(threadIdx.x);
  tile[lane] = float(lane);
  const float sum = gpu::warp_sum(1.0f);
  if constexpr (mended) __syncwarp();
  y[lane] = tile[lane ^ 1] + sum - 32;
}
std::vector<float> shuffle_as_barrier(simt::Stream& s, bool mended) {
  return result_of(s, 32, [&](float* y) {
    gpu::launch(s, {1, 32}, mended ? after_shuffle<true> : after_shuffle<false>, y);
  });
}

}  // namespace

std::vector<Planted> warp_faults() {
  return {
      {"warp_barrier_before_read", "no __syncwarp between a write and another lane's read",
       by_schedules | by_tsan, "WRONG", warp_barrier_before_read, swapped_pairs()},
      {"lockstep",
       "a tree of sums that only works where a warp runs in step",
       by_schedules | by_tsan,
       "WRONG",
       lockstep,
       {64}},
      {"mask_of_absent_lanes", "a full mask where half of the warp is elsewhere", by_schedules,
       "faults_warp.cpp:", mask_of_absent_lanes, swapped_half()},
      {"mask_without_the_caller", "a mask that does not name the lane that uses it", by_schedules,
       "the thread is not in its own mask", mask_without_the_caller, third_of_half()},
      {"lane_outside_the_mask", "a shuffle from a lane that its mask does not name", by_schedules,
       "reads lane 20, which is outside the mask", lane_outside_the_mask, fifteens()},
      {"exited_lane",
       "lanes without work return before a shuffle of the whole warp",
       by_schedules,
       "gpu.cuh:",
       exited_lane,
       {24}},
      {"operation_in_branches", "one vote in two branches", by_schedules,
       "faults_warp.cpp:", operation_in_branches, std::vector<float>(32, 0xaaaa)},
      {"shuffle_as_barrier", "a shuffle is taken for a barrier", by_tsan, "", shuffle_as_barrier,
       swapped_pairs()},
  };
}

}  // namespace whence::simt_test
