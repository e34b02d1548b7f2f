// Planted faults: bounds, memory that nobody set, alignment, indices.
#include "tests/simt/planted.h"

namespace whence::simt_test {
namespace {

constexpr int threads = 64;

// A difference to the right neighbour needs one element more than there are threads.
template <bool mended>
__global__ void halo_write(float* y) {
  WHENCE_SHARED(float, tile, [mended ? threads + 4 : threads]);
  const int i = int(threadIdx.x);
  tile[i] = float(i);
  if (i == 0) *(tile + threads) = float(threads);
  __syncthreads();
  y[i] = i + 1 < threads ? tile[i + 1] - tile[i] : 1;
}
std::vector<float> shared_write_past_end(simt::Stream& s, bool mended) {
  return result_of(s, threads, [&](float* y) {
    gpu::launch(s, {1, threads}, mended ? halo_write<true> : halo_write<false>, y);
  });
}

// The guard behind an array happens to be a tiny number that a sum swallows.
template <bool mended>
__global__ void halo_read(float* y) {
  auto* tile = gpu::dynamic_shared<float>();
  const int i = int(threadIdx.x);
  tile[i] = float(i + 1);
  __syncthreads();
  y[i] = tile[i] + (mended && i + 1 == threads ? 0 : tile[i + 1]);
}
std::vector<float> shared_read_past_end(simt::Stream& s, bool mended) {
  return result_of(s, threads, [&](float* y) {
    gpu::launch(s, {1, threads, threads * sizeof(float)},
                mended ? halo_read<true> : halo_read<false>, y);
  });
}
std::vector<float> sums_of_two() {
  std::vector<float> y = ramp(threads, 3, 2);
  y[threads - 1] = threads;
  return y;
}

template <bool mended>
__global__ void to_n(float* y, int n) {
  const int i = int(threadIdx.x);
  if (mended ? i < n : i <= n) y[i] = 1;
}
std::vector<float> global_write_past_end(simt::Stream& s, bool mended) {
  OnDevice y(s, std::vector<float>(37, 0));
  gpu::launch(s, {1, threads}, mended ? to_n<true> : to_n<false>, y.data(), 37);
  return y.values();
}

template <bool mended>
__global__ void to_the_left(const float* x, float* y, int n) {
  const int i = int(threadIdx.x);
  if (i >= n) return;
  const float left = mended && i == 0 ? 0 : x[i - 1];
  y[i] = left > 0 ? left : 0;
}
std::vector<float> global_read_before_start(simt::Stream& s, bool mended) {
  OnDevice x(s, ramp(37, 1)), y(s, std::vector<float>(37, 0));
  gpu::launch(s, {1, threads}, mended ? to_the_left<true> : to_the_left<false>, x.data(), y.data(),
              37);
  return y.values();
}

template <bool mended>
__global__ void count(float* y) {
  WHENCE_SHARED(float, bins, [4]);
  const int i = int(threadIdx.x);
  if constexpr (mended) {
    if (i < 4) bins[i] = 0;
  }
  __syncthreads();
  for (int turn = 0; turn < threads; ++turn) {
    if (turn == i) bins[i % 4] += 1;
    __syncthreads();
  }
  if (i < 4) y[i] = bins[i];
}
std::vector<float> unset_shared(simt::Stream& s, bool mended) {
  return result_of(s, 4, [&](float* y) {
    gpu::launch(s, {1, threads}, mended ? count<true> : count<false>, y);
  });
}

template <bool mended>
__global__ void unset(const float* x, float* room, float* y) {
  const int i = int(threadIdx.x);
  if constexpr (mended) room[i] = 0;
  room[i] += x[i];
  y[i] = room[i];
}
std::vector<float> unset_scratch(simt::Stream& s, bool mended) {
  OnDevice x(s, ramp(threads)), y(s, std::vector<float>(threads, 0));
  gpu::launch(s, {1, threads}, mended ? unset<true> : unset<false>, x.data(),
              static_cast<float*>(s.scratch(threads * sizeof(float))), y.data());
  return y.values();
}

template <bool mended>
__global__ void without_tail(const float* x, int n, float* y) {
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (!mended || i < n) y[i] = 2 * x[i];
}
std::vector<float> missing_tail_mask(simt::Stream& s, bool mended) {
  OnDevice x(s, ramp(150)), y(s, std::vector<float>(150, 0));
  gpu::launch(s, {3, threads}, mended ? without_tail<true> : without_tail<false>, x.data(), 150,
              y.data());
  return y.values();
}

template <bool mended>
__global__ void of_128(const float* x, int n, float* y) {
  for (int i = int(threadIdx.x); i < n; i += mended ? int(blockDim.x) : 128) y[i] = x[i];
}
std::vector<float> block_size_assumption(simt::Stream& s, bool mended) {
  const std::vector<float> x = ramp(200, 1);
  return result_of(s, 200, [&](float* y) {
    gpu::launch(s, {1, threads}, mended ? of_128<true> : of_128<false>, x.data(), 200, y);
  });
}

struct alignas(16) Four {
  float at[4];
};
// Sums of four neighbours from an odd start.
template <bool mended>
__global__ void by_fours(const float* x, float* y) {
  const int i = int(threadIdx.x);
  float sum = 0;
  if constexpr (mended) {
    for (int j = 0; j < 4; ++j) sum += x[4 * i + j];
  } else {
    const float* at = x + 4 * i;
    simt::check_aligned(at, sizeof(Four));
    Four four;
    std::memcpy(&four, at, sizeof four);
    for (const float v : four.at) sum += v;
  }
  y[i] = sum;
}
std::vector<float> misaligned_vector(simt::Stream& s, bool mended) {
  OnDevice x(s, std::vector<float>(4 * 32 + 1, 1));
  return result_of(s, 32, [&](float* y) {
    gpu::launch(s, {1, 32}, mended ? by_fours<true> : by_fours<false>,
                static_cast<const float*>(x.data() + 1), y);
  });
}

__global__ void copy(const float* x, float* y) { y[threadIdx.x] = x[threadIdx.x]; }
std::vector<float> use_after_release(simt::Stream& s, bool mended) {
  OnDevice x(s, ramp(threads)), y(s, std::vector<float>(threads, 0));
  const float* at = x.data();
  if (!mended) x.release();
  gpu::launch(s, {1, threads}, copy, at, y.data());
  return y.values();
}
std::vector<float> released_before_it_ran(simt::Stream& s, bool mended) {
  OnDevice x(s, ramp(threads)), y(s, std::vector<float>(threads, 0));
  gpu::launch(s, {1, threads}, copy, static_cast<const float*>(x.data()), y.data());
  if (mended) s.synchronize();
  x.release();
  return y.values();
}

// What is read too much changes nothing.
__global__ void local_window(const float* x, int width, float* y) {
  float window[4];
  const int i = int(threadIdx.x);
  for (int j = 0; j < 4; ++j) window[j] = x[i + j];
  float most = window[0];
  for (int j = 1; j < width; ++j) {
    const volatile float& at = window[j];
    const float next = at;
    if (j < 4 && next > most) most = next;
  }
  y[i] = most;
}
std::vector<float> local_array_overrun(simt::Stream& s, bool mended) {
  const std::vector<float> x = ramp(40);
  return result_of(s, 32, [&](float* y) {
    gpu::launch(s, {1, 32}, local_window, x.data(), mended ? 4 : 5, y);
  });
}

template <bool mended>
__global__ void offsets(int cols, float* y) {
  const int row = int(threadIdx.x) * 3000;
  const int64_t at = mended ? int64_t{row} * cols : row * cols;
  y[threadIdx.x] = float(at / cols / 3000);
}
std::vector<float> index_of_32_bits(simt::Stream& s, bool mended) {
  return result_of(s, 32, [&](float* y) {
    gpu::launch(s, {1, 32}, mended ? offsets<true> : offsets<false>, 50257, y);
  });
}

}  // namespace

std::vector<Planted> memory_faults() {
  return {
      {"shared_write_past_end", "a shared array is one element short for a write",
       by_schedules | by_asan,
       "something was written past the end of the shared array of faults_memory.cpp:",
       shared_write_past_end, std::vector<float>(threads, 1)},
      {"shared_read_past_end", "a shared array is one element short for a read", by_asan, "",
       shared_read_past_end, sums_of_two()},
      {"global_write_past_end", "<= for < at the end of a device array", by_asan, "",
       global_write_past_end, std::vector<float>(37, 1)},
      {"global_read_before_start", "the first element's left neighbour is read", by_asan, "",
       global_read_before_start, ramp(37)},
      {"unset_shared", "sums start from shared memory that nobody cleared", by_schedules, "WRONG",
       unset_shared, std::vector<float>(4, threads / 4)},
      {"unset_scratch", "sums start from scratch memory that nobody cleared", by_schedules, "WRONG",
       unset_scratch, ramp(threads)},
      {"missing_tail_mask", "the last block does not look at the size", by_asan, "",
       missing_tail_mask, ramp(150, 0, 2)},
      {"block_size_assumption", "a stride of 128 in a block of 64", by_schedules, "WRONG",
       block_size_assumption, ramp(200, 1)},
      {"misaligned_vector", "four floats at once from an odd address", by_schedules,
       "faults_memory.cpp:", misaligned_vector, std::vector<float>(32, 4)},
      {"use_after_release", "a kernel reads device memory that was released before its launch",
       by_schedules | by_asan, ": illegal memory access", use_after_release, ramp(threads)},
      {"released_before_it_ran", "device memory is released while a queued kernel needs it",
       by_schedules | by_asan, ": illegal memory access", released_before_it_ran, ramp(threads)},
      {"local_array_overrun", "a thread's own array is one element short", by_asan, "",
       local_array_overrun, ramp(32, 3)},
      {"index_of_32_bits", "a row times a row's length in 32 bits", by_schedules | by_asan, "WRONG",
       index_of_32_bits, ramp(32)},
  };
}

}  // namespace whence::simt_test
