// Whether the GPU kernels hand work to NVIDIA's libraries (cuBLASLt, cuDNN) where these can do it.
//
// On a GPU they do. The emulator is there for whence's own kernels, so its twins of the libraries
// work only for tests that ask for them. To be set while nothing runs: sums of the library and of
// the own kernels differ in their last bits, and in tf32 by the rounding of convolutions' factors,
// which the own kernels leave in f32.
#pragma once

#include <atomic>

namespace whence::cuda {
inline std::atomic<bool> use_libraries{true};
}
namespace whence::simt {
inline std::atomic<bool> use_libraries{false};
}
