// The emulator itself: what runs, in which order, what is refused and how it is reported.
#include <gtest/gtest.h>

#include <numeric>
#include <set>

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

// Emulated threads are slow under the race detector.
constexpr uint64_t few = simt::race_detector ? 4 : 20;

// As run(), under many schedules, all of which must say the same of the kernel.
#define EXPECT_FAULT(text, ...)                                                                    \
  for (const Schedule& schedule : schedules(few / 4))                                              \
    if (const std::string said = run(schedule, __VA_ARGS__); said.find(text) == std::string::npos) \
  ADD_FAILURE() << "under order " << int(schedule.order) << ": " << said
#define EXPECT_RUNS(...) \
  for (const Schedule& schedule : schedules(few / 4)) EXPECT_EQ(run(schedule, __VA_ARGS__), "")

__global__ void index_kernel(int* count, unsigned* seen) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  atomicAdd(count, 1);
  seen[block * threads + thread] += 1;
}

TEST(SimtEngine, every_index_of_three_dimensions_runs_once) {
  for (const Schedule& schedule : schedules(few / 4)) {
    int count = 0;
    std::vector<unsigned> seen(size_t{3} * 5 * 2 * 4 * 4 * 2);
    ASSERT_EQ(run(schedule, {{3, 5, 2}, {4, 4, 2}}, index_kernel, &count, seen.data()), "");
    EXPECT_EQ(count, int(seen.size()));
    EXPECT_EQ(std::set<unsigned>(seen.begin(), seen.end()), std::set<unsigned>{1});
  }
}

__global__ void reverse_kernel(const int* x, int* y) {
  WHENCE_SHARED(int, tile, [256]);
  const int n = int(blockDim.x), i = int(threadIdx.x);
  for (int round = 0; round < 3; ++round) {
    tile[i] = x[blockIdx.x * unsigned(n) + unsigned(i)] + round;
    __syncthreads();
    y[blockIdx.x * unsigned(n) + unsigned(i)] = tile[n - 1 - i];
    __syncthreads();
  }
}

TEST(SimtEngine, a_barrier_separates_what_is_before_and_after) {
  constexpr int blocks = simt::race_detector ? 2 : 7;
  std::vector<int> x(size_t{256} * blocks), y(x.size());
  std::iota(x.begin(), x.end(), 0);
  for (const Schedule& schedule : schedules(few / 4)) {
    std::fill(y.begin(), y.end(), -1);
    ASSERT_EQ(run(schedule, {blocks, 256}, reverse_kernel, x.data(), y.data()), "");
    for (size_t i = 0; i < y.size(); ++i) ASSERT_EQ(y[i], x[i / 256 * 256 + 255 - i % 256] + 2);
  }
}

__global__ void order_kernel(int* order, int* next) {
  order[atomicAdd(next, 1)] = int(threadIdx.x + blockIdx.x * blockDim.x);
  __syncthreads();
  order[atomicAdd(next, 1)] = int(threadIdx.x + blockIdx.x * blockDim.x);
}

std::vector<int> order_of(const Schedule& schedule) {
  std::vector<int> order(size_t{5} * 2 * 64, -1);
  int next = 0;
  EXPECT_EQ(run(schedule, {5, 64}, order_kernel, order.data(), &next), "");
  return order;
}

TEST(SimtEngine, a_seed_makes_one_order_and_other_seeds_others) {
  std::set<std::vector<int>> orders;
  for (const Order order : {Order::random, Order::priority})
    for (uint64_t seed = 0; seed < few; ++seed) {
      const std::vector<int> now = order_of({order, seed});
      EXPECT_EQ(order_of({order, seed}), now);
      orders.insert(now);
    }
  EXPECT_EQ(orders.size(), 2 * few);
  simt::shift_seeds(7);
  const std::vector<int> shifted = order_of({Order::random, 4});
  simt::shift_seeds(0);
  EXPECT_EQ(shifted, order_of({Order::random, 11}));
}

