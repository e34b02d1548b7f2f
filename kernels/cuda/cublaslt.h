// cuBLASLt under its own names, in a library that is opened when the first product asks for it.
// For nvcc only; the emulated device has kernels/simt/cublaslt.h.
#pragma once

#if __has_include(<cublasLt.h>)
#define WHENCE_HAVE_CUBLASLT

#include <cublasLt.h>

#include <string>

#include "kernels/cuda/shared_library.h"

namespace whence::cuda::lt {

// What is used of the library.
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

// The major version that the header belongs to: others may have other structures.
WHENCE_LIBRARY(WHENCE_CUBLASLT_FUNCTIONS, "libcublasLt.so." + std::to_string(CUBLAS_VER_MAJOR));
#undef WHENCE_CUBLASLT_FUNCTIONS

}  // namespace whence::cuda::lt

#endif
