// Products by cuBLASLt, and the two small kernels around them.
//
// The library's matrices are column-major, so it computes the transpose: c^T [n, m] = packed a^T,
// with `packed` (rows [n][k], as pack() wrote them) as the first factor, transposed, and a (rows
// a_stride apart) as the second. f32 and tf32 read a where it lies; for bf16 it is rounded into
// scratch memory first. Sums, bias, residual and result are f32. The library adds bias and
// residual; another activation than identity is applied afterwards by a kernel of ours, so that it
// is the same formula everywhere. Bytes: a, packed and c once at best, which the library decides.
//
// Bits must not depend on m, since a batch or a chunk must not. The library by itself chooses an
// algorithm by the whole shape. Therefore:
//   - An algorithm is chosen once for everything but m, with a nominal number of rows; it must also
//     accept a few others, the largest included. More rows than that are several products.
//   - It does not split the summed elements (no split, no reduction), and it gets no workspace:
//     there is no place where blocks could leave parts of a sum for one another. No documented
//     attribute tells such algorithms apart more directly.
//   - How pointers are aligned counts up to 16 bytes. What a plan allocates is aligned better, so
//     that is decided by the strides.
//   - Where no algorithm is left, whence's own kernel does the product for every m; a product that
//     the library then refuses after all is an error and not computed in another way.
// That one algorithm gives an element the same bits wherever it lies is what is expected of a tiled
// product without splits; no documentation promises it. The tests that explain a batch in chunks of
// several sizes assert it on a GPU.
#include "kernels/cuda/library_product.cuh"

#ifndef WHENCE_F64

#ifdef __CUDACC__
#include "kernels/cuda/cublaslt.h"
#else
#include "kernels/simt/cublaslt.h"
#endif
#include <bit>
#include <map>
#include <optional>
#include <string>

#include "kernels/cuda/epilogue.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/tensor_product.cuh"
#include "kernels/device_error.h"

namespace whence::k {
namespace {

// --- rounding: a thread brings eight neighbours, two loads and a store of 16 bytes each ---

constexpr int round_threads = 256;

struct alignas(16) FourReals {
  real x[4];
};
struct alignas(16) FourWords {
  uint32_t x[4];
};

__global__ void round_rows_kernel(const real* a, int64_t a_stride, int64_t rows, int64_t k,
                                  bool aligned, FourWords* rounded) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, across = k / 8;
  if (i >= rows * across) return;
  const real* from = a + i / across * a_stride + i % across * 8;
  FourReals part[2];
  if (aligned) {
    part[0] = reinterpret_cast<const FourReals*>(from)[0];
    part[1] = reinterpret_cast<const FourReals*>(from)[1];
  } else {
    for (int j = 0; j < 8; ++j) part[j / 4].x[j % 4] = from[j];
  }
  FourWords words;
  for (int j = 0; j < 4; ++j)
    words.x[j] = gpu::pair(part[j / 2].x[j % 2 * 2], part[j / 2].x[j % 2 * 2 + 1]);
  rounded[i] = words;
}

// --- the rest of the epilogue: a block has 8 rows of 32 columns, a warp writes 128 bytes ---

constexpr int finish_cols = 32, finish_rows_each = 8;

__global__ void finish_rows_kernel(const real* sums, int64_t sums_stride, int64_t rows, int64_t n,
                                   Epilogue epilogue, real* c, int64_t c_stride) {
  const int64_t across = gpu::pieces<int64_t>(n, finish_cols);
  const int64_t row =
      int64_t(blockIdx.x) / across * finish_rows_each + int64_t(threadIdx.x / finish_cols);
  const int64_t col =
      int64_t(blockIdx.x) % across * finish_cols + int64_t(threadIdx.x % finish_cols);
  if (row >= rows || col >= n) return;
  const int64_t at = row * c_stride + col;
  c[at] = finished(epilogue, sums[row * sums_stride + col], col, at);
}

#if !defined(__CUDACC__) || defined(WHENCE_HAVE_CUBLASLT)

// --- the library ---

using namespace gpu::lt;
namespace lt = gpu::lt;

constexpr int64_t nominal_rows = 4096, max_rows = 16384;
constexpr int64_t tried_rows[] = {
    1, 2, 3, 7, 8, 17, 64, 100, 129, 1000, nominal_rows, max_rows - 1, max_rows};
constexpr uint32_t best_alignment = 16;
constexpr int max_offers = 32;
constexpr size_t no_workspace = 0;

// All that an algorithm may depend on.
struct Problem {
  int64_t n, k, a_stride, c_stride;
  Precision factors;
  uint32_t packed_aligned, a_aligned, c_aligned, bias_aligned;  // in bytes; 0 for no bias
  bool residual;
  auto operator<=>(const Problem&) const = default;
};

// Of a pointer and of everything `stride` bytes apart from it.
uint32_t alignment(const void* p, int64_t stride) {
  const uint64_t bits = reinterpret_cast<uintptr_t>(p) | uint64_t(stride) | best_alignment;
  return uint32_t(1) << std::countr_zero(bits);
}

using Algorithm = std::optional<cublasLtMatmulAlgo_t>;

// What a stream keeps.
struct LibraryProducts {
  cublasLtHandle_t handle = nullptr;
  std::map<Problem, Algorithm> chosen;
  LibraryProducts() = default;
  LibraryProducts(const LibraryProducts&) = delete;
  LibraryProducts& operator=(const LibraryProducts&) = delete;
  ~LibraryProducts() {
    if (handle) functions().cublasLtDestroy(handle);
  }
};

// Throws where a call of the library failed, with what was asked of it.
void expect(gpu::Stream& s, cublasStatus_t status, const char* function, const Problem& p,
            int64_t rows) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  lt::expect_alive(s, function);
  throw DeviceError(
      status == CUBLAS_STATUS_ALLOC_FAILED ? DeviceError::out_of_memory : DeviceError::refused,
      std::string(function) + " for " + std::to_string(rows) + " rows, " + std::to_string(p.n) +
          " columns, " + std::to_string(p.k) + " summed in " + to_string(p.factors) + ": " +
          functions().cublasLtGetStatusName(status));
}

