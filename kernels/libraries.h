// Whether the GPU kernels hand work to NVIDIA's libraries (cuBLASLt, cuDNN) where these can do it.
//
// To be set while nothing runs: sums of the library and of the own kernels differ in their last
// bits, and in tf32 by the rounding of convolutions' factors, which the own kernels leave in f32.
// The emulated device has no libraries, unless a test installs doubles of them.
#pragma once

#include <atomic>

namespace whence::cuda {
inline std::atomic<bool> use_libraries{true};
}
