// The emulated device: memory of its own and a queue of work, with the interface of cuda::Stream.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "kernels/loan.h"
#include "kernels/retained.h"
#include "kernels/simt/engine.h"
#include "whence/precision.h"

namespace whence::simt {

// Makes operations fail on purpose, for tests of what happens then.
struct Injection {
  enum Kind : uint8_t { none, allocation, copy, launch, synchronize } kind = none;
  int nth = 1;          // the first, second, ... of its kind from now on
  bool sticky = false;  // the device is lost from then on
};

// Work is queued and runs at the latest legal moment, when somebody waits for it, so that a missing
// wait shows. Between those moments the host may not touch device memory: its pages are protected.
class Stream {
 public:
  Stream();
  explicit Stream(Schedule schedule);
  ~Stream();
  Stream(Stream&&) noexcept;
  Stream& operator=(Stream&&) noexcept;

  // Null when the device is out of memory. May outlive the stream.
  static std::shared_ptr<void> allocate(size_t bytes);

  // Queued; the host memory is read or written when the queue runs.
  void copy_in(void* to_device, const void* from_host, size_t bytes);
  void copy_out(void* to_host, const void* from_device, size_t bytes);
  void copy_within(void* to_device, const void* from_device, size_t bytes);
  void launch(const Grid& grid, std::function<void()> kernel);
  // Runs the queue. Throws DeviceError.
  void synchronize();
  // At least `bytes` of device memory for kernels that need room, from the loan if there is one;
  // valid for work queued until the next call.
  void* scratch(size_t bytes);

  Precision precision = Precision::f32;  // of products
  Loan* loan = nullptr;                  // of scratch memory
  bool asking() const { return loan && loan->asking(); }

  static void inject(Injection injection);  // for all streams
  // The schedule of streams made from now on.
  static void set_schedule(Schedule schedule);

 private:
  struct Queue;
  std::unique_ptr<Queue> queue_;

 public:
  Retained retained;  // last, so that it goes before the queue does
};

}  // namespace whence::simt