// The library's descriptions of a problem of so many rows.
struct Description {
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t packed = nullptr, a = nullptr, c = nullptr;

  Description() = default;
  Description(gpu::Stream& s, const Problem& p, int64_t rows, const void* bias) : Description() {
    const auto compute = p.factors == Precision::f32    ? CUBLAS_COMPUTE_32F_PEDANTIC
                         : p.factors == Precision::tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                        : CUBLAS_COMPUTE_32F;
    const auto factor = p.factors == Precision::bf16 ? CUDA_R_16BF : CUDA_R_32F;
    expect(s, functions().cublasLtMatmulDescCreate(&operation, compute, CUDA_R_32F),
           "cublasLtMatmulDescCreate", p, rows);
    const int32_t transposed = CUBLAS_OP_T;
    set(s, p, rows, CUBLASLT_MATMUL_DESC_TRANSA, transposed);
    if (bias) {
      const uint32_t epilogue = CUBLASLT_EPILOGUE_BIAS;
      set(s, p, rows, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
      set(s, p, rows, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    }
    const auto lay_out = [&](cublasLtMatrixLayout_t* to, auto type, int64_t adjacent, int64_t lines,
                             int64_t apart) {
      expect(s,
             functions().cublasLtMatrixLayoutCreate(to, type, uint64_t(adjacent), uint64_t(lines),
                                                    apart),
             "cublasLtMatrixLayoutCreate", p, rows);
    };
    lay_out(&packed, factor, p.k, p.n, p.k);
    lay_out(&a, factor, p.k, rows, p.a_stride);
    lay_out(&c, CUDA_R_32F, p.n, rows, p.c_stride);
  }
  Description(const Description&) = delete;
  Description& operator=(const Description&) = delete;
  ~Description() {
    if (operation) functions().cublasLtMatmulDescDestroy(operation);
    for (const auto layout : {packed, a, c})
      if (layout) functions().cublasLtMatrixLayoutDestroy(layout);
  }

 private:
  template <class T>
  void set(gpu::Stream& s, const Problem& p, int64_t rows, cublasLtMatmulDescAttributes_t attribute,
           const T& value) {
    expect(s,
           functions().cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof value),
           "cublasLtMatmulDescSetAttribute", p, rows);
  }
};

// What the library may offer: no reduction, no workspace, no better alignment than there is.
struct Preference {
  cublasLtMatmulPreference_t handle = nullptr;

