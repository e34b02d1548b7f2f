// What library_product.cu uses of cuBLASLt, declared for the emulated device under the library's
// own names (NVIDIA's documentation of cuBLAS, "Using the cuBLASLt API"). Values of the
// enumerations are not the library's. There is no library here: tests install a double of it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/simt/stream.h"

namespace whence::simt::lt {

enum cublasStatus_t {
  CUBLAS_STATUS_SUCCESS,
  CUBLAS_STATUS_NOT_INITIALIZED,
  CUBLAS_STATUS_ALLOC_FAILED,
  CUBLAS_STATUS_INVALID_VALUE,
  CUBLAS_STATUS_ARCH_MISMATCH,
  CUBLAS_STATUS_EXECUTION_FAILED,
  CUBLAS_STATUS_INTERNAL_ERROR,
  CUBLAS_STATUS_NOT_SUPPORTED
};
enum cublasOperation_t { CUBLAS_OP_N, CUBLAS_OP_T };
enum cudaDataType_t { CUDA_R_32F, CUDA_R_16BF };
enum cublasComputeType_t {
  CUBLAS_COMPUTE_32F,
  CUBLAS_COMPUTE_32F_PEDANTIC,
  CUBLAS_COMPUTE_32F_FAST_TF32
};
enum cublasLtEpilogue_t { CUBLASLT_EPILOGUE_DEFAULT = 1, CUBLASLT_EPILOGUE_BIAS = 4 };
enum cublasLtReductionScheme_t {  // bits
  CUBLASLT_REDUCTION_SCHEME_NONE = 0,
  CUBLASLT_REDUCTION_SCHEME_INPLACE = 1,
  CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE = 2,
  CUBLASLT_REDUCTION_SCHEME_MASK = 7
};
enum cublasLtMatmulDescAttributes_t {
  CUBLASLT_MATMUL_DESC_TRANSA,       // int32_t, CUBLAS_OP_N at first
  CUBLASLT_MATMUL_DESC_EPILOGUE,     // uint32_t, CUBLASLT_EPILOGUE_DEFAULT at first
  CUBLASLT_MATMUL_DESC_BIAS_POINTER  // const void*, null at first
};
enum cublasLtMatmulPreferenceAttributes_t {
  CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,    // uint64_t, 0 at first
  CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,  // uint32_t, all at first
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,  // uint32_t, these four 256 at first
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES
};
enum cublasLtMatmulAlgoConfigAttributes_t { CUBLASLT_ALGO_CONFIG_SPLITK_NUM };  // int32_t
enum cublasLtMatmulAlgoCapAttributes_t {
  CUBLASLT_ALGO_CAP_OUT_OF_PLACE_RESULT_SUPPORT
};  // int32_t

using cublasLtHandle_t = struct cublasLtContext*;
using cublasLtMatmulDesc_t = struct cublasLtMatmulDescription*;
using cublasLtMatrixLayout_t = struct cublasLtMatrixLayoutDescription*;
using cublasLtMatmulPreference_t = struct cublasLtMatmulPreferenceDescription*;
using cudaStream_t = Stream*;

struct cublasLtMatmulAlgo_t {
  uint64_t data[8];
};
struct cublasLtMatmulHeuristicResult_t {
  cublasLtMatmulAlgo_t algo;
  size_t workspaceSize;
  cublasStatus_t state;
  float wavesCount;
};

struct Functions {
  cublasStatus_t (*cublasLtCreate)(cublasLtHandle_t*);
  cublasStatus_t (*cublasLtDestroy)(cublasLtHandle_t);
  const char* (*cublasLtGetStatusName)(cublasStatus_t);
  cublasStatus_t (*cublasLtMatmulDescCreate)(cublasLtMatmulDesc_t*, cublasComputeType_t,
                                             cudaDataType_t scale);
  cublasStatus_t (*cublasLtMatmulDescDestroy)(cublasLtMatmulDesc_t);
  cublasStatus_t (*cublasLtMatmulDescSetAttribute)(cublasLtMatmulDesc_t,
                                                   cublasLtMatmulDescAttributes_t,
                                                   const void* value, size_t bytes);
  // Column-major: columns are `ld` elements apart.
  cublasStatus_t (*cublasLtMatrixLayoutCreate)(cublasLtMatrixLayout_t*, cudaDataType_t,
                                               uint64_t rows, uint64_t cols, int64_t ld);
  cublasStatus_t (*cublasLtMatrixLayoutDestroy)(cublasLtMatrixLayout_t);
  cublasStatus_t (*cublasLtMatmulPreferenceCreate)(cublasLtMatmulPreference_t*);
  cublasStatus_t (*cublasLtMatmulPreferenceDestroy)(cublasLtMatmulPreference_t);
  cublasStatus_t (*cublasLtMatmulPreferenceSetAttribute)(cublasLtMatmulPreference_t,
                                                         cublasLtMatmulPreferenceAttributes_t,
                                                         const void* value, size_t bytes);
  cublasStatus_t (*cublasLtMatmulAlgoGetHeuristic)(
      cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
      cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t, int requested,
      cublasLtMatmulHeuristicResult_t results[], int* returned);
  cublasStatus_t (*cublasLtMatmulAlgoCapGetAttribute)(const cublasLtMatmulAlgo_t*,
                                                      cublasLtMatmulAlgoCapAttributes_t,
                                                      void* value, size_t bytes, size_t* written);
  cublasStatus_t (*cublasLtMatmulAlgoConfigGetAttribute)(const cublasLtMatmulAlgo_t*,
                                                         cublasLtMatmulAlgoConfigAttributes_t,
                                                         void* value, size_t bytes,
                                                         size_t* written);
  cublasStatus_t (*cublasLtMatmulAlgoCheck)(cublasLtHandle_t, cublasLtMatmulDesc_t,
                                            cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                            cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                            const cublasLtMatmulAlgo_t*,
                                            cublasLtMatmulHeuristicResult_t* result);
  // D = alpha op(A) op(B) + beta C (+ bias, one for each row of D); alpha and beta on the host.
  cublasStatus_t (*cublasLtMatmul)(cublasLtHandle_t, cublasLtMatmulDesc_t, const void* alpha,
                                   const void* a, cublasLtMatrixLayout_t, const void* b,
                                   cublasLtMatrixLayout_t, const void* beta, const void* c,
                                   cublasLtMatrixLayout_t, void* d, cublasLtMatrixLayout_t,
                                   const cublasLtMatmulAlgo_t*, void* workspace,
                                   size_t workspace_bytes, cudaStream_t);
};

// Null: there is none. To be set while nothing runs.
inline const Functions* installed = nullptr;

// What kernels/cuda/cublaslt.h has as well.
inline bool available() { return installed != nullptr; }
inline const Functions& functions() { return *installed; }
inline cudaStream_t native(Stream& s, const char*) { return &s; }
inline void expect_alive(Stream&, const char*) {}

}  // namespace whence::simt::lt
