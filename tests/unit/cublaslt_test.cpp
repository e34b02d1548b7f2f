// The double of cuBLASLt: products against plain loops, and wrong calls get no product. What the
// double lets pass, no test of the calling code can find.
#if defined(WHENCE_HAVE_SIMT) && !defined(WHENCE_F64)
#include "tests/twins/cublaslt.h"

#include <array>
#include <functional>

#include "kernels/cuda/ptx.cuh"
#include "tests/ref/arrays.h"

namespace whence {
namespace {

using namespace ref;
using namespace twins::lt;

// Everything that a product takes. As it is made, D [5, 3] = A [7, 5]^T B [7, 3] + bias is right.
struct Call {
  Installed library;
  simt::Stream stream;
  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;
  std::array<cublasLtMatrixLayout_t, 4> layouts{};  // A, B, C, D
  // Device memory: aligned, and closed to the host.
  std::shared_ptr<void> memory = simt::Stream::allocate(1 << 16);
  char* base = static_cast<char*>(memory.get());
  const void *a = base, *b = base + 1024, *c = base + 2048;
  void *d = base + 2048, *workspace = base + 8192;
  const void* bias = base + 4096;
  size_t workspace_bytes = 0;
  float one = 1, none = 0;
  const float *alpha = &one, *beta = &none;
  cublasLtMatmulAlgo_t algorithm{};
  const cublasLtMatmulAlgo_t* algorithm_used = &algorithm;
  cudaStream_t queue = &stream;

  explicit Call(const Offer& offered = {}) {
    offer({offered});
    functions().cublasLtCreate(&handle);
    describe(CUBLAS_COMPUTE_32F, CUDA_R_32F, CUBLASLT_EPILOGUE_BIAS);
    for (int x = 0; x < 4; ++x) lay_out(x, CUDA_R_32F);
    functions().cublasLtMatmulPreferenceCreate(&preference);
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{1024});
    cublasLtMatmulHeuristicResult_t result{};
    int count = 0;
    EXPECT_EQ(heuristic(1, &result, &count), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(count, 1);
    algorithm = result.algo;
  }
  ~Call() {
    functions().cublasLtDestroy(handle);
    functions().cublasLtMatmulDescDestroy(operation);
    functions().cublasLtMatmulPreferenceDestroy(preference);
    for (auto x : layouts) functions().cublasLtMatrixLayoutDestroy(x);
    offer(usual_offers());
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  void describe(cublasComputeType_t compute, cudaDataType_t scale, uint32_t epilogue,
                int32_t first = CUBLAS_OP_T) {
    functions().cublasLtMatmulDescDestroy(operation);
    functions().cublasLtMatmulDescCreate(&operation, compute, scale);
    set(CUBLASLT_MATMUL_DESC_TRANSA, first);
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  }
  template <class T>
  cublasStatus_t set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    return functions().cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof value);
  }
  template <class T>
  cublasStatus_t prefer(cublasLtMatmulPreferenceAttributes_t attribute, const T& value) {
    return functions().cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value,
                                                            sizeof value);
  }
  void lay_out(int x, cudaDataType_t type, int64_t more_rows = 0, int64_t more_cols = 0,
               int64_t more_ld = 1) {
    static constexpr int64_t rows[] = {7, 7, 5, 5}, cols[] = {5, 3, 3, 3};
    functions().cublasLtMatrixLayoutDestroy(layouts[size_t(x)]);
    functions().cublasLtMatrixLayoutCreate(&layouts[size_t(x)], type, uint64_t(rows[x] + more_rows),
                                           uint64_t(cols[x] + more_cols),
                                           rows[x] + more_rows + more_ld);
  }
  cublasStatus_t heuristic(int requested, cublasLtMatmulHeuristicResult_t* results, int* count) {
    return functions().cublasLtMatmulAlgoGetHeuristic(handle, operation, layouts[0], layouts[1],
                                                      layouts[2], layouts[3], preference, requested,
                                                      results, count);
  }
  cublasStatus_t check(cublasLtMatmulHeuristicResult_t* result) {
    return functions().cublasLtMatmulAlgoCheck(handle, operation, layouts[0], layouts[1],
                                               layouts[2], layouts[3], algorithm_used, result);
  }
  cublasStatus_t multiply() {
    return functions().cublasLtMatmul(handle, operation, alpha, a, layouts[0], b, layouts[1], beta,
                                      c, layouts[2], d, layouts[3], algorithm_used, workspace,
                                      workspace_bytes, queue);
  }
};

