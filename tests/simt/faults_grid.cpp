// Planted faults: what blocks assume of each other, and threads that write one place.
#include "tests/simt/planted.h"

namespace whence::simt_test {
namespace {

constexpr int threads = 32, blocks = 3;

template <bool mended>
__global__ void increment(int* n) {
  if constexpr (mended)
    atomicAdd(n, 1);
  else
    *n += 1;
}
std::vector<float> lost_update(simt::Stream& s, bool mended) {
  int n = 0;
  gpu::launch(s, {1, threads}, mended ? increment<true> : increment<false>, &n);
  s.synchronize();
  return {float(n)};
}

// Tiles overlap by one element, which both blocks write alike.
template <bool mended>
__global__ void tiles(float* y) {
  const int i = int(blockIdx.x * (threads - 1) + threadIdx.x);
  if (!mended || threadIdx.x + 1 < threads || blockIdx.x + 1 == gridDim.x) y[i] = float(i);
}
std::vector<float> two_blocks_one_element(simt::Stream& s, bool mended) {
  const size_t n = blocks * (threads - 1) + 1;
  return result_of(s, n, [&](float* y) {
    gpu::launch(s, {blocks, threads}, mended ? tiles<true> : tiles<false>, y);
  });
}

// Terms of very different sizes: the sum's bits depend on its order.
__global__ void sum_by_atomics(const float* x, float* y) {
  atomicAdd(y, x[blockIdx.x * threads + threadIdx.x]);
}
__global__ void sum_in_order(const float* x, float* y) {
  if (blockIdx.x == 0 && threadIdx.x == 0)
    for (int i = 0; i < blocks * threads; ++i) *y += x[i];
}
std::vector<float> order_dependent_sum(simt::Stream& s, bool mended) {
  std::vector<float> x(blocks * threads);
  for (size_t i = 0; i < x.size(); ++i) x[i] = 1 / float(i + 1);
  return result_of(s, 1, [&](float* y) {
    gpu::launch(s, {blocks, threads}, mended ? sum_in_order : sum_by_atomics, x.data(), y);
  });
}

template <bool mended>
__global__ void table(float* y) {
  WHENCE_SHARED(float, squares, [threads]);
  const int i = int(threadIdx.x);
  if (mended || blockIdx.x == 0) squares[i] = float(i * i);
  __syncthreads();
  y[int(blockIdx.x) * threads + i] = squares[threads - 1 - i];
}
std::vector<float> stale_shared(simt::Stream& s, bool mended) {
  return result_of(s, size_t{blocks} * threads, [&](float* y) {
    gpu::launch(s, {blocks, threads}, mended ? table<true> : table<false>, y);
  });
}
std::vector<float> squares() {
  std::vector<float> y;
  for (int b = 0; b < blocks; ++b)
    for (int i = 0; i < threads; ++i) y.push_back(float((threads - 1 - i) * (threads - 1 - i)));
  return y;
}

// The block of a higher number waits for the one below it.
template <bool mended>
__global__ void chain(int* flag, float* y) {
  if constexpr (!mended)
    while (atomicAdd(flag, 0) < int(gridDim.x - 1 - blockIdx.x)) {
    }
  if (threadIdx.x != 0) return;
  y[blockIdx.x] = float(blockIdx.x);
  atomicAdd(flag, 1);
}
std::vector<float> waits_for_a_block(simt::Stream& s, bool mended) {
  int flag = 0;
  simt::limit_steps(100000);
  return result_of(s, blocks, [&](float* y) {
    gpu::launch(s, {blocks, threads}, mended ? chain<true> : chain<false>, &flag, y);
  });
}

// The block that comes last adds what all have left.
template <bool mended>
__global__ void last_adds(const float* x, float* partial, int* come, float* y) {
  const float sum = gpu::warp_sum(x[blockIdx.x * threads + threadIdx.x]);
  int place = 0;
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = sum;
    if constexpr (mended) __threadfence();
    place = atomicAdd(come, 1);
    if constexpr (mended) __threadfence();
  }
  if (place + 1 == int(gridDim.x))
    for (unsigned b = 0; b < gridDim.x; ++b) *y += partial[b];
}
std::vector<float> last_block_without_fence(simt::Stream& s, bool mended) {
  const std::vector<float> ones(blocks * threads, 1);
  std::vector<float> partial(blocks);
  int come = 0;
  return result_of(s, 1, [&](float* y) {
    gpu::launch(s, {blocks, threads}, mended ? last_adds<true> : last_adds<false>, ones.data(),
                partial.data(), &come, y);
  });
}

// The second grid reads what the first one wrote; on another stream nothing orders the two.
__global__ void produce(float* y) { y[threadIdx.x] = float(threadIdx.x); }
__global__ void consume(const float* x, float* y) { y[threadIdx.x] = x[threads - 1 - threadIdx.x]; }
std::vector<float> missing_wait_for_a_stream(simt::Stream& s, bool mended) {
  simt::Stream other;
  std::vector<float> x(threads, 0);
  gpu::launch(s, {1, threads}, produce, x.data());
  if (mended) s.synchronize();
  std::vector<float> y = result_of(other, threads, [&](float* to) {
    gpu::launch(other, {1, threads}, consume, x.data(), to);
  });
  s.synchronize();
  return y;
}

// The host reads before it has waited for the device.
std::vector<float> missing_wait_of_the_host(simt::Stream& s, bool mended) {
  std::vector<float> y(threads, 0);
  gpu::launch(s, {1, threads}, produce, y.data());
  if (mended) s.synchronize();
  std::vector<float> seen = y;
  s.synchronize();
  return seen;
}

}  // namespace

std::vector<Planted> grid_faults() {
  return {
      {"lost_update",
       "threads add to one number without an atomic",
       by_tsan,
       "",
       lost_update,
       {threads}},
      {"two_blocks_one_element", "two blocks write one element, though the same value", by_tsan, "",
       two_blocks_one_element, ramp(blocks * (threads - 1) + 1)},
      {"order_dependent_sum",
       "floats are added by atomics, in any order",
       by_bits,
       "",
       order_dependent_sum,
       {5.1462f},
       1e-3f},
      {"stale_shared", "only the first block fills its shared memory", by_schedules, "WRONG",
       stale_shared, squares()},
      {"waits_for_a_block", "a block waits for another one's flag", by_schedules,
       "no end after 100000 waits and atomics", waits_for_a_block, ramp(blocks)},
      {"last_block_without_fence",
       "the last block reads partial sums that no fence published",
       by_tsan,
       "",
       last_block_without_fence,
       {blocks * threads}},
      {"missing_wait_for_a_stream", "work on one stream needs the results of another", by_schedules,
       "WRONG", missing_wait_for_a_stream, ramp(threads, threads - 1, -1)},
      {"missing_wait_of_the_host", "results are read before the stream was waited for",
       by_schedules, "WRONG", missing_wait_of_the_host, ramp(threads)},
  };
}

}  // namespace whence::simt_test
