// The emulated device's queue, its memory, and failures made on purpose.
#include "kernels/simt/stream.h"

#include <gtest/gtest.h>

#include <cmath>
#include <thread>

#include "kernels/cuda/gpu.cuh"
#include "kernels/device_error.h"
#include "kernels/simt/sanitizers.h"
#include "tests/simt/child.h"

namespace whence {
namespace {

using k::DeviceError;
using simt::Injection;
using simt::Stream;

constexpr size_t n = 64;

__global__ void twice_kernel(float* x) { x[threadIdx.x] *= 2; }
__global__ void faulty_kernel() {
  if (threadIdx.x == 0) __syncthreads();
}

// Tests that make operations fail end with none that does.
class SimtStream : public testing::Test {
 protected:
  void TearDown() override { Stream::inject({}); }

  std::shared_ptr<void> memory = Stream::allocate(n * sizeof(float));
  float* x = static_cast<float*>(memory.get());
  std::vector<float> host = std::vector<float>(n, 1);
  void round_trip(Stream& s) {
    s.copy_in(x, host.data(), n * sizeof(float));
    gpu::launch(s, {1, n}, twice_kernel, x);
    s.copy_out(host.data(), x, n * sizeof(float));
  }
};

// What kind of DeviceError f throws; -1: none.
template <class F>
int kind(F f) {
  try {
    f();
  } catch (const DeviceError& e) {
    return e.kind;
  }
  return -1;
}

TEST_F(SimtStream, work_runs_when_somebody_waits_and_in_order) {
  Stream s;
  round_trip(s);
  round_trip(s);
  EXPECT_EQ(host, std::vector<float>(n, 1)) << "nothing has run yet";
  host.assign(n, 3);  // too late for a caller who did not wait: the copy reads this
  s.synchronize();
  EXPECT_EQ(host, std::vector<float>(n, 12));
  s.synchronize();
  EXPECT_EQ(host, std::vector<float>(n, 12)) << "work runs once";
}

TEST_F(SimtStream, streams_do_not_run_each_other) {
  Stream a, b;
  round_trip(a);
  b.synchronize();
  EXPECT_EQ(host[0], 1);
  Stream c = std::move(a);
  c.synchronize();
  EXPECT_EQ(host[0], 2);
}

TEST_F(SimtStream, the_host_may_not_touch_device_memory) {
  Stream s;
  round_trip(s);
  s.synchronize();
  const auto touch = [&](bool write) {
    return simt_test::in_child([&] {
      volatile float* at = x;
      if (write) at[0] = 1;
      if (at[0] > 100) std::abort();
    });
  };
  EXPECT_FALSE(touch(false).clean);
  EXPECT_FALSE(touch(true).clean);
}

TEST_F(SimtStream, new_memory_is_not_zero) {
  Stream s;
  s.copy_out(host.data(), x, n * sizeof(float));
  s.synchronize();
  for (const float v : host) EXPECT_TRUE(std::isnan(v));
}

TEST_F(SimtStream, memory_outlives_its_stream_and_sizes_may_be_odd) {
  for (const size_t bytes : {size_t{1}, size_t{255}, size_t{4096}, size_t{100000}}) {
    auto room = Stream::allocate(bytes);
    ASSERT_NE(room, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(room.get()) % 256, 0u);
    std::vector<char> in(bytes, 5), out(bytes, 0);
    {
      Stream s;
      s.copy_in(room.get(), in.data(), bytes);
      s.synchronize();
    }
    Stream s;
    s.copy_out(out.data(), room.get(), bytes);
    s.synchronize();
    EXPECT_EQ(out, in);
  }
}

TEST_F(SimtStream, scratch_grows_and_keeps_what_queued_work_uses) {
  Stream s;
  auto* small = static_cast<float*>(s.scratch(n * sizeof(float)));
  EXPECT_EQ(s.scratch(16), small) << "large enough";
  s.copy_in(small, host.data(), n * sizeof(float));
  gpu::launch(s, {1, n}, twice_kernel, small);
  s.copy_out(host.data(), small, n * sizeof(float));
  void* large = s.scratch(n * n * sizeof(float));
  EXPECT_NE(large, small);
  s.synchronize();
  EXPECT_EQ(host[0], 2);
  EXPECT_EQ(s.scratch(n * n), large);
  EXPECT_EQ(Stream().scratch(0) != nullptr, true);
}

TEST_F(SimtStream, memory_runs_out_when_asked_to_and_when_it_does) {
  Stream::inject({Injection::allocation, 2});
  EXPECT_NE(Stream::allocate(16), nullptr);
  EXPECT_EQ(Stream::allocate(16), nullptr);
  EXPECT_NE(Stream::allocate(16), nullptr);
  EXPECT_EQ(Stream::allocate(size_t{1} << 60), nullptr);
  Stream::inject({Injection::allocation, 1});
  Stream s;
  EXPECT_EQ(kind([&] { s.scratch(100); }), DeviceError::out_of_memory);
  EXPECT_EQ(kind([&] { s.scratch(100); }), -1) << "later there is room";
}

TEST_F(SimtStream, each_kind_of_operation_fails_once_when_told) {
  const auto all = [&] {
    Stream s;
    round_trip(s);
    s.synchronize();
  };
  for (const Injection injection : {Injection{Injection::copy, 1},
                                    {Injection::copy, 2},
                                    {Injection::launch, 1},
                                    {Injection::synchronize, 1}}) {
    Stream::inject(injection);
    EXPECT_EQ(kind(all), DeviceError::refused) << int(injection.kind) << " " << injection.nth;
    EXPECT_EQ(kind(all), -1) << "the device works again";
  }
  Stream::inject({Injection::copy, 3});
  EXPECT_EQ(kind(all), -1) << "only two copies";
}

TEST_F(SimtStream, a_lost_device_refuses_everything_to_everyone) {
  Stream s, other;
  for (const Injection::Kind injected :
       {Injection::copy, Injection::launch, Injection::synchronize}) {
    Stream::inject({injected, 1, true});
    const auto fails = [&](Stream& on) {
      return kind([&] {
        round_trip(on);
        on.synchronize();
      });
    };
    Stream first, second;
    EXPECT_EQ(fails(first), DeviceError::lost);
    EXPECT_EQ(fails(first), DeviceError::lost);
    EXPECT_EQ(fails(second), DeviceError::lost);
    EXPECT_EQ(kind([&] { Stream::allocate(1); }), DeviceError::lost);
    EXPECT_EQ(kind([&] { first.scratch(1); }), DeviceError::lost);
    EXPECT_EQ(kind([&] { gpu::launch(second, {1, n}, twice_kernel, x); }), DeviceError::lost);
    Stream::inject({});
    EXPECT_EQ(fails(first), DeviceError::lost) << "a stream that was lost stays lost";
    Stream fresh;
    EXPECT_EQ(fails(fresh), -1);
  }
}

TEST_F(SimtStream, a_fault_of_a_kernel_loses_its_stream) {
  Stream s;
  gpu::launch(s, {1, n}, faulty_kernel);
  round_trip(s);
  EXPECT_EQ(kind([&] { s.synchronize(); }), DeviceError::lost);
  EXPECT_EQ(host[0], 1) << "what was queued behind the fault has not run";
  EXPECT_EQ(kind([&] { s.synchronize(); }), DeviceError::lost);
  EXPECT_EQ(kind([&] { round_trip(s); }), DeviceError::lost);
}

TEST_F(SimtStream, streams_made_from_now_on_have_the_schedule_that_was_set) {
  const simt::Schedule before{};
  Stream::set_schedule({simt::Order::forward, 0});
  Stream s;
  gpu::launch(s, {1, n}, faulty_kernel);
  std::string said;
  try {
    s.synchronize();
  } catch (const DeviceError& e) {
    said = e.what();
  }
  Stream::set_schedule(before);
  // In forward order thread 0 waits first and thread 1 is the first to end.
  EXPECT_NE(said.find("thread (1, 0, 0): the thread ended while 1 of its block"), std::string::npos)
      << said;
}

// Grids of one stream are in order for the race detector, streams too where the host waits.
TEST_F(SimtStream, grids_follow_each_other) {
  Stream a, b;
  round_trip(a);
  gpu::launch(a, {1, n}, twice_kernel, x);
  a.synchronize();
  gpu::launch(b, {1, n}, twice_kernel, x);
  b.copy_out(host.data(), x, n * sizeof(float));
  b.synchronize();
  EXPECT_EQ(host, std::vector<float>(n, 8));
}

TEST_F(SimtStream, host_threads_have_devices_of_their_own) {
  std::vector<std::vector<float>> results(3, std::vector<float>(n, 1));
  std::vector<std::thread> threads;
  for (auto& mine : results)
    threads.emplace_back([&mine] {
      auto room = Stream::allocate(n * sizeof(float));
      auto* at = static_cast<float*>(room.get());
      Stream s;
      s.copy_in(at, mine.data(), n * sizeof(float));
      for (int i = 0; i < 3; ++i) gpu::launch(s, {1, n}, twice_kernel, at);
      s.copy_out(mine.data(), at, n * sizeof(float));
      s.synchronize();
    });
  for (auto& t : threads) t.join();
  for (const auto& mine : results) EXPECT_EQ(mine, std::vector<float>(n, 8));
}

}  // namespace
}  // namespace whence