struct Wrong {
  const char* what;
  cublasStatus_t status;
  std::function<void(Call&)> change;
  Offer offered{};
};

constexpr auto success = CUBLAS_STATUS_SUCCESS, invalid = CUBLAS_STATUS_INVALID_VALUE,
               unsupported = CUBLAS_STATUS_NOT_SUPPORTED;

const std::vector<Wrong> wrong_products = {
    {"nothing wrong", CUBLAS_STATUS_SUCCESS, [](Call&) {}},
    {"no handle", CUBLAS_STATUS_NOT_INITIALIZED,
     [](Call& x) { functions().cublasLtDestroy(x.handle), x.handle = nullptr; }},
    {"a destroyed handle", CUBLAS_STATUS_NOT_INITIALIZED,
     [](Call& x) { functions().cublasLtDestroy(x.handle); }},
    {"a destroyed description", invalid,
     [](Call& x) { functions().cublasLtMatmulDescDestroy(x.operation); }},
    {"a destroyed layout", invalid,
     [](Call& x) { functions().cublasLtMatrixLayoutDestroy(x.layouts[1]); }},
    {"no factor", invalid, [](Call& x) { x.b = nullptr; }},
    {"no result", invalid, [](Call& x) { x.d = nullptr; }},
    {"no alpha", invalid, [](Call& x) { x.alpha = nullptr; }},
    {"no stream", invalid, [](Call& x) { x.queue = nullptr; }},
    {"beta without C", invalid, [](Call& x) { x.c = nullptr, x.beta = &x.one; }},
    {"C in place, laid out another way", invalid,
     [](Call& x) { x.lay_out(2, CUDA_R_32F, 0, 0, 2); }},
    {"sums of two lengths", invalid, [](Call& x) { x.lay_out(1, CUDA_R_32F, 1); }},
    {"too few columns", invalid, [](Call& x) { x.lay_out(1, CUDA_R_32F, 0, 1); }},
    {"not transposed", invalid, [](Call& x) { x.set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_N); }},
    {"columns that overlap", invalid, [](Call& x) { x.lay_out(0, CUDA_R_32F, 0, 0, -1); }},
    {"rows beyond 31 bits", unsupported,
     [](Call& x) { x.lay_out(0, CUDA_R_32F, int64_t{1} << 31); }},
    {"bias without a pointer", invalid,
     [](Call& x) {
       const void* none = nullptr;
       x.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, none);
     }},
    {"two types of factors", unsupported, [](Call& x) { x.lay_out(1, CUDA_R_16BF); }},
    {"results in bf16", unsupported,
     [](Call& x) { x.lay_out(2, CUDA_R_16BF), x.lay_out(3, CUDA_R_16BF); }},
    {"tf32 of bf16", unsupported,
     [](Call& x) {
       x.describe(CUBLAS_COMPUTE_32F_FAST_TF32, CUDA_R_32F, CUBLASLT_EPILOGUE_BIAS);
       x.lay_out(0, CUDA_R_16BF), x.lay_out(1, CUDA_R_16BF);
     }},
    {"alpha in bf16", unsupported,
     [](Call& x) { x.describe(CUBLAS_COMPUTE_32F, CUDA_R_16BF, CUBLASLT_EPILOGUE_BIAS); }},
    {"no algorithm", invalid, [](Call& x) { x.algorithm_used = nullptr; }},
    {"an algorithm of nobody", invalid, [](Call& x) { x.algorithm = {}; }},
    {"a changed algorithm", invalid, [](Call& x) { x.algorithm.data[2] ^= 1; }},
    {"an algorithm for another epilogue", invalid,
     [](Call& x) { x.set(CUBLASLT_MATMUL_DESC_EPILOGUE, uint32_t{CUBLASLT_EPILOGUE_DEFAULT}); }},
    {"an algorithm for another compute type", invalid,
     [](Call& x) { x.describe(CUBLAS_COMPUTE_32F_PEDANTIC, CUDA_R_32F, CUBLASLT_EPILOGUE_BIAS); }},
    {"an algorithm for other factors", invalid,
     [](Call& x) { x.lay_out(0, CUDA_R_16BF), x.lay_out(1, CUDA_R_16BF); }},
    {"an algorithm for better aligned columns",
     invalid,
     [](Call& x) { x.lay_out(0, CUDA_R_32F, 0, 0, 2); },
     {.alignment = 8}},
    {"a misaligned factor", invalid, [](Call& x) { x.a = x.base + 2; }},
    {"a misaligned result",
     invalid,
     [](Call& x) { x.d = x.base + 2052, x.c = x.d; },
     {.alignment = 8}},
    {"a misaligned bias",
     invalid,
     [](Call& x) {
       const void* off = x.base + 4100;
       x.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, off);
     },
     {.alignment = 8}},
    {"more columns than the algorithm can do",
     unsupported,
     [](Call& x) {
       for (int i = 1; i < 4; ++i) x.lay_out(i, CUDA_R_32F, 0, 1);
     },
     {.most_columns = 3}},
    {"elsewhere than C",
     unsupported,
     [](Call& x) { x.c = x.base + 5000; },
     {.out_of_place = false}},
    {"a result over a factor", invalid, [](Call& x) { x.d = x.base + 8, x.c = x.d; }},
    {"a result over a part of C", invalid, [](Call& x) { x.c = x.base + 2056; }},
    {"too small a workspace",
     invalid,
     [](Call& x) { x.workspace_bytes = 511; },
     {.workspace = 512}},
    {"no workspace",
     invalid,
     [](Call& x) { x.workspace_bytes = 512, x.workspace = nullptr; },
     {.workspace = 512}},
    {"a misaligned workspace",
     invalid,
     [](Call& x) { x.workspace_bytes = 512, x.workspace = x.base + 8192 + 128; },
     {.workspace = 512}},
};

