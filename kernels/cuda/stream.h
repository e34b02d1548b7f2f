// A stream of work on an NVIDIA GPU, without CUDA's headers.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "kernels/loan.h"
#include "kernels/retained.h"
#include "whence/precision.h"

namespace whence::cuda {

struct DeviceInfo {
  std::string name;
  int major = 0, minor = 0;     // compute capability
  int driver = 0, runtime = 0;  // 12040 is 12.4
  size_t memory_bytes = 0;
};

// Throws DeviceError (kernels/device_error.h) with one line: no driver, no such device, too old.
DeviceInfo device_info(int index);

// The interface of simt::Stream, on a GPU.
class Stream {
 public:
  explicit Stream(int device);
  ~Stream();
  Stream(Stream&&) noexcept;
  Stream& operator=(Stream&&) noexcept;

  void* native() const;  // a cudaStream_t
  // Null when the device is out of memory. May outlive the stream.
  std::shared_ptr<void> allocate(size_t bytes);
  // Page-locked host memory, or null.
  std::shared_ptr<void> allocate_host(size_t bytes);
  void copy_in(void* to_device, const void* from_host, size_t bytes);
  void copy_out(void* to_host, const void* from_device, size_t bytes);
  void copy_within(void* to_device, const void* from_device, size_t bytes);
  // Throws DeviceError for what went wrong in the work so far.
  void synchronize();
  // At least `bytes` of device memory for kernels that need room, from the loan if there is one;
  // valid for work queued until the next call, and whenever that work is replayed.
  void* scratch(size_t bytes);

  Precision precision = Precision::f32;  // of products
  Loan* loan = nullptr;                  // of scratch memory
  bool asking() const { return loan && loan->asking(); }
  // Around every launch: room for more than 48 KB of shared memory, and what the launch reports.
  void prepare_launch(const void* kernel, size_t shared_bytes, const char* name);
  void check_launch(const char* name);
  // Throws what has gone wrong in the queued work so far, without waiting for it.
  void check_work(const char* name);

 private:
  friend class Graph;
  struct State;
  std::unique_ptr<State> state_;

 public:
  Retained retained;  // goes before the stream does
};

// Work on a stream that is the same every time: queued once by itself (which grows scratch memory
// and loads kernels), recorded the second time, replayed with one launch from then on.
class Graph {
 public:
  Graph() = default;
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  void run(Stream& s, const std::function<void()>& work);

 private:
  int runs_ = 0, device_ = 0;
  void* executable_ = nullptr;  // a cudaGraphExec_t
};

}  // namespace whence::cuda
