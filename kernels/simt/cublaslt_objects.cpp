#include "kernels/simt/cublaslt_objects.h"

#include <cstring>

namespace whence::simt::lt {
namespace {

template <class T>
cublasStatus_t take(T& to, const void* value, size_t bytes) {
  if (!value || bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&to, value, sizeof(T));
  return CUBLAS_STATUS_SUCCESS;
}
}  // namespace

Library& library() {
  static Library& all = *new Library;  // streams in static objects may outlive others
  return all;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  WHENCE_INJECTED();
  if (!handle) return CUBLAS_STATUS_INVALID_VALUE;
  library().add(handle, Context{});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  return library().remove<Context>(handle) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_INITIALIZED;
}
const char* cublasLtGetStatusName(cublasStatus_t status) {
  static constexpr const char* names[] = {
      "CUBLAS_STATUS_SUCCESS",        "CUBLAS_STATUS_NOT_INITIALIZED",
      "CUBLAS_STATUS_ALLOC_FAILED",   "CUBLAS_STATUS_INVALID_VALUE",
      "CUBLAS_STATUS_ARCH_MISMATCH",  "CUBLAS_STATUS_EXECUTION_FAILED",
      "CUBLAS_STATUS_INTERNAL_ERROR", "CUBLAS_STATUS_NOT_SUPPORTED"};
  return names[status];
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* description,
                                        cublasComputeType_t compute, cudaDataType_t scale) {
  WHENCE_INJECTED();
  if (!description) return CUBLAS_STATUS_INVALID_VALUE;
  library().add(description, Operation{compute, scale});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t description) {
  return library().remove<Operation>(description) ? CUBLAS_STATUS_SUCCESS
                                                  : CUBLAS_STATUS_INVALID_VALUE;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t description,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  WHENCE_INJECTED();
  return library().change<Operation>(description, [&](Operation& op) {
    switch (attribute) {
      case CUBLASLT_MATMUL_DESC_TRANSA:
        return take(op.transposed_a, value, bytes);
      case CUBLASLT_MATMUL_DESC_TRANSB:
        return take(op.transposed_b, value, bytes);
      case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return take(op.epilogue, value, bytes);
      case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return take(op.bias, value, bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
  });
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type,
                                          uint64_t rows, uint64_t cols, int64_t ld) {
  WHENCE_INJECTED();
  if (!layout) return CUBLAS_STATUS_INVALID_VALUE;
  library().add(layout, Layout{type, rows, cols, ld});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  return library().remove<Layout>(layout) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  WHENCE_INJECTED();
  if (!preference) return CUBLAS_STATUS_INVALID_VALUE;
  library().add(preference, Preference{});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  return library().remove<Preference>(preference) ? CUBLAS_STATUS_SUCCESS
                                                  : CUBLAS_STATUS_INVALID_VALUE;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes) {
  WHENCE_INJECTED();
  return library().change<Preference>(preference, [&](Preference& p) {
    switch (attribute) {
      case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        return take(p.workspace, value, bytes);
      case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
        return take(p.reductions, value, bytes);
      case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
      case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
      case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
      case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
        return take(p.alignment[size_t(attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES)],
                    value, bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
  });
}

std::vector<Offer> usual_offers() {
  const Offer split{.splits = 4,
                    .reduction = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE,
                    .workspace = size_t{1} << 20,
                    .alignment = 16};
  return {split, {.alignment = 16}, {.alignment = 8}, {.alignment = 4}};
}
void offer(std::vector<Offer> algorithms) { library().offer(std::move(algorithms)); }
void fail(const char* function, cublasStatus_t status) { library().fail(function, status); }
size_t live_objects() { return library().count(); }
uint64_t products() { return library().queued; }

}  // namespace whence::simt::lt
