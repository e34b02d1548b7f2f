// A twin of cuBLASLt for the emulated device, under the library's own names: what the products of
// kernels/cuda/library_product.cu use of it, after NVIDIA's public documentation of that interface
// (cuBLAS, "Using the cuBLASLt API"), so that the code which calls it runs where there is no GPU.
//
// It is strict. What the library refuses gets the documented status here; what the documentation
// leaves undefined (a destroyed descriptor, results that overlap a factor, an algorithm that no
// heuristic gave) gets CUBLAS_STATUS_INVALID_VALUE or NOT_INITIALIZED. Values of the enumerations
// are not the library's. A product is one warp of the emulator in the order of the stream: sums
// in f32 over ascending k, factors rounded as the compute type allows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

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
enum cudaDataType_t { CUDA_R_32F, CUDA_R_16BF, CUDA_R_64F };
enum cublasComputeType_t {
  CUBLAS_COMPUTE_32F,
  CUBLAS_COMPUTE_32F_PEDANTIC,
  CUBLAS_COMPUTE_32F_FAST_TF32,
  CUBLAS_COMPUTE_64F
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
  CUBLASLT_MATMUL_DESC_TRANSB,       // int32_t, CUBLAS_OP_N at first
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
enum cublasLtMatmulAlgoConfigAttributes_t {
  CUBLASLT_ALGO_CONFIG_SPLITK_NUM  // int32_t
};
enum cublasLtMatmulAlgoCapAttributes_t {
  CUBLASLT_ALGO_CAP_OUT_OF_PLACE_RESULT_SUPPORT  // int32_t
};

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

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle);
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle);
const char* cublasLtGetStatusName(cublasStatus_t status);

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* description,
                                        cublasComputeType_t compute, cudaDataType_t scale);
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t description);
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t description,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes);

// Column-major: columns are `ld` elements apart.
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type,
                                          uint64_t rows, uint64_t cols, int64_t ld);
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout);

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference);
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference);
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes);

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle,
                                              cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int* returned);
cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t* algorithm,
                                       cublasLtMatmulHeuristicResult_t* result);
// `bytes` 0 asks for the size alone.
cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t* algorithm,
                                                    cublasLtMatmulAlgoConfigAttributes_t attribute,
                                                    void* value, size_t bytes, size_t* written);
cublasStatus_t cublasLtMatmulAlgoCapGetAttribute(const cublasLtMatmulAlgo_t* algorithm,
                                                 cublasLtMatmulAlgoCapAttributes_t attribute,
                                                 void* value, size_t bytes, size_t* written);

// D = alpha op(A) op(B) + beta C (+ bias, one for each row of D); alpha and beta on the host.
cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                              const void* alpha, const void* a, cublasLtMatrixLayout_t a_layout,
                              const void* b, cublasLtMatrixLayout_t b_layout, const void* beta,
                              const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              size_t workspace_bytes, cudaStream_t stream);

// --- beside the library: what kernels/cuda/cublaslt.h has, too ---

inline bool available() { return true; }
inline cudaStream_t native(Stream& s, const char*) { return &s; }
inline void expect_alive(Stream&, const char*) {}

// --- for tests ---

// An algorithm that the heuristic may offer, in this order.
struct Offer {
  int32_t splits = 1;
  uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_NONE;
  size_t workspace = 0;  // bytes; needed where D has more columns than free_columns
  int64_t free_columns = 0;
  uint32_t alignment = 4;  // that it needs of pointers and of columns
  bool out_of_place = true;
  int64_t most_columns = INT32_MAX;              // of D; refused where there are more
  cublasStatus_t state = CUBLAS_STATUS_SUCCESS;  // of the result
};
std::vector<Offer> usual_offers();  // one that splits sums, and one for each alignment
void offer(std::vector<Offer> algorithms);
// The next call of a function of this name returns the status.
void fail(const char* function, cublasStatus_t status);
size_t live_objects();  // handles, descriptions, layouts, preferences
uint64_t products();    // that were queued so far, by all streams

}  // namespace whence::simt::lt
