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

// Of a GPU, beginning with random normal data: copying 4 GiB inside its memory (bytes read and
// written a second), and cuBLAS's products (operations a second) of two 8192 x 8192 matrices and of
// 12608 x 768 with 768 x 3072, a layer of ViT-B/16 for 64 images.
struct DeviceCeilings {
  double copy, product, layer_product;
};
// Measured once for each device and precision; null where there are none: not a GPU, or `skip`.
const DeviceCeilings* device_ceilings(const Device& device, Precision precision, bool skip = false);

}  // namespace whence::bench
