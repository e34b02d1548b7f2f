#include "kernels/simt/cublaslt.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/cuda/ptx.cuh"
#include "kernels/simt/cublaslt_objects.h"

namespace whence::simt::lt {
namespace {

template <class T>
cublasStatus_t give(const T& from, void* value, size_t bytes, size_t* written) {
  if (bytes == 0 && !written) return CUBLAS_STATUS_INVALID_VALUE;
  if (bytes != 0 && (!value || bytes != sizeof(T))) return CUBLAS_STATUS_INVALID_VALUE;
  if (bytes != 0) std::memcpy(value, &from, sizeof(T));
  if (written) *written = sizeof(T);
  return CUBLAS_STATUS_SUCCESS;
}

// --- algorithms: eight words that say what they are for and what they need ---

struct Algorithm {
  uint64_t check;  // of the other words: nobody else makes algorithms
  uint16_t compute, factors, results, epilogue, transposed_a, transposed_b;
  int32_t splits;
  uint32_t alignment;
  uint32_t out_of_place;
  uint64_t workspace;
  int64_t free_columns, most_columns;
  uint64_t unused;
};
static_assert(sizeof(Algorithm) == sizeof(cublasLtMatmulAlgo_t));

uint64_t check_of(const cublasLtMatmulAlgo_t& words) {
  uint64_t check = 0x9e3779b97f4a7c15u;
  for (int i = 1; i < 8; ++i) check = (check ^ words.data[i]) * 0x100000001b3u;
  return check;
}
std::optional<Algorithm> algorithm_of(const cublasLtMatmulAlgo_t* words) {
  if (!words || words->data[0] != check_of(*words)) return {};
  return std::bit_cast<Algorithm>(*words);
}
size_t room_for(const Algorithm& x, int64_t columns) {
  return columns > x.free_columns ? x.workspace : 0;
}
cublasLtMatmulAlgo_t algorithm_for(const Operation& op, const Layout& a, const Layout& d,
                                   const Offer& o) {
  auto words = std::bit_cast<cublasLtMatmulAlgo_t>(
      Algorithm{0, uint16_t(op.compute), uint16_t(a.type), uint16_t(d.type), uint16_t(op.epilogue),
                uint16_t(op.transposed_a), uint16_t(op.transposed_b), o.splits, o.alignment,
                o.out_of_place, o.workspace, o.free_columns, o.most_columns, 0});
  words.data[0] = check_of(words);
  return words;
}

// --- problems ---

size_t size_of(cudaDataType_t type) { return type == CUDA_R_16BF ? 2 : type == CUDA_R_32F ? 4 : 8; }

// The rows of the documentation's table of types that begin with what is known here.
bool types_are_supported(const Operation& op, const Layout& a, const Layout& b, const Layout& c,
                         const Layout& d) {
  if (a.type != b.type || c.type != d.type) return false;
  switch (op.compute) {
    case CUBLAS_COMPUTE_32F:
    case CUBLAS_COMPUTE_32F_PEDANTIC:
      return op.scale == CUDA_R_32F && c.type == CUDA_R_32F &&
             (a.type == CUDA_R_32F || a.type == CUDA_R_16BF);
    case CUBLAS_COMPUTE_32F_FAST_TF32:
      return op.scale == CUDA_R_32F && c.type == CUDA_R_32F && a.type == CUDA_R_32F;
    case CUBLAS_COMPUTE_64F:
      return false;  // of the library, not of this twin
  }
  return false;
}

struct Problem {
  Operation op{};
  Layout a{}, b{}, c{}, d{};
  int64_t m, n, k;  // D is m x n
  cublasStatus_t status = CUBLAS_STATUS_INVALID_VALUE;

  Problem(cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a_layout,
          cublasLtMatrixLayout_t b_layout, cublasLtMatrixLayout_t c_layout,
          cublasLtMatrixLayout_t d_layout) {
    const auto o = library().find<Operation>(operation);
    const auto la = library().find<Layout>(a_layout), lb = library().find<Layout>(b_layout),
               lc = library().find<Layout>(c_layout), ld = library().find<Layout>(d_layout);
    if (!o || !la || !lb || !lc || !ld) return;
    op = *o, a = *la, b = *lb, c = *lc, d = *ld;
    status = checked();
  }

