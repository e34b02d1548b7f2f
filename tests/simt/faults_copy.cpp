// Planted faults: asynchronous copies into shared memory.
#include "tests/simt/planted.h"

namespace whence::simt_test {
namespace {

constexpr int threads = 32, width = 4;  // floats that a thread copies

__device__ void start(float* to, const float* from) {
  simt::copy_issue(to + width * threadIdx.x, from + width * threadIdx.x, width * sizeof(float));
  simt::copy_commit();
}

// Each thread reads what it copied itself; no barrier is needed.
template <bool mended>
__global__ void waits(const float* x, float* y) {
  WHENCE_SHARED(float, tile, [width * threads]);
  start(tile, x);
  if constexpr (mended) simt::copy_wait(0);
  for (int j = 0; j < width; ++j) {
    const int at = width * int(threadIdx.x) + j;
    y[at] = tile[at];
  }
  if constexpr (!mended) simt::copy_wait(0);
}
std::vector<float> missing_copy_wait(simt::Stream& s, bool mended) {
  const std::vector<float> x = ramp(width * threads);
  return result_of(s, x.size(), [&](float* y) {
    gpu::launch(s, {1, threads}, mended ? waits<true> : waits<false>, x.data(), y);
  });
}

// Two stages, of which one is filled while the other is read.
template <bool mended>
__global__ void pipeline(const float* x, int tiles, float* y) {
  WHENCE_SHARED(float, stage, [2][width * threads]);
  const int first = width * int(threadIdx.x);
  float sum = 0;
  start(stage[0], x);
  for (int t = 0; t < tiles; ++t) {
    const bool more = t + 1 < tiles;
    if (more) start(stage[(t + 1) % 2], x + (t + 1) * width * threads);
    simt::copy_wait(more || !mended ? 1 : 0);
    __syncthreads();
    for (int j = 0; j < width; ++j) sum += stage[t % 2][(first + j + 5) % (width * threads)];
    __syncthreads();
  }
  simt::copy_wait(0);
  y[threadIdx.x] = sum;
}
std::vector<float> wait_for_the_wrong_group(simt::Stream& s, bool mended) {
  const std::vector<float> ones(3 * width * threads, 1);
  return result_of(s, threads, [&](float* y) {
    gpu::launch(s, {1, threads}, mended ? pipeline<true> : pipeline<false>, ones.data(), 3, y);
  });
}

template <bool mended>
__global__ void others(const float* x, float* y) {
  WHENCE_SHARED(float, tile, [width * threads]);
  start(tile, x);
  simt::copy_wait(0);
  if constexpr (mended) __syncthreads();
  for (int j = 0; j < width; ++j) {
    const int at = width * int(threadIdx.x) + j;
    y[at] = tile[width * threads - 1 - at];
  }
}
std::vector<float> copy_of_another_thread(simt::Stream& s, bool mended) {
  const std::vector<float> x = ramp(width * threads);
  return result_of(s, x.size(), [&](float* y) {
    gpu::launch(s, {1, threads}, mended ? others<true> : others<false>, x.data(), y);
  });
}

// A copy ahead that nobody needs after the last tile.
template <bool mended>
__global__ void ahead(const float* x, int tiles, float* y) {
  WHENCE_SHARED(float, stage, [2][width * threads]);
  const int first = width * int(threadIdx.x);
  start(stage[0], x);
  for (int t = 0; t < tiles; ++t) {
    const int next = t + 1 < tiles ? t + 1 : 0;
    start(stage[(t + 1) % 2], x + next * width * threads);
    simt::copy_wait(1);
    for (int j = 0; j < width; ++j) y[t * width * threads + first + j] = stage[t % 2][first + j];
  }
  if constexpr (mended) simt::copy_wait(0);
}
std::vector<float> copies_in_flight_at_the_end(simt::Stream& s, bool mended) {
  const std::vector<float> x = ramp(2 * width * threads);
  return result_of(s, x.size(), [&](float* y) {
    gpu::launch(s, {1, threads}, mended ? ahead<true> : ahead<false>, x.data(), 2, y);
  });
}

template <bool mended>
__global__ void clears(float* x, float* y) {
  WHENCE_SHARED(float, tile, [width * threads]);
  const int first = width * int(threadIdx.x);
  start(tile, x);
  if constexpr (mended) simt::copy_wait(0);
  for (int j = 0; j < width; ++j) x[first + j] = 0;
  if constexpr (!mended) simt::copy_wait(0);
  for (int j = 0; j < width; ++j) y[first + j] = tile[first + j];
}
std::vector<float> source_changed_in_flight(simt::Stream& s, bool mended) {
  std::vector<float> x = ramp(width * threads);
  return result_of(s, x.size(), [&](float* y) {
    gpu::launch(s, {1, threads}, mended ? clears<true> : clears<false>, x.data(), y);
  });
}

// The second wait finds an open group: what was issued after the last commit belongs to none.
template <bool mended>
__global__ void commits(const float* x, float* y) {
  WHENCE_SHARED(float, tile, [width * threads]);
  const int first = width * int(threadIdx.x);
  simt::copy_issue(tile + first, x + first, width * sizeof(float));
  if constexpr (mended) simt::copy_commit();
  simt::copy_wait(0);
  for (int j = 0; j < width; ++j) y[first + j] = tile[first + j];
  simt::copy_commit();
  simt::copy_wait(0);
}
std::vector<float> missing_commit(simt::Stream& s, bool mended) {
  const std::vector<float> x = ramp(width * threads);
  return result_of(s, x.size(), [&](float* y) {
    gpu::launch(s, {1, threads}, mended ? commits<true> : commits<false>, x.data(), y);
  });
}

}  // namespace

std::vector<Planted> copy_faults() {
  const std::vector<float> same = ramp(width * threads);
  return {
      {"missing_copy_wait", "a copy is read before it was waited for", by_schedules, "WRONG",
       missing_copy_wait, same},
      {"wait_for_the_wrong_group", "the last tile of a pipeline is read one wait too early",
       by_schedules, "WRONG", wait_for_the_wrong_group, std::vector<float>(threads, 3 * width)},
      {"copy_of_another_thread", "each thread waits for its own copies and reads another's",
       by_schedules | by_tsan, "WRONG", copy_of_another_thread,
       ramp(width * threads, width * threads - 1, -1)},
      {"copies_in_flight_at_the_end", "a kernel ends before its last copy has come", by_schedules,
       "ended while its asynchronous copies are in flight", copies_in_flight_at_the_end,
       ramp(2 * width * threads)},
      {"source_changed_in_flight", "the source is overwritten before the copy was waited for",
       by_schedules, "WRONG", source_changed_in_flight, same},
      {"missing_commit", "a wait for groups, of which the copy is none", by_schedules, "WRONG",
       missing_commit, same},
  };
}

}  // namespace whence::simt_test
