// cuBLASLt under its own names, in a library that is opened when the first product asks for it.
// For nvcc only; the emulator's twin is kernels/simt/cublaslt.h.
#pragma once

#if __has_include(<cublasLt.h>)
#define WHENCE_HAVE_CUBLASLT

#include <cublasLt.h>

#include <string>

#include "kernels/cuda/shared_library.h"
#include "kernels/cuda/stream.h"

namespace whence::cuda::lt {

// What is used of the library. Call with the namespace, lt::cublasLtCreate(...): the functions that
// the header declares without one are not linked.
#define WHENCE_CUBLASLT_FUNCTIONS(each)       \
  each(cublasLtCreate);                       \
  each(cublasLtDestroy);                      \
  each(cublasLtGetStatusName);                \
  each(cublasLtMatmulDescCreate);             \
  each(cublasLtMatmulDescDestroy);            \
  each(cublasLtMatmulDescSetAttribute);       \
  each(cublasLtMatrixLayoutCreate);           \
  each(cublasLtMatrixLayoutDestroy);          \
  each(cublasLtMatmulPreferenceCreate);       \
  each(cublasLtMatmulPreferenceDestroy);      \
  each(cublasLtMatmulPreferenceSetAttribute); \
  each(cublasLtMatmulAlgoGetHeuristic);       \
  each(cublasLtMatmulAlgoCapGetAttribute);    \
  each(cublasLtMatmulAlgoConfigGetAttribute); \
  each(cublasLtMatmulAlgoCheck);              \
  each(cublasLtMatmul)

struct Functions {
#define WHENCE_POINTER(name) decltype(&::name) name = nullptr
  WHENCE_CUBLASLT_FUNCTIONS(WHENCE_POINTER);
#undef WHENCE_POINTER
  bool complete = true;

  // The major version that the header belongs to: others may have other structures.
  Functions() {
    const SharedLibrary library("libcublasLt.so." + std::to_string(CUBLAS_VER_MAJOR));
#define WHENCE_GET(name) complete = library.get(name, #name) && complete
    WHENCE_CUBLASLT_FUNCTIONS(WHENCE_GET);
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
WHENCE_CUBLASLT_FUNCTIONS(WHENCE_FORWARD);
#undef WHENCE_FORWARD
#undef WHENCE_CUBLASLT_FUNCTIONS

// Whether the library was found and has all of it.
inline bool available() { return functions().complete; }

// The stream for calls of the library, whose device becomes the current one.
inline cudaStream_t native(Stream& s, const char* name) {
  s.prepare_launch(nullptr, 0, name);
  return static_cast<cudaStream_t>(s.native());
}
// Throws what the device has to say about a call that failed.
inline void expect_alive(Stream& s, const char* name) { s.check_work(name); }

}  // namespace whence::cuda::lt

#endif
