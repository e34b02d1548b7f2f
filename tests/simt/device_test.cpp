// What device code calls: warp operations, atomics, shared memory, asynchronous copies.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/cuda/gpu.cuh"
#include "kernels/device_error.h"
#include "tests/simt/child.h"
#include "tests/simt/schedules.h"

namespace whence {
namespace {

using k::DeviceError;
using simt::Order;
using simt::Schedule;
using simt_test::run;
using simt_test::schedules;

struct Shuffled {
  int any, rotated, crossed, down, up;
};
// Groups of `width` lanes, every lane with its number.
__global__ void shuffle_kernel(int width, Shuffled* out) {
  const int lane = int(threadIdx.x % 32);
  out[threadIdx.x] = {__shfl_sync(gpu::full_warp, lane, 2, width),
                      __shfl_sync(gpu::full_warp, lane, lane + 1, width),
                      __shfl_xor_sync(gpu::full_warp, lane, 5, width),
                      __shfl_down_sync(gpu::full_warp, lane, 3, width),
                      __shfl_up_sync(gpu::full_warp, lane, 3, width)};
}

TEST(SimtDevice, shuffles_stay_in_their_groups) {
  for (const int width : {32, 16, 8, 4})
    for (const Schedule& schedule : schedules(1)) {
      std::vector<Shuffled> out(64);
      ASSERT_EQ(run(schedule, {1, 64}, shuffle_kernel, width, out.data()), "");
      for (int i = 0; i < 64; ++i) {
        const int lane = i % 32, first = lane / width * width, last = first + width - 1;
        const Shuffled& s = out[size_t(i)];
        EXPECT_EQ(s.any, first + 2);
        EXPECT_EQ(s.rotated, first + (lane + 1) % width);
        // A partner in a later group is out of reach, one in an earlier group is not.
        EXPECT_EQ(s.crossed, (lane ^ 5) > last ? lane : lane ^ 5);
        EXPECT_EQ(s.down, lane + 3 <= last ? lane + 3 : lane);
        EXPECT_EQ(s.up, lane - 3 >= first ? lane - 3 : lane);
      }
    }
}

// The odd lanes and the even ones each among themselves, then all.
__global__ void masks_kernel(int* sums, unsigned* votes, int* all) {
  const int lane = int(threadIdx.x);
  const uint32_t mask = lane % 2 ? 0xaaaaaaaa : 0x55555555;
  int sum = lane;
  if (lane % 2) {
    for (int d = 16; d > 1; d /= 2) sum += __shfl_xor_sync(mask, sum, d);
    votes[lane] = __ballot_sync(mask, lane > 15);
  } else {
    for (int d = 16; d > 1; d /= 2) sum += __shfl_xor_sync(mask, sum, d);
    votes[lane] = __ballot_sync(mask, lane > 15);
  }
  sums[lane] = sum;
  __syncwarp();
  all[lane] = __shfl_sync(gpu::full_warp, sum, 0) + __shfl_sync(gpu::full_warp, sum, 1);
}

TEST(SimtDevice, parts_of_a_warp_work_by_themselves_and_meet_later) {
  for (const Schedule& schedule : schedules(simt::race_detector ? 2 : 10)) {
    int sums[32], all[32];
    unsigned votes[32];
    ASSERT_EQ(run(schedule, {1, 32}, masks_kernel, sums, votes, all), "");
    for (int i = 0; i < 32; ++i) {
      EXPECT_EQ(sums[i], i % 2 ? 256 : 240);
      EXPECT_EQ(votes[i], i % 2 ? 0xaaaa0000u : 0x55550000u);
      EXPECT_EQ(all[i], 496);
    }
  }
}

__global__ void votes_kernel(int limit, bool* any, bool* all, double* wide) {
  const int i = int(threadIdx.x);
  any[i] = __any_sync(gpu::full_warp, i < limit);
  all[i] = __all_sync(gpu::full_warp, i < limit);
  wide[i] = __shfl_sync(gpu::full_warp, 0.5 + i, 31 - i);
}

TEST(SimtDevice, votes_and_wide_values) {
  for (const int limit : {0, 1, 31, 32}) {
    bool any[32], all[32];
    double wide[32];
    ASSERT_EQ(run({}, {1, 32}, votes_kernel, limit, any, all, wide), "");
    for (int i = 0; i < 32; ++i) {
      EXPECT_EQ(any[i], limit > 0);
      EXPECT_EQ(all[i], limit == 32);
      EXPECT_EQ(wide[i], 31.5 - i);
    }
  }
}

__global__ void atomics_kernel(int* sum, unsigned* count, float* halves, int* top) {
  WHENCE_SHARED(int, local, [1]);
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (threadIdx.x == 0) local[0] = 0;
  __syncthreads();
  atomicAdd(&local[0], i);
  atomicAdd(count, 1);
  atomicAdd(halves, 0.5f);
  atomicMax(top, (i * 37) % 101);
  __syncthreads();
  if (threadIdx.x == 0) atomicAdd(sum, local[0]);
}

TEST(SimtDevice, atomics_lose_nothing) {
  for (const Schedule& schedule : schedules(1)) {
    int sum = 0, top = -1;
    unsigned count = 0;
    float halves = 0;
    ASSERT_EQ(run(schedule, {3, 64}, atomics_kernel, &sum, &count, &halves, &top), "");
    EXPECT_EQ(sum, 191 * 192 / 2);
    EXPECT_EQ(count, 192u);
    EXPECT_EQ(halves, 96);
    EXPECT_EQ(top, 100);
  }
}

template <class T>
__device__ T total(T x) {
  WHENCE_SHARED(T, parts, [2]);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  return parts[0] + parts[1];
}
__global__ void instances_kernel(double* out) {
  const int small = total(1);
  const double large = total(0.25);
  // clang-format off
  WHENCE_SHARED(float, left, [3]); WHENCE_SHARED(float, right, [3]);  // on one line
  // clang-format on
  if (threadIdx.x == 0) left[0] = 1;
  if (threadIdx.x == 1) right[0] = 2;
  __syncthreads();
  if (threadIdx.x == 0) out[0] = small + large + double(left[0]) + double(right[0]) * 10;
}

TEST(SimtDevice, shared_arrays_of_instances_and_of_one_line_are_distinct) {
  for (const Schedule& schedule : schedules(1)) {
    double out = 0;
    ASSERT_EQ(run(schedule, {1, 64}, instances_kernel, &out), "");
    EXPECT_EQ(out, 23.5);
  }
}

__global__ void fresh_kernel(int* set, int words) {
  WHENCE_SHARED(float, tile, [64]);
  auto* rest = gpu::dynamic_shared<int>();
  const int i = int(threadIdx.x);
  if (!std::isnan(tile[i])) atomicAdd(set, 1);
  for (int w = i; w < words; w += 64)
    if (rest[w] != -1) atomicAdd(set, 1);
  __syncthreads();
  tile[i] = 0;
  for (int w = i; w < words; w += 64) rest[w] = 0;
}

TEST(SimtDevice, shared_memory_is_unset_in_every_block) {
  for (const Schedule& schedule : schedules(1)) {
    int set = 0;
    ASSERT_EQ(run(schedule, {3, 64, 1001 * sizeof(int)}, fresh_kernel, &set, 1001), "");
    EXPECT_EQ(set, 0);
  }
}

__global__ void static_kernel() {
  WHENCE_SHARED(char, first, [40 << 10]);
  WHENCE_SHARED(char, second, [9 << 10]);
  first[threadIdx.x] = second[threadIdx.x] = 1;
}
__global__ void both_kernel() {
  WHENCE_SHARED(char, first, [40 << 10]);
  first[threadIdx.x] = 1;
}
__global__ void aligned_kernel(uintptr_t* odd) {
  WHENCE_SHARED(char, first, [3]);
  WHENCE_SHARED(char, second, [5]);
  if (threadIdx.x == 0)
    *odd = (reinterpret_cast<uintptr_t>(first) | reinterpret_cast<uintptr_t>(second) |
            reinterpret_cast<uintptr_t>(gpu::dynamic_shared<char>())) %
           16;
}

TEST(SimtDevice, shared_memory_has_the_limits_and_alignment_of_a_device) {
  EXPECT_NE(run({}, {1, 32}, static_kernel).find("device_test.cpp:"), std::string::npos);
  EXPECT_NE(run({}, {1, 32}, static_kernel).find("bytes of static shared memory"),
            std::string::npos);
  EXPECT_EQ(run({}, {1, 32, simt::max_shared - (40 << 10)}, both_kernel), "");
  EXPECT_NE(run({}, {1, 32, simt::max_shared - (40 << 10) + 1}, both_kernel), "");
  uintptr_t odd = 1;
  EXPECT_EQ(run({}, {1, 32, 16}, aligned_kernel, &odd), "");
  EXPECT_EQ(odd, 0u);
}

// Groups of copies: what a wait leaves in flight is not there yet.
__global__ void groups_kernel(const int* x, int* seen) {
  WHENCE_SHARED(int, tile, [3][32]);
  const int i = int(threadIdx.x);
  for (int g = 0; g < 3; ++g) {
    simt::copy_issue(&tile[g][i], x + g * 32 + i, sizeof(int));
    simt::copy_commit();
  }
  for (int left = 3; left >= 0; --left) {
    simt::copy_wait(left);
    for (int g = 0; g < 3; ++g)
      if (tile[g][i] == x[g * 32 + i]) atomicAdd(&seen[left], 1);
  }
}

TEST(SimtDevice, waits_deliver_the_groups_that_they_must_and_no_others) {
  std::vector<int> x(96);
  for (int i = 0; i < 96; ++i) x[size_t(i)] = i;
  for (const Schedule& schedule : schedules(1)) {
    int seen[4] = {};
    ASSERT_EQ(run(schedule, {1, 32}, groups_kernel, x.data(), seen), "");
    for (int left = 0; left < 4; ++left) EXPECT_EQ(seen[left], 32 * (3 - left));
  }
}

__device__ int depth_of(volatile char* above, int depth) {
  volatile char here[512];
  for (int i = 0; i < 512; i += 64) here[i] = above[i];
  const int below = depth > 0 ? depth_of(here, depth - 1) : 0;
  return below + here[0];
}
__global__ void stack_kernel(int depth, int* out) {
  volatile char top[512] = {};
  out[threadIdx.x] = depth_of(top, depth) + depth;
}

// 8 KB is what a kernel's thread may keep for itself.
TEST(SimtDevice, a_thread_has_room_for_its_own_arrays) {
  int out[32] = {};
  ASSERT_EQ(run({}, {1, 32}, stack_kernel, 16, out), "");
  for (const int depth : out) EXPECT_EQ(depth, 16);
}

TEST(SimtDevice, a_stack_that_overflows_ends_the_process) {
  const simt_test::Ending e = simt_test::in_child([] {
    int out[32] = {};
    run({}, {1, 32}, stack_kernel, 4000, out);
  });
  EXPECT_FALSE(e.clean);
}

}  // namespace
}  // namespace whence