TEST(SimtEngine, forward_and_reverse_are_what_they_say) {
  std::vector<int> ascending(64);
  std::iota(ascending.begin(), ascending.end(), 0);
  const std::vector<int> forward = order_of({Order::forward}), reverse = order_of({Order::reverse});
  EXPECT_TRUE(std::equal(ascending.begin(), ascending.end(), forward.begin()));
  for (int i = 0; i < 64; ++i) EXPECT_EQ(reverse[size_t(i)], 5 * 64 - 1 - i);
}

TEST(SimtEngine, blocks_come_in_different_orders) {
  if (simt::race_detector) GTEST_SKIP() << "no accesses to watch, and many threads";
  std::set<std::vector<int>> orders;
  for (uint64_t seed = 0; seed < 30; ++seed) {
    std::vector<int> first;
    for (const int at : order_of({Order::priority, seed}))
      if (first.empty() || first.back() != at / 64) first.push_back(at / 64);
    ASSERT_EQ(first.size(), 5u);
    orders.insert(first);
  }
  EXPECT_GE(orders.size(), 12u);  // of the 20 that a step and a start can make
}

__global__ void ahead_kernel(int* lead, int* progress) {
  for (int i = 0; i < 8; ++i) {
    __syncwarp();
    if (threadIdx.x % 32 == 0) atomicAdd(&progress[threadIdx.x / 32], 1);
    if (threadIdx.x % 32 == 0)
      atomicMax(lead, std::abs(atomicAdd(&progress[0], 0) - atomicAdd(&progress[1], 0)));
  }
}

TEST(SimtEngine, priority_lets_one_warp_run_ahead) {
  int widest = 0;
  for (uint64_t seed = 0; seed < few; ++seed) {
    int lead = 0, progress[2] = {};
    ASSERT_EQ(run({Order::priority, seed}, {1, 64}, ahead_kernel, &lead, progress), "");
    widest = std::max(widest, lead);
  }
  EXPECT_GE(widest, 7);
}

__global__ void divergent_kernel() {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
}
__global__ void early_exit_kernel() {
  if (threadIdx.x == 40) return;
  __syncthreads();
}
__global__ void uneven_kernel() {
  for (unsigned i = 0; i < 1 + threadIdx.x / 32; ++i) __syncthreads();
}
__global__ void half_warp_kernel() {
  if (threadIdx.x < 16) __shfl_sync(gpu::full_warp, 1, 0);
  __syncthreads();
}

TEST(SimtEngine, faults_of_barriers_name_kernel_block_thread_and_line) {
  EXPECT_FAULT("divergent barrier: another thread of the block waits at engine_test.cpp:", {2, 64},
               divergent_kernel);
  EXPECT_FAULT("kernel TestBody, block (", {1, 64}, divergent_kernel);
  EXPECT_FAULT("engine_test.cpp:", {1, 64}, early_exit_kernel);
  EXPECT_FAULT("ended", {1, 64}, early_exit_kernel);
  EXPECT_FAULT("ended", {1, 64}, uneven_kernel);
  EXPECT_FAULT("deadlock: 16 threads wait in __shfl_sync at engine_test.cpp:", {1, 32},
               half_warp_kernel);
  EXPECT_FAULT("16 threads wait at the barrier at engine_test.cpp:", {1, 32}, half_warp_kernel);
}

__global__ void throwing_kernel(int* ran) {
  atomicAdd(ran, 1);
  __syncthreads();
  if (threadIdx.x == 5) throw std::length_error("thrown by a kernel");
  __syncthreads();
}

TEST(SimtEngine, exceptions_leave_a_kernel_and_the_next_one_runs) {
  for (const Schedule& schedule : schedules(few / 4)) {
    int ran = 0, count = 0;
    EXPECT_THROW(run(schedule, {4, 64}, throwing_kernel, &ran), std::length_error);
    EXPECT_EQ(ran, 64) << "later blocks ran";
    std::vector<unsigned> seen(64);
    EXPECT_EQ(run(schedule, {1, 64}, index_kernel, &count, seen.data()), "");
    EXPECT_EQ(count, 64);
  }
}

