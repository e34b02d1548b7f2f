#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "bench/ceilings.h"

namespace whence::bench {
namespace {

void check(bool good, const char* what) {
  if (!good) throw std::runtime_error(std::string("measuring the device: ") + what);
}
void check(cudaError_t error) { check(error == cudaSuccess, cudaGetErrorString(error)); }
void check(cublasStatus_t status) {
  check(status == CUBLAS_STATUS_SUCCESS, cublasGetStatusString(status));
}

struct Memory {
  void* at = nullptr;
  explicit Memory(size_t bytes) {
    check(cudaMalloc(&at, bytes));
    check(cudaMemset(at, 0x3c, bytes));  // small numbers: zeros would draw less power
  }
  ~Memory() { cudaFree(at); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
};

// The median time of 20 calls, in seconds, after 3 that warm up.
template <class F>
double median_seconds(F f) {
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin));
  check(cudaEventCreate(&end));
  std::vector<float> ms;
  for (int i = 0; i < 23; ++i) {
    float t = 0;
    check(cudaEventRecord(begin));
    f();
    check(cudaEventRecord(end));
    check(cudaEventSynchronize(end));
    check(cudaEventElapsedTime(&t, begin, end));
    if (i >= 3) ms.push_back(t);
  }
  check(cudaEventDestroy(begin));
  check(cudaEventDestroy(end));
  std::nth_element(ms.begin(), ms.begin() + 10, ms.end());
  return ms[10] / 1e3;
}

}  // namespace

double device_copy_rate(int device) {
  check(cudaSetDevice(device));
  const size_t bytes = size_t{4} << 30;
  const Memory from(bytes), to(bytes);
  const double s = median_seconds(
      [&] { check(cudaMemcpyAsync(to.at, from.at, bytes, cudaMemcpyDeviceToDevice)); });
  return 2 * double(bytes) / s;
}

double device_product_rate(int device, Precision precision) {
  check(cudaSetDevice(device));
  const int n = 8192;
  const cudaDataType type = precision == Precision::bf16 ? CUDA_R_16BF : CUDA_R_32F;
  const cublasComputeType_t compute =
      precision == Precision::tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
  const size_t bytes = size_t(n) * size_t(n) * 4;
  const Memory a(bytes), b(bytes), c(bytes);
  cublasHandle_t handle;
  check(cublasCreate(&handle));
  const float one = 1, zero = 0;
  const double s = median_seconds([&] {
    check(cublasGemmEx(handle, CUBLAS_OP_T, CUBLAS_OP_N, n, n, n, &one, a.at, type, n, b.at, type,
                       n, &zero, c.at, CUDA_R_32F, n, compute, CUBLAS_GEMM_DEFAULT));
  });
  check(cublasDestroy(handle));
  return 2.0 * n * n * n / s;
}

}  // namespace whence::bench
