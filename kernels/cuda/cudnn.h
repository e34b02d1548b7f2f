// cuDNN under its own names, in a library that is opened when the first convolution asks for it.
// For nvcc only; the emulator's twin is kernels/simt/cudnn.h.
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
#include "kernels/cuda/stream.h"

namespace whence::cuda::dnn {

// Call with the namespace, dnn::cudnnCreate(...): the functions that the header declares without
// one are not linked.
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

struct Functions {
#define WHENCE_POINTER(name) decltype(&::name) name = nullptr
  WHENCE_CUDNN_FUNCTIONS(WHENCE_POINTER);
#undef WHENCE_POINTER
  bool complete = true;

  // The major version that the header belongs to: others may have other structures.
  Functions() {
    const std::string major = std::to_string(CUDNN_MAJOR);
    const SharedLibrary library("libcudnn.so." + major);
    // It has the functions in any case, and ends the program where the part behind one is missing.
    complete = SharedLibrary("libcudnn_cnn.so." + major).found();
#define WHENCE_GET(name) complete = library.get(name, #name) && complete
    WHENCE_CUDNN_FUNCTIONS(WHENCE_GET);
#undef WHENCE_GET
  }
};
inline const Functions& functions() {
  static const Functions all;
  return all;
}

#define WHENCE_FORWARD(name)               \
  template <class... A>                    \
  auto name(A... arguments) {              \
    return functions().name(arguments...); \
  }                                        \
  static_assert(true)
WHENCE_CUDNN_FUNCTIONS(WHENCE_FORWARD);
#undef WHENCE_FORWARD
#undef WHENCE_CUDNN_FUNCTIONS

// Whether the library was found and has all of it.
inline bool available() { return functions().complete; }

// The stream for calls of the library, whose device becomes the current one.
inline cudaStream_t native(Stream& s, const char* name) {
  s.prepare_launch(nullptr, 0, name);
  return static_cast<cudaStream_t>(s.native());
}
// Throws what the device has to say about a call that failed.
inline void expect_alive(Stream& s, const char* name) { s.check_work(name); }

}  // namespace whence::cuda::dnn

#endif
