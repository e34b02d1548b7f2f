// Stream: where kernels run and their operands live, and the call that picks the kernels of its
// processor.
#pragma once

#include <functional>
#include <memory>
#include <variant>

#include "kernels/kernel.h"
#include "whence/device.h"
#include "whence/tensor.h"
#ifdef WHENCE_HAVE_SIMT
#include "kernels/simt/stream.h"
#endif
#ifdef WHENCE_HAVE_CUDA
#include "kernels/cuda/stream.h"
#endif

namespace whence {

struct Stream {
  std::variant<cpu::Stream
#ifdef WHENCE_HAVE_SIMT
               ,
               simt::Stream
#endif
#ifdef WHENCE_HAVE_CUDA
               ,
               cuda::Stream
#endif
               >
      backend;
  Device device;
  std::unique_ptr<Loan> loan = std::make_unique<Loan>();  // of scratch memory, to `backend`

  // The host reads and writes what kernels do: there are no copies and nothing to wait for.
  bool on_host() const { return device.kind == Device::cpu; }
  void set_precision(Precision precision);  // throws usage where only f32 is possible
};

// WHENCE_THREADS, else one for each core that this process may use. Throws usage for a bad value.
int default_threads();
// `threads` matter on the CPU only; 0: default_threads().
Stream make_stream(Device device, int threads);

// Memory that kernels on `s` use; it may outlive the stream. Throws device_memory or no_memory.
std::shared_ptr<void> allocate(Stream& s, size_t bytes);
// Host memory that copies run fastest from and to.
std::shared_ptr<void> allocate_host(Stream& s, size_t bytes);
// Queued behind the work so far; both sides must live until wait() returns.
void copy_in(Stream& s, void* to_device, const void* from_host, size_t bytes);
void copy_out(Stream& s, void* to_host, const void* from_device, size_t bytes);
// The same where either side may be the host or the device of `s`.
void copy_between(Stream& s, void* to, Device to_device, const void* from, Device from_device,
                  size_t bytes);
// Returns when all queued work is done; errors of that work are thrown here.
void wait(Stream& s);

// Work that is queued the same way every time: where the device can, it is recorded once and then
// replayed.
class Recording {
 public:
  Recording();
  ~Recording();
  void run(Stream& s, const std::function<void()>& work);
  void forget();  // the work will have other addresses

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Throws the library's error for what a device reported.
[[noreturn]] void rethrow_device_error(const Device& device);

template <class F>
void on(Stream& s, F&& f) {
  if (s.on_host()) return f(std::get<cpu::Stream>(s.backend));
  try {
    std::visit(std::forward<F>(f), s.backend);
  } catch (...) {
    rethrow_device_error(s.device);
  }
}

}  // namespace whence