  Preference() = default;
  Preference(gpu::Stream& s, const Problem& p) : Preference() {
    expect(s, functions().cublasLtMatmulPreferenceCreate(&handle), "cublasLtMatmulPreferenceCreate",
           p, nominal_rows);
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      expect(
          s,
          functions().cublasLtMatmulPreferenceSetAttribute(handle, attribute, &value, sizeof value),
          "cublasLtMatmulPreferenceSetAttribute", p, nominal_rows);
    };
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{no_workspace});
    set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE});
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, p.packed_aligned);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, p.a_aligned);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, p.c_aligned);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, p.c_aligned);
  }
  Preference(const Preference&) = delete;
  Preference& operator=(const Preference&) = delete;
  ~Preference() {
    if (handle) functions().cublasLtMatmulPreferenceDestroy(handle);
  }
};

// The library looks at how the bias is aligned and not at what is there: an address with that
// alignment and no better, whatever the real one is.
const void* bias_of(const Problem& p) {
  return reinterpret_cast<const void*>(uintptr_t{p.bias_aligned});
}

// One chain of sums for each element, results that may lie elsewhere than the residual, and every
// number of rows that was tried.
bool suits(gpu::Stream& s, cublasLtHandle_t handle, const Problem& p,
           const cublasLtMatmulAlgo_t& algorithm) {
  int32_t splits = 0, out_of_place = 0;
  size_t written = 0;
  const auto got = [](cublasStatus_t status) { return status == CUBLAS_STATUS_SUCCESS; };
  if (!got(functions().cublasLtMatmulAlgoConfigGetAttribute(
          &algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &splits, sizeof splits, &written)) ||
      !got(functions().cublasLtMatmulAlgoCapGetAttribute(
          &algorithm, CUBLASLT_ALGO_CAP_OUT_OF_PLACE_RESULT_SUPPORT, &out_of_place,
          sizeof out_of_place, &written)))
    return false;
  // One part may be called 0 splits as well.
  if (splits > 1 || (p.residual && !out_of_place)) return false;
  for (const int64_t rows : tried_rows) {
    const Description d(s, p, rows, bias_of(p));
    cublasLtMatmulHeuristicResult_t result{};
    if (!got(functions().cublasLtMatmulAlgoCheck(handle, d.operation, d.packed, d.a, d.c, d.c,
                                                 &algorithm, &result)) ||
        result.workspaceSize > no_workspace)
      return false;
  }
  return true;
}

// The first that suits of those the library offers, which come fastest first.
Algorithm choose(gpu::Stream& s, cublasLtHandle_t handle, const Problem& p) {
  const Description d(s, p, nominal_rows, bias_of(p));
  const Preference preference(s, p);
  cublasLtMatmulHeuristicResult_t offers[max_offers] = {};
  int count = 0;
  const cublasStatus_t status = functions().cublasLtMatmulAlgoGetHeuristic(
      handle, d.operation, d.packed, d.a, d.c, d.c, preference.handle, max_offers, offers, &count);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) return {};
  expect(s, status, "cublasLtMatmulAlgoGetHeuristic", p, nominal_rows);
  for (int i = 0; i < count; ++i)
    if (offers[i].state == CUBLAS_STATUS_SUCCESS && suits(s, handle, p, offers[i].algo))
      return offers[i].algo;
  return {};
}

const Algorithm& algorithm_for(gpu::Stream& s, LibraryProducts& library, const Problem& p) {
  if (!library.handle)
    expect(s, functions().cublasLtCreate(&library.handle), "cublasLtCreate", p, nominal_rows);
  const auto known = library.chosen.find(p);
  if (known != library.chosen.end()) return known->second;
  return library.chosen.emplace(p, choose(s, library.handle, p)).first->second;
}

// c[rows, n] = a packed^T + bias + residual
void multiply(gpu::Stream& s, cublasLtHandle_t handle, const cublasLtMatmulAlgo_t& algorithm,
              const Problem& p, int64_t rows, const void* a, const void* packed, const real* bias,
              const real* residual, real* c) {
  const cudaStream_t stream = lt::native(s, "cublasLtMatmul");
  const Description d(s, p, rows, bias);
  const float one = 1, weight = residual ? 1 : 0;
  expect(s,
         functions().cublasLtMatmul(handle, d.operation, &one, packed, d.packed, a, d.a, &weight,
                                    residual ? residual : c, d.c, c, d.c, &algorithm, nullptr,
                                    no_workspace, stream),
         "cublasLtMatmul", p, rows);
}

// Room in scratch memory for a's rows rounded, and behind it for sums.
struct Room {
  size_t rounded, sums;
  Room(bool round, bool keep_sums, int64_t rows, int64_t n, int64_t k)
      : rounded(round ? (size_t(rows * k) * sizeof(gpu::Bf16) + 255) / 256 * 256 : 0),
        sums(keep_sums ? size_t(rows * n) * sizeof(real) : 0) {}
};

