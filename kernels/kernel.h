// What every kernel family shares: the stream type and the macro that declares a kernel once.
//
// Contract of all kernels: dense pointers, sizes, options, in that order after the stream; no
// allocation of results (scratch is lent to the stream, see kernels/loan.h: while it is asking, a
// kernel touches no operand), no global state; any size is correct, including 0, 1 and odd ones;
// outputs may alias inputs only where the header says so. The bits of a result do not depend on the
// number of threads, nor on how many rows or samples share a call.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/loan.h"
#include "whence/real.h"

namespace whence::cpu {

// Where CPU kernels run: on at most `threads` threads, the caller among them.
struct Stream {
  int threads = 1;
  Loan* loan = nullptr;  // of scratch memory, if there is one
  bool asking() const { return loan && loan->asking(); }
};

}  // namespace whence::cpu
namespace whence::simt {
class Stream;  // the emulated device (kernels/simt/stream.h)
}
namespace whence::cuda {
class Stream;  // an NVIDIA GPU (kernels/cuda/stream.h)
}

// Declares a kernel for every processor this build has. One that is not defined for all of them
// does not link.
#ifdef WHENCE_HAVE_SIMT
#define WHENCE_ON_SIMT(name, ...) \
  ;                               \
  void name(simt::Stream& s, __VA_ARGS__)
#else
#define WHENCE_ON_SIMT(name, ...)
#endif
#ifdef WHENCE_HAVE_CUDA
#define WHENCE_ON_CUDA(name, ...) \
  ;                               \
  void name(cuda::Stream& s, __VA_ARGS__)
#else
#define WHENCE_ON_CUDA(name, ...)
#endif
#define WHENCE_KERNEL(name, ...)                                           \
  void name(cpu::Stream& s, __VA_ARGS__) WHENCE_ON_SIMT(name, __VA_ARGS__) \
      WHENCE_ON_CUDA(name, __VA_ARGS__)

// Functions that devices run as well.
#ifdef __CUDACC__
#define WHENCE_HD __host__ __device__
#else
#define WHENCE_HD
#endif
