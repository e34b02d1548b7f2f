// cuDNN under its own names, in a library that is opened when the first convolution asks for it.
// For nvcc only; the emulated device has kernels/simt/cudnn.h.
//
// What is used are its descriptors and cudnnConvolutionForward. The header calls them deprecated in
// favour of graphs of operations, which are hundreds of attributes for the same kernels.
#pragma once

#if __has_include(<cudnn_version.h>)
#include <cudnn_version.h>
#endif
#if defined(CUDNN_MAJOR) && CUDNN_MAJOR >= 9  // since then statuses have categories
#define WHENCE_HAVE_CUDNN

#include <cudnn.h>

#include <string>

#include "kernels/cuda/shared_library.h"

namespace whence::cuda::dnn {

// What is used of the library.
#define WHENCE_CUDNN_FUNCTIONS(each)             \
  each(cudnnCreate);                             \
  each(cudnnDestroy);                            \
  each(cudnnSetStream);                          \
  each(cudnnGetErrorString);                     \
  each(cudnnCreateTensorDescriptor);             \
  each(cudnnDestroyTensorDescriptor);            \
  each(cudnnSetTensor4dDescriptor);              \
  each(cudnnCreateFilterDescriptor);             \
  each(cudnnDestroyFilterDescriptor);            \
  each(cudnnSetFilter4dDescriptor);              \
  each(cudnnCreateConvolutionDescriptor);        \
  each(cudnnDestroyConvolutionDescriptor);       \
  each(cudnnSetConvolution2dDescriptor);         \
  each(cudnnSetConvolutionGroupCount);           \
  each(cudnnSetConvolutionMathType);             \
  each(cudnnGetConvolutionForwardWorkspaceSize); \
  each(cudnnConvolutionForward)

// The major version that the header belongs to: others may have other structures. The first
// library has the functions in any case, and ends the program where the second is missing.
WHENCE_LIBRARY(WHENCE_CUDNN_FUNCTIONS, "libcudnn.so." + std::to_string(CUDNN_MAJOR),
               "libcudnn_cnn.so." + std::to_string(CUDNN_MAJOR));
#undef WHENCE_CUDNN_FUNCTIONS

}  // namespace whence::cuda::dnn

#endif
