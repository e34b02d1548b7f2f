#ifdef WHENCE_HAVE_SIMT
#include "tests/twins/cublaslt.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "kernels/cuda/ptx.cuh"
#include "tests/twins/cublaslt_problem.h"
#include "tests/twins/objects.h"

namespace whence::twins::lt {
namespace {

struct State {
  Objects objects;
  std::mutex mutex;  // of what follows
  std::vector<Offer> offers = usual_offers();
  std::map<std::string, cublasStatus_t> failures;
  std::vector<Algorithm> given;
  std::atomic<uint64_t> queued{0};
};
State& state() {
  static State& all = *new State;  // streams in static objects may outlive others
  return all;
}

// The failure that a test wants of this call, or success.
cublasStatus_t wanted(const char* function) {
  const std::lock_guard lock(state().mutex);
  const auto failure = state().failures.extract(function);
  return failure ? failure.mapped() : success;
}
#define WHENCE_WANTED() \
  if (const auto status = wanted(__func__); status != success) return status

// Eight words that nobody else makes.
cublasLtMatmulAlgo_t words_of(uint64_t number) {
  cublasLtMatmulAlgo_t words{{number}};
  for (size_t i = 1; i < 8; ++i) words.data[i] = (words.data[i - 1] ^ i) * 0x9e3779b97f4a7c15u;
  return words;
}
cublasLtMatmulAlgo_t give_out(Algorithm algorithm) {
  const std::lock_guard lock(state().mutex);
  state().given.push_back(std::move(algorithm));
  return words_of(state().given.size() - 1);
}
std::optional<Algorithm> given(const cublasLtMatmulAlgo_t* algorithm) {
  if (!algorithm) return {};
  const std::lock_guard lock(state().mutex);
  const uint64_t number = algorithm->data[0];
  if (number >= state().given.size() || !std::ranges::equal(algorithm->data, words_of(number).data))
    return {};
  return state().given[number];
}

// The problem that the descriptions make up.
cublasStatus_t understand(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                          cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                          cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, Problem& p) {
  if (!state().objects.live(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (!state().objects.live(operation, a, b, c, d)) return invalid;
  p = {*operation, *a, *b, *c, *d};
  for (const Layout* x : {a, b, c, d}) {
    if (x->rows == 0 || x->cols == 0 || x->ld < int64_t(x->rows)) return invalid;
    if (x->rows > INT32_MAX || x->cols > INT32_MAX) return unsupported;
  }
  const bool transposed = p.op.transposed_a == CUBLAS_OP_T;
  p.m = int64_t(d->rows), p.n = int64_t(d->cols);
  p.k = int64_t(transposed ? a->rows : a->cols);
  if ((transposed ? a->cols : a->rows) != d->rows || b->cols != d->cols ||
      b->rows != uint64_t(p.k) || c->rows != d->rows || c->cols != d->cols)
    return invalid;
  if (p.adds_bias() && !p.op.bias) return invalid;
  // From the documentation's table of types.
  if (a->type != b->type || c->type != d->type || d->type != CUDA_R_32F ||
      p.op.scale != CUDA_R_32F ||
      (a->type == CUDA_R_16BF && p.op.compute == CUBLAS_COMPUTE_32F_FAST_TF32))
    return unsupported;
  return success;
}

struct Operands {
  const void *a, *b;
  const float* c;
  float* d;
  void* workspace;
  size_t workspace_bytes;
  float alpha, beta;
};

cublasStatus_t check_memory(const Problem& p, const Algorithm& x, const Operands& o) {
  const auto span = [](const void* at, const Layout& l) {
    return Memory(at, ((l.cols - 1) * uint64_t(l.ld) + l.rows) * bytes_of(l.type));
  };
  const Memory a = span(o.a, p.a), b = span(o.b, p.b), c = span(o.c, p.c), d = span(o.d, p.d);
  for (const Memory& each : {a, b, c, d, Memory(p.adds_bias() ? p.op.bias : nullptr, 0)})
    if (!each.aligned(x.offer.alignment)) return invalid;
  const bool in_place = o.c == o.d;
  if (d.meets(a) || d.meets(b)) return invalid;
  if (in_place ? !(p.c == p.d) : o.c && d.meets(c)) return invalid;
  if (!in_place && !x.offer.out_of_place) return unsupported;
  if (o.workspace_bytes < x.workspace(p.n) || (o.workspace_bytes > 0 && !o.workspace) ||
      !Memory(o.workspace, 0).aligned(256))
    return invalid;
  return success;
}

// One warp; a lane computes every 32nd element, sums in f32 over ascending k.
struct Product {
  Problem p;
  Operands o;

  void operator()() const {
    const auto lane = int64_t(simt::lane_number());
    // Nothing may be expected in the workspace afterwards.
    if (lane == 0 && o.workspace_bytes > 0) std::memset(o.workspace, 0xff, o.workspace_bytes);
    const bool transposed = p.op.transposed_a == CUBLAS_OP_T;
    for (int64_t e = lane; e < p.m * p.n; e += simt::warp_size) {
      const int64_t i = e % p.m, j = e / p.m;
      float sum = 0;
      for (int64_t x = 0; x < p.k; ++x)
        sum = std::fma(factor(o.a, p.a, transposed ? i * p.a.ld + x : x * p.a.ld + i),
                       factor(o.b, p.b, j * p.b.ld + x), sum);
      sum *= o.alpha;
      if (o.beta != 0) sum += o.beta * o.c[j * p.c.ld + i];
      if (p.adds_bias()) sum += static_cast<const float*>(p.op.bias)[i];
      o.d[j * p.d.ld + i] = sum;
    }
  }
  // As the compute type rounds it.
  float factor(const void* x, const Layout& layout, int64_t at) const {
    if (layout.type == CUDA_R_16BF) return simt::to_float(static_cast<const simt::Bf16*>(x)[at]);
    const float value = static_cast<const float*>(x)[at];
    return p.op.compute == CUBLAS_COMPUTE_32F_FAST_TF32 ? simt::float_of(simt::to_tf32(value))
                                                        : value;
  }
};

template <class T>
cublasStatus_t take(T& to, const void* value, size_t bytes) {
  if (!value || bytes != sizeof(T)) return invalid;
  std::memcpy(&to, value, sizeof(T));
  return success;
}
cublasStatus_t tell(int32_t from, void* value, size_t bytes, size_t* written) {
  if (!value || !written || bytes != sizeof(from)) return invalid;
  std::memcpy(value, &from, bytes);
  *written = bytes;
  return success;
}

// --- the library's functions ---

template <class T>
cublasStatus_t destroy(T* handle) {
  return state().objects.destroy(handle) ? success : invalid;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  WHENCE_WANTED();
  return state().objects.create(handle) ? success : invalid;
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
  WHENCE_WANTED();
  return state().objects.create(description, {compute, scale}) ? success : invalid;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t description,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  WHENCE_WANTED();
  if (!state().objects.live(description)) return invalid;
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return take(description->transposed_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return take(description->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return take(description->bias, value, bytes);
  }
  return invalid;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type,
                                          uint64_t rows, uint64_t cols, int64_t ld) {
  WHENCE_WANTED();
  return state().objects.create(layout, {type, rows, cols, ld}) ? success : invalid;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  WHENCE_WANTED();
  return state().objects.create(preference) ? success : invalid;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes) {
  WHENCE_WANTED();
  if (!state().objects.live(preference)) return invalid;
  if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
    return take(preference->workspace, value, bytes);
  if (attribute == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK)
    return take(preference->reductions, value, bytes);
  const auto which = size_t(attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
  return take(preference->alignment.at(which), value, bytes);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle,
                                              cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int* returned) {
  WHENCE_WANTED();
  if (!state().objects.live(preference) || requested <= 0 || !results || !returned) return invalid;
  Problem p;
  if (const auto status = understand(handle, operation, a, b, c, d, p); status != success)
    return status;
  std::vector<Offer> offers;
  {
    const std::lock_guard lock(state().mutex);
    offers = state().offers;
  }
  *returned = 0;
  if (offers.empty()) return unsupported;
  for (const Offer& o : offers) {
    const Algorithm x{o, p};
    const bool fits =
        x.workspace(p.n) <= preference->workspace && x.check(p) == success &&
        (o.reduction & ~preference->reductions) == 0 &&
        std::ranges::all_of(preference->alignment,
                            [&](uint32_t is) { return is > 0 && is % o.alignment == 0; }) &&
        // The library looks at the bias for nothing but its alignment.
        Memory(p.op.bias, 0).aligned(o.alignment);
    if (fits && *returned < requested)
      results[(*returned)++] = {give_out(x), x.workspace(p.n), o.state, 1.f};
  }
  return success;
}

cublasStatus_t cublasLtMatmulAlgoCapGetAttribute(const cublasLtMatmulAlgo_t* algorithm,
                                                 cublasLtMatmulAlgoCapAttributes_t, void* value,
                                                 size_t bytes, size_t* written) {
  WHENCE_WANTED();
  const auto x = given(algorithm);
  return x ? tell(x->offer.out_of_place, value, bytes, written) : invalid;
}
cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t* algorithm,
                                                    cublasLtMatmulAlgoConfigAttributes_t,
                                                    void* value, size_t bytes, size_t* written) {
  WHENCE_WANTED();
  const auto x = given(algorithm);
  return x ? tell(x->offer.splits, value, bytes, written) : invalid;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t* algorithm,
                                       cublasLtMatmulHeuristicResult_t* result) {
  WHENCE_WANTED();
  const auto x = given(algorithm);
  if (!x || !result) return invalid;
  Problem p;
  if (const auto status = understand(handle, operation, a, b, c, d, p); status != success)
    return status;
  result->state = x->check(p);
  if (result->state == success) result->workspaceSize = x->workspace(p.n);
  return result->state;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                              const void* alpha, const void* a, cublasLtMatrixLayout_t a_layout,
                              const void* b, cublasLtMatrixLayout_t b_layout, const void* beta,
                              const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
  WHENCE_WANTED();
  Problem p;
  if (const auto status = understand(handle, operation, a_layout, b_layout, c_layout, d_layout, p);
      status != success)
    return status;
  // Without an algorithm the library would choose one for this shape.
  const auto x = given(algorithm);
  if (!x || !alpha || !beta || !a || !b || !d || !stream) return invalid;
  const Operands o{a,
                   b,
                   static_cast<const float*>(c),
                   static_cast<float*>(d),
                   workspace,
                   workspace_bytes,
                   *static_cast<const float*>(alpha),
                   *static_cast<const float*>(beta)};
  if (!c && o.beta != 0) return invalid;
  if (const auto status = x->check(p); status != success) return status;
  if (const auto status = check_memory(p, *x, o); status != success) return status;
  state().queued += 1;
  stream->launch({"cublasLtMatmul", 1, simt::warp_size}, Product{p, o});
  return success;
}

constexpr Functions functions{cublasLtCreate,
                              destroy,
                              cublasLtGetStatusName,
                              cublasLtMatmulDescCreate,
                              destroy,
                              cublasLtMatmulDescSetAttribute,
                              cublasLtMatrixLayoutCreate,
                              destroy,
                              cublasLtMatmulPreferenceCreate,
                              destroy,
                              cublasLtMatmulPreferenceSetAttribute,
                              cublasLtMatmulAlgoGetHeuristic,
                              cublasLtMatmulAlgoCapGetAttribute,
                              cublasLtMatmulAlgoConfigGetAttribute,
                              cublasLtMatmulAlgoCheck,
                              cublasLtMatmul};

}  // namespace

Installed::Installed() { installed = &functions; }
Installed::~Installed() { installed = nullptr; }

std::vector<Offer> usual_offers() {
  const Offer split{.splits = 4,
                    .reduction = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE,
                    .workspace = size_t{1} << 20,
                    .alignment = 16};
  return {split, {.alignment = 16}, {.alignment = 8}, {.alignment = 4}};
}
void offer(std::vector<Offer> algorithms) {
  const std::lock_guard lock(state().mutex);
  state().offers = std::move(algorithms);
}
void fail(const char* function, cublasStatus_t status) {
  const std::lock_guard lock(state().mutex);
  state().failures[function] = status;
}
size_t live_objects() { return state().objects.count(); }
uint64_t products() { return state().queued; }

}  // namespace whence::twins::lt
#endif
