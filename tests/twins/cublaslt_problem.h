// What cuBLASLt's handles stand for in its double, and the products that they describe.
#pragma once

#include <algorithm>
#include <array>

#include "tests/twins/cublaslt.h"

namespace whence::simt::lt {

struct cublasLtContext {};
struct cublasLtMatmulDescription {
  cublasComputeType_t compute{};
  cudaDataType_t scale{};
  int32_t transposed_a = CUBLAS_OP_N;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
};
struct cublasLtMatrixLayoutDescription {
  cudaDataType_t type{};
  uint64_t rows{}, cols{};
  int64_t ld{};
  bool operator==(const cublasLtMatrixLayoutDescription&) const = default;
};
struct cublasLtMatmulPreferenceDescription {
  uint64_t workspace = 0;
  uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_MASK;
  std::array<uint32_t, 4> alignment{256, 256, 256, 256};
};

}  // namespace whence::simt::lt

namespace whence::twins::lt {

using Operation = cublasLtMatmulDescription;
using Layout = cublasLtMatrixLayoutDescription;

inline constexpr auto success = CUBLAS_STATUS_SUCCESS, invalid = CUBLAS_STATUS_INVALID_VALUE,
                      unsupported = CUBLAS_STATUS_NOT_SUPPORTED;

inline size_t bytes_of(cudaDataType_t type) { return type == CUDA_R_16BF ? 2 : 4; }

struct Problem {
  Operation op{};
  Layout a{}, b{}, c{}, d{};
  int64_t m = 0, n = 0, k = 0;  // D is m x n

  bool columns_are_aligned(uint32_t bytes) const {
    return std::ranges::all_of(std::array{a, b, c, d}, [&](const Layout& x) {
      return uint64_t(x.ld) * bytes_of(x.type) % bytes == 0;
    });
  }
  bool adds_bias() const { return op.epilogue == CUBLASLT_EPILOGUE_BIAS; }
};

// What the heuristic gave out: for these types and this operation, whatever the number of columns.
struct Algorithm {
  Offer offer;
  Problem made_for;
  size_t workspace(int64_t columns) const {
    return columns > offer.free_columns ? offer.workspace : 0;
  }
  cublasStatus_t check(const Problem& p) const {
    const Problem& q = made_for;
    if (q.op.compute != p.op.compute || q.op.epilogue != p.op.epilogue ||
        q.op.transposed_a != p.op.transposed_a || q.a.type != p.a.type || q.d.type != p.d.type ||
        !p.columns_are_aligned(offer.alignment))
      return invalid;
    return p.n <= offer.most_columns ? success : unsupported;
  }
};

}  // namespace whence::twins::lt