 private:
  cublasStatus_t checked() {
    const bool ta = op.transposed_a == CUBLAS_OP_T, tb = op.transposed_b == CUBLAS_OP_T;
    for (const Layout* x : {&a, &b, &c, &d}) {
      if (x->rows == 0 || x->cols == 0 || x->ld < int64_t(x->rows))
        return CUBLAS_STATUS_INVALID_VALUE;
      if (x->rows > INT32_MAX || x->cols > INT32_MAX) return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    m = int64_t(d.rows), n = int64_t(d.cols), k = int64_t(ta ? a.rows : a.cols);
    const bool fits = (ta ? a.cols : a.rows) == d.rows && (tb ? b.rows : b.cols) == d.cols &&
                      (tb ? b.cols : b.rows) == uint64_t(k) && c.rows == d.rows && c.cols == d.cols;
    if (!fits || (op.epilogue == CUBLASLT_EPILOGUE_BIAS && !op.bias))
      return CUBLAS_STATUS_INVALID_VALUE;
    return types_are_supported(op, a, b, c, d) ? CUBLAS_STATUS_SUCCESS
                                               : CUBLAS_STATUS_NOT_SUPPORTED;
  }
};

bool is_aligned(const void* p, uint64_t bytes) {
  return reinterpret_cast<uintptr_t>(p) % bytes == 0;
}

// What a matrix with this layout leaves of an alignment of `bytes`.
bool columns_are_aligned(const Layout& x, uint32_t bytes) {
  return uint64_t(x.ld) * size_of(x.type) % bytes == 0;
}
bool all_columns_are_aligned(const Problem& p, uint32_t bytes) {
  return columns_are_aligned(p.a, bytes) && columns_are_aligned(p.b, bytes) &&
         columns_are_aligned(p.c, bytes) && columns_are_aligned(p.d, bytes);
}

cublasStatus_t check_algorithm(const Problem& p, const Algorithm& x) {
  if (x.compute != p.op.compute || x.factors != p.a.type || x.results != p.d.type ||
      x.epilogue != p.op.epilogue || x.transposed_a != p.op.transposed_a ||
      x.transposed_b != p.op.transposed_b || !all_columns_are_aligned(p, x.alignment))
    return CUBLAS_STATUS_INVALID_VALUE;
  return p.n <= x.most_columns ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

// --- the product ---

struct Span {
  uintptr_t begin, end;
  Span(const void* p, const Layout& x)
      : begin(reinterpret_cast<uintptr_t>(p)),
        end(begin + ((x.cols - 1) * uint64_t(x.ld) + x.rows) * size_of(x.type)) {}
  bool overlaps(const Span& o) const { return begin < o.end && o.begin < end; }
};

// One matrix of factors as the multipliers see it: op(X)[row, col].
struct Factors {
  const void* data;
  cudaDataType_t type;
  bool tf32;
  int64_t row_step, col_step;
  Factors(const void* x, const Layout& l, bool transposed, bool rounded)
      : data(x),
        type(l.type),
        tf32(rounded),
        row_step(transposed ? l.ld : 1),
        col_step(transposed ? 1 : l.ld) {}
  float at(int64_t row, int64_t col) const {
    const int64_t i = row * row_step + col * col_step;
    if (type == CUDA_R_16BF) return to_float(static_cast<const Bf16*>(data)[i]);
    const float x = static_cast<const float*>(data)[i];
    return tf32 ? float_of(to_tf32(x)) : x;
  }
};

struct Product {
  Problem p;
  Factors a, b;
  float alpha, beta;
  const float* c;
  float* d;
  void* workspace;
  size_t workspace_bytes;

  // One warp; a lane computes every 32nd element.
  void operator()() const {
    const auto lane = int64_t(lane_number());
    if (lane == 0 && workspace_bytes > 0) std::memset(workspace, 0xff, workspace_bytes);
    const auto* bias = static_cast<const float*>(p.op.bias);
    for (int64_t e = lane; e < p.m * p.n; e += warp_size) {
      const int64_t i = e % p.m, j = e / p.m;
      float sum = 0;
      for (int64_t x = 0; x < p.k; ++x) sum = std::fma(a.at(i, x), b.at(x, j), sum);
      sum *= alpha;
      if (beta != 0) sum += beta * c[j * p.c.ld + i];
      if (p.op.epilogue == CUBLASLT_EPILOGUE_BIAS) sum += bias[i];
      d[j * p.d.ld + i] = sum;
    }
  }
};

// What is wrong with a call whose problem and algorithm fit.
cublasStatus_t check_memory(const Problem& p, const Algorithm& x, const void* a, const void* b,
                            const void* c, const void* d, const void* workspace, size_t bytes) {
  for (const void* pointer : {a, b, c, d})
    if (!is_aligned(pointer, x.alignment)) return CUBLAS_STATUS_INVALID_VALUE;
  if (p.op.epilogue == CUBLASLT_EPILOGUE_BIAS && !is_aligned(p.op.bias, x.alignment))
    return CUBLAS_STATUS_INVALID_VALUE;
  const Span result(d, p.d);
  if (result.overlaps({a, p.a}) || result.overlaps({b, p.b})) return CUBLAS_STATUS_INVALID_VALUE;
  if (c == d && !(p.c == p.d)) return CUBLAS_STATUS_INVALID_VALUE;
  if (c != d && c && result.overlaps({c, p.c})) return CUBLAS_STATUS_INVALID_VALUE;
  if (c != d && !x.out_of_place) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (bytes < room_for(x, p.n) || (bytes > 0 && !workspace) || !is_aligned(workspace, 256))
    return CUBLAS_STATUS_INVALID_VALUE;
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle,
                                              cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int* returned) {
  WHENCE_INJECTED();
  if (!library().find<Context>(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
  const auto wanted = library().find<Preference>(preference);
  if (!wanted || requested <= 0 || !results || !returned) return CUBLAS_STATUS_INVALID_VALUE;
  const Problem p(operation, a, b, c, d);
  if (p.status != CUBLAS_STATUS_SUCCESS) return p.status;
  const std::vector<Offer> offers = library().offers();
  *returned = 0;
  if (offers.empty()) return CUBLAS_STATUS_NOT_SUPPORTED;
  for (const Offer& o : offers) {
    if (*returned == requested) break;
    const size_t room = p.n > o.free_columns ? o.workspace : 0;
    bool fits = room <= wanted->workspace && all_columns_are_aligned(p, o.alignment) &&
                (o.reduction & ~wanted->reductions) == 0 && p.n <= o.most_columns;
    for (const uint32_t aligned : wanted->alignment)
      fits = fits && aligned > 0 && aligned % o.alignment == 0;
    // The library looks at the bias for nothing but its alignment.
    if (p.op.bias) fits = fits && is_aligned(p.op.bias, o.alignment);
    if (fits) results[(*returned)++] = {algorithm_for(p.op, p.a, p.d, o), room, o.state, 1.f};
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t* algorithm,
                                       cublasLtMatmulHeuristicResult_t* result) {
  WHENCE_INJECTED();
  if (!library().find<Context>(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
  const auto x = algorithm_of(algorithm);
  if (!x || !result) return CUBLAS_STATUS_INVALID_VALUE;
  const Problem p(operation, a, b, c, d);
  if (p.status != CUBLAS_STATUS_SUCCESS) return p.status;
  const cublasStatus_t status = check_algorithm(p, *x);
  result->state = status;
  if (status == CUBLAS_STATUS_SUCCESS) result->workspaceSize = room_for(*x, p.n);
  return status;
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t* algorithm,
                                                    cublasLtMatmulAlgoConfigAttributes_t attribute,
                                                    void* value, size_t bytes, size_t* written) {
  WHENCE_INJECTED();
  const auto x = algorithm_of(algorithm);
  if (!x) return CUBLAS_STATUS_INVALID_VALUE;
  switch (attribute) {
    case CUBLASLT_ALGO_CONFIG_SPLITK_NUM:
      return give(x->splits, value, bytes, written);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}
cublasStatus_t cublasLtMatmulAlgoCapGetAttribute(const cublasLtMatmulAlgo_t* algorithm,
                                                 cublasLtMatmulAlgoCapAttributes_t attribute,
                                                 void* value, size_t bytes, size_t* written) {
  WHENCE_INJECTED();
  const auto x = algorithm_of(algorithm);
  if (!x) return CUBLAS_STATUS_INVALID_VALUE;
  switch (attribute) {
    case CUBLASLT_ALGO_CAP_OUT_OF_PLACE_RESULT_SUPPORT:
      return give(int32_t(x->out_of_place), value, bytes, written);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                              const void* alpha, const void* a, cublasLtMatrixLayout_t a_layout,
                              const void* b, cublasLtMatrixLayout_t b_layout, const void* beta,
                              const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
  WHENCE_INJECTED();
  if (!library().find<Context>(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (!alpha || !beta || !a || !b || !d || !stream) return CUBLAS_STATUS_INVALID_VALUE;
  const Problem p(operation, a_layout, b_layout, c_layout, d_layout);
  if (p.status != CUBLAS_STATUS_SUCCESS) return p.status;
  const float weight = *static_cast<const float*>(beta);
  if (!c && weight != 0) return CUBLAS_STATUS_INVALID_VALUE;
  // Without an algorithm the library would choose one for this shape.
  const auto x = algorithm_of(algorithm);
  if (!x) return CUBLAS_STATUS_INVALID_VALUE;
  if (const cublasStatus_t s = check_algorithm(p, *x); s != CUBLAS_STATUS_SUCCESS) return s;
  if (const cublasStatus_t s = check_memory(p, *x, a, b, c, d, workspace, workspace_bytes);
      s != CUBLAS_STATUS_SUCCESS)
    return s;
  library().queued += 1;
  const bool tf32 = p.op.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  stream->launch({"cublasLtMatmul", 1, warp_size},
                 Product{p, Factors(a, p.a, p.op.transposed_a == CUBLAS_OP_T, tf32),
                         Factors(b, p.b, p.op.transposed_b == CUBLAS_OP_T, tf32),
                         *static_cast<const float*>(alpha), weight, static_cast<const float*>(c),
                         static_cast<float*>(d), workspace, workspace_bytes});
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace whence::simt::lt
