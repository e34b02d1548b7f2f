// What every kernel family shares: the stream type and the macro that declares a kernel once.
//
// Contract of all kernels: dense pointers, sizes, options, in that order after the stream; no
// allocation of results (scratch is kept by the threads that used it), no global state; any size is
// correct, including 0, 1 and odd ones; outputs may alias inputs only where the header says so. The
// bits of a result do not depend on the number of threads, nor on how many rows or samples share a
// call.
#pragma once

#include <cstddef>
#include <cstdint>

#include "whence/tensor.h"

namespace whence::cpu {

// Where CPU kernels run: on `threads` OpenMP threads.
struct Stream {
  int threads = 1;
};

}  // namespace whence::cpu

// Declares a kernel for every processor this build has.
#define WHENCE_KERNEL(name, ...) void name(cpu::Stream& s, __VA_ARGS__)
