// What this machine can do at most, measured in the process that measures the kernels.
#pragma once

#include <cstddef>

#include "whence/device.h"

namespace whence::bench {

// Floating-point operations a second of independent fused multiply-adds in registers.
double fma_rate(int threads);
// Bytes a second of adding up, and of copying (read + written), arrays of `bytes` per thread.
double read_rate(int threads, size_t bytes);
double copy_rate(int threads, size_t bytes);

// All of them for arrays beyond the last cache, measured once per thread count.
struct Ceilings {
  double flops, read, copy;
};
const Ceilings& ceilings(int threads);

#ifdef WHENCE_HAVE_CUDA
// Of a GPU: copying 4 GiB inside its memory (bytes read and written a second), and cuBLAS's product
// of 8192 x 8192 matrices.
double device_copy_rate(int device);
double device_product_rate(int device, Precision precision);
#endif

}  // namespace whence::bench