#endif

}  // namespace

void round_rows(gpu::Stream& s, const real* a, int64_t a_stride, int64_t rows, int64_t k,
                uint32_t* rounded) {
  const bool aligned =
      (reinterpret_cast<uintptr_t>(a) | uint64_t(a_stride) * sizeof(real)) % sizeof(FourReals) == 0;
  gpu::launch(s, {gpu::pieces<int64_t>(rows * (k / 8), round_threads), round_threads},
              round_rows_kernel, a, a_stride, rows, k, aligned,
              reinterpret_cast<FourWords*>(rounded));
}

void finish_rows(gpu::Stream& s, const real* sums, int64_t sums_stride, int64_t rows, int64_t n,
                 const Epilogue& epilogue, real* c, int64_t c_stride) {
  gpu::launch(s,
              {gpu::pieces<int64_t>(rows, finish_rows_each) * gpu::pieces<int64_t>(n, finish_cols),
               finish_cols * finish_rows_each},
              finish_rows_kernel, sums, sums_stride, rows, n, epilogue, c, c_stride);
}

#if !defined(__CUDACC__) || defined(WHENCE_HAVE_CUBLASLT)

bool library_product(gpu::Stream& s, const real* a, int64_t a_stride, const real* packed, int64_t m,
                     int64_t n, int64_t k, const Epilogue& e, real* c, int64_t c_stride) {
  constexpr int64_t limit = INT32_MAX;  // of the library's sizes
  if (!lt::available()) return false;
  if (k <= 0 || n > limit || k > limit || a_stride < k || c_stride < n) return false;
  lt::native(s, "cublasLt");
  const Precision factors = on_tensor_cores(s.precision, k) ? s.precision : Precision::f32;
  const bool round = factors == Precision::bf16, activates = e.activation != Identity{};
  // A residual that is added after the activation may be c itself: sums go elsewhere.
  const bool aside = activates && e.residual && !e.residual_first;
  const real* residual = aside ? nullptr : e.residual;
  const Room room(round, aside, std::min(m, max_rows), n, k);
  if (s.asking()) {  // whatever algorithm there will be
    s.scratch(room.rounded + room.sums);
    return true;
  }

  const int64_t stride = aside ? n : c_stride;
  const auto row_bytes = int64_t(stride * sizeof(real));
  const Problem p{.n = n,
                  .k = k,
                  .a_stride = round ? k : a_stride,
                  .c_stride = stride,
                  .factors = factors,
                  .packed_aligned = alignment(packed, k * (round ? 2 : 4)),
                  .a_aligned = round ? best_alignment : alignment(a, a_stride * 4),
                  .c_aligned = std::min(alignment(aside ? nullptr : c, row_bytes),
                                        alignment(residual, row_bytes)),
                  .bias_aligned = e.bias ? alignment(e.bias, 0) : 0,
                  .residual = residual != nullptr};
  auto& library = s.retained.get<LibraryProducts>();
  const Algorithm& algorithm = algorithm_for(s, library, p);
  if (!algorithm) return false;

  char* scratch = room.rounded + room.sums > 0
                      ? static_cast<char*>(s.scratch(room.rounded + room.sums))
                      : nullptr;
  auto* rounded = reinterpret_cast<uint32_t*>(scratch);
  auto* sums = reinterpret_cast<real*>(scratch + room.rounded);
  for (int64_t first = 0; first < m; first += max_rows) {
    const int64_t rows = std::min(max_rows, m - first);
    const real* from = a + first * a_stride;
    real* to = c + first * c_stride;
    const auto there = [&](const real* x) { return x ? x + first * c_stride : nullptr; };
    if (round) round_rows(s, from, a_stride, rows, k, rounded);
    multiply(s, library.handle, *algorithm, p, rows, round ? static_cast<void*>(rounded) : from,
             packed, e.bias, there(residual), aside ? sums : to);
    if (activates)
      finish_rows(s, aside ? sums : to, stride, rows, n,
                  {.activation = e.activation, .residual = aside ? there(e.residual) : nullptr}, to,
                  c_stride);
  }
  return true;
}

#else

bool library_product(gpu::Stream&, const real*, int64_t, const real*, int64_t, int64_t, int64_t,
                     const Epilogue&, real*, int64_t) {
  return false;  // a toolkit without cuBLASLt
}

#endif

}  // namespace whence::k

#endif