TEST(CublasltTwin, refuses_wrong_products) {
  const size_t before = live_objects();
  for (const Wrong& row : wrong_products) {
    // Columns of 8, 8, 6 and 6 floats.
    Call x(row.offered);
    row.change(x);
    EXPECT_EQ(x.multiply(), row.status)
        << row.what << ": " << functions().cublasLtGetStatusName(x.multiply());
    x.stream.synchronize();
  }
  EXPECT_EQ(live_objects(), before);
}

TEST(CublasltTwin, refuses_wrong_attributes) {
  Call x;
  const int64_t wide = 0;
  const int32_t value = 0;
  EXPECT_EQ(x.set(CUBLASLT_MATMUL_DESC_TRANSA, wide), invalid);
  EXPECT_EQ(x.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, value), invalid);
  EXPECT_EQ(x.prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, value), invalid);
  EXPECT_EQ(x.prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, wide), invalid);
  int64_t splits = 0;
  size_t written = 0;
  const auto get = [&](const cublasLtMatmulAlgo_t* from, size_t bytes) {
    return functions().cublasLtMatmulAlgoConfigGetAttribute(from, CUBLASLT_ALGO_CONFIG_SPLITK_NUM,
                                                            &splits, bytes, &written);
  };
  EXPECT_EQ(get(&x.algorithm, 8), invalid);
  EXPECT_EQ(get(nullptr, 4), invalid);
  EXPECT_EQ(get(&x.algorithm, 4), success);
  EXPECT_EQ(splits, 1);
  EXPECT_EQ(functions().cublasLtDestroy(nullptr), invalid);
}

TEST(CublasltTwin, the_heuristic_offers_what_was_preferred) {
  Call x;
  cublasLtMatmulHeuristicResult_t results[8] = {};
  int count = 0;
  EXPECT_EQ(x.heuristic(0, results, &count), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(x.heuristic(8, nullptr, &count), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(x.heuristic(8, results, nullptr), CUBLAS_STATUS_INVALID_VALUE);
  offer({});
  EXPECT_EQ(x.heuristic(8, results, &count), CUBLAS_STATUS_NOT_SUPPORTED);
  const auto offered = [&](std::vector<Offer> offers) {
    offer(std::move(offers));
    EXPECT_EQ(x.heuristic(8, results, &count), CUBLAS_STATUS_SUCCESS);
    return count;
  };
  const Offer split{.splits = 2, .reduction = CUBLASLT_REDUCTION_SCHEME_INPLACE};
  EXPECT_EQ(offered({split, {.workspace = 1024}, {.workspace = 1025}}), 2);
  x.prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE});
  EXPECT_EQ(offered({split, {}}), 1);
  EXPECT_EQ(results[0].workspaceSize, 0u);
  EXPECT_EQ(offered({{.alignment = 8}, {.alignment = 16}}), 1);  // columns of 24 bytes
  x.prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, uint32_t{4});
  EXPECT_EQ(offered({{.alignment = 8}, {.alignment = 4}}), 1);
  EXPECT_EQ(x.heuristic(1, results, &count), CUBLAS_STATUS_SUCCESS);
  x.lay_out(1, CUDA_R_16BF);
  EXPECT_EQ(x.heuristic(8, results, &count), CUBLAS_STATUS_NOT_SUPPORTED);
  functions().cublasLtMatmulPreferenceDestroy(x.preference);
  EXPECT_EQ(x.heuristic(8, results, &count), CUBLAS_STATUS_INVALID_VALUE);
}