__global__ void empty_kernel() {}

TEST(SimtEngine, launches_beyond_the_device_are_refused) {
  EXPECT_FAULT("invalid launch", {1, 1056}, empty_kernel);
  EXPECT_FAULT("not whole warps", {1, 48}, empty_kernel);
  EXPECT_FAULT("invalid launch", {1, {1, 1, 96}}, empty_kernel);
  EXPECT_FAULT("invalid launch", {{1, 65536}, 32}, empty_kernel);
  EXPECT_FAULT("invalid launch", {{1, 1, 65536}, 32}, empty_kernel);
  EXPECT_FAULT("dynamic shared memory", {1, 32, simt::max_shared + 1}, empty_kernel);
  EXPECT_EQ(run({}, {1, 1024, simt::max_shared}, empty_kernel), "");
  EXPECT_RUNS({0, 32}, empty_kernel);
  EXPECT_FAULT("invalid launch", {1, 0}, empty_kernel);
}

__global__ void nested_kernel() {
  gpu::Stream s;
  gpu::launch(s, {1, 32}, empty_kernel);
  s.synchronize();
}

TEST(SimtEngine, a_kernel_cannot_launch_a_kernel) {
  EXPECT_FAULT("a kernel launched a kernel", {1, 32}, nested_kernel);
}

__global__ void spinning_kernel(int* flag) {
  if (blockIdx.x == 0)
    while (atomicAdd(flag, 0) == 0) {
    }
  else
    atomicAdd(flag, 1);
}
__global__ void meeting_kernel(const volatile int* flag) {
  while (*flag == 0) __syncwarp();
}

TEST(SimtEngine, waiting_for_what_never_comes_ends) {
  simt::limit_steps(100000);
  int flag = 0;
  EXPECT_NE(run({}, {1, 32}, spinning_kernel, &flag).find("no end after 100000 waits and atomics"),
            std::string::npos);
  EXPECT_NE(run({Order::forward}, {1, 32}, meeting_kernel, &flag).find("engine_test.cpp"),
            std::string::npos);
  simt::limit_steps(simt::default_step_limit);
}

TEST(SimtEngine, counts_what_ran) {
  const simt::Counts before = simt::counts();
  EXPECT_EQ(run({}, {3, 64}, empty_kernel), "");
  const simt::Counts after = simt::counts();
  EXPECT_EQ(after.grids - before.grids, 1u);
  EXPECT_EQ(after.blocks - before.blocks, 3u);
  EXPECT_EQ(after.threads - before.threads, 192u);
  if (!simt::race_detector) {  // threads that never wait share a stack
    EXPECT_EQ(after.switches - before.switches, 3u);
  }
}

TEST(SimtEngine, barriers_can_be_turned_off_one_line_at_a_time) {
  simt::forget_barrier_sites();
  std::vector<int> x(256), y(256);
  std::iota(x.begin(), x.end(), 0);
  EXPECT_EQ(run({}, {1, 256}, reverse_kernel, x.data(), y.data()), "");
  const std::vector<simt::Site> sites = simt::barrier_sites();
  ASSERT_EQ(sites.size(), 2u);
  EXPECT_EQ(text(sites[0]).substr(0, 16), "engine_test.cpp:");
  EXPECT_EQ(sites[1].line, sites[0].line + 2);
  if (simt::race_detector) return;
  simt::skip_barriers("tests/simt/engine_test.cpp", sites[0].line);
  EXPECT_EQ(run({Order::forward}, {1, 256}, reverse_kernel, x.data(), y.data()), "");
  EXPECT_EQ(y[2], 254) << "of the round before";
  simt::skip_barriers("", 0);
  EXPECT_EQ(run({Order::forward}, {1, 256}, reverse_kernel, x.data(), y.data()), "");
  EXPECT_EQ(y[2], 255);
}

}  // namespace
}  // namespace whence
