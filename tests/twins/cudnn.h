// A double of cuDNN for the emulated device. It computes, counts, and refuses what the
// documentation forbids or leaves open: descriptors that do not fit together, are gone or were
// never set, memory that is misaligned or overlaps, a workspace that is too small. It supports
// channels-last f32 by the two implicit products, dilated by only one of them.
#pragma once

#include "kernels/simt/cudnn.h"

namespace whence::twins::dnn {

using namespace simt::dnn;

// The emulated device has the library as long as one of these lives. Not two at a time.
struct Installed {
  Installed();
  ~Installed();
  Installed(const Installed&) = delete;
  Installed& operator=(const Installed&) = delete;
};

// What the next calls answer where they would have answered success.
struct Answers {
  cudnnStatus_t create = CUDNN_STATUS_SUCCESS;     // cudnnCreate
  cudnnStatus_t describe = CUDNN_STATUS_SUCCESS;   // cudnnCreateConvolutionDescriptor
  cudnnStatus_t workspace = CUDNN_STATUS_SUCCESS;  // cudnnGetConvolutionForwardWorkspaceSize
  cudnnStatus_t forward = CUDNN_STATUS_SUCCESS;    // cudnnConvolutionForward
  // the same with CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM
  cudnnStatus_t precomputed = CUDNN_STATUS_SUCCESS;
};
void answer(const Answers& answers);
size_t live_objects();  // created and not destroyed
size_t convolutions();  // successful calls of cudnnConvolutionForward so far

}  // namespace whence::twins::dnn