TEST(CublasltTwin, an_algorithm_can_be_checked_for_another_shape) {
  Call x({.workspace = 256, .most_columns = 4});
  cublasLtMatmulHeuristicResult_t result{};
  EXPECT_EQ(x.check(nullptr), CUBLAS_STATUS_INVALID_VALUE);
  for (const int64_t more : {0, 1, 2}) {
    for (int i = 1; i < 4; ++i) x.lay_out(i, CUDA_R_32F, 0, more);
    EXPECT_EQ(x.check(&result), more < 2 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED);
  }
  EXPECT_EQ(result.workspaceSize, 256u);
  for (int i = 1; i < 4; ++i) x.lay_out(i, CUDA_R_32F);
  x.algorithm.data[5] += 1;
  EXPECT_EQ(x.check(&result), CUBLAS_STATUS_INVALID_VALUE);
}

TEST(CublasltTwin, products_run_when_the_stream_does_and_spoil_the_workspace) {
  for (const auto compute : {CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_FAST_TF32})
    for (const auto first : {CUBLAS_OP_T, CUBLAS_OP_N}) {
      Call x;
      const float alpha = 2, beta = -0.5;
      x.alpha = &alpha, x.beta = &beta;
      x.describe(compute, CUDA_R_32F, CUBLASLT_EPILOGUE_BIAS, first);
      if (first == CUBLAS_OP_N) x.lay_out(0, CUDA_R_32F, -2, 2, 3);  // [5, 7]
      cublasLtMatmulHeuristicResult_t result{};
      int count = 0;
      ASSERT_EQ(x.heuristic(1, &result, &count), CUBLAS_STATUS_SUCCESS);
      x.algorithm = result.algo;
      x.workspace_bytes = 8;
      // Columns are 8 floats apart, 6 in C and D.
      const Reals a = noise(56, 1), b = noise(56, 2), c = noise(18, 3), bias = noise(5, 4);
      Reals d(18), room(2);
      const auto in = [&](const void* to, const Reals& from) {
        x.stream.copy_in(const_cast<void*>(to), from.data(), from.size() * 4);
      };
      in(x.a, a), in(x.b, b), in(x.bias, bias), in(x.c, c), in(x.workspace, room);
      ASSERT_EQ(x.multiply(), CUBLAS_STATUS_SUCCESS);
      x.stream.copy_out(d.data(), x.d, 18 * 4);
      x.stream.copy_out(room.data(), x.workspace, 8);
      x.stream.synchronize();
      for (const real left : room) EXPECT_TRUE(std::isnan(left));
      for (int j = 0; j < 3; ++j)
        for (int i = 0; i < 6; ++i) {
          const auto at = size_t(j * 6 + i);
          double want = c[at], size = 2;
          for (int k = 0; k < 7 && i < 5; ++k) {
            const float f = a[size_t(first == CUBLAS_OP_T ? i * 8 + k : k * 8 + i)],
                        g = b[size_t(j * 8 + k)];
            const auto rounded = [&](float v) {
              return compute == CUBLAS_COMPUTE_32F ? v : gpu::float_of(gpu::to_tf32(v));
            };
            const double term = double(rounded(f)) * rounded(g);
            want = (k == 0 ? -0.5 * c[at] + bias[size_t(i)] : want) + 2 * term;
            size += std::abs(term);
          }
          EXPECT_NEAR(d[at], want, i < 5 ? 10 * eps * size : 0) << i << " " << j;
        }
    }
}

}  // namespace
}  // namespace whence
#endif
