#include "bench/ceilings_cuda.h"

#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/random.h"

namespace whence::bench {
namespace {

void check(bool good, const char* what) {
  if (!good) throw std::runtime_error(std::string("measuring the device: ") + what);
}
void check(cudaError_t error) { check(error == cudaSuccess, cudaGetErrorString(error)); }
void check(cublasStatus_t status) {
  check(status == CUBLAS_STATUS_SUCCESS, cublasGetStatusString(status));
}

// Normal numbers as bytes of an array: a block of them over and over. (Zeros, or one number
// everywhere, would draw less power and so be faster.)
std::vector<char> normal_block(Precision precision) {
  constexpr size_t count = size_t{1} << 20;
  std::vector<real> numbers(count);
  cpu::Stream s{1};
  k::random_normal(s, {1}, int64_t(count), numbers.data());
  const size_t width = precision == Precision::bf16 ? 2 : 4;
  std::vector<char> bytes(count * width);
  for (size_t i = 0; i < count; ++i) {
    const float x = float(numbers[i]);
    char all[4];
    std::memcpy(all, &x, 4);
    std::memcpy(&bytes[i * width], all + 4 - width, width);  // bf16: the upper half
  }
  return bytes;
}

struct Memory {
  char* at = nullptr;
  explicit Memory(size_t bytes) { check(cudaMalloc(reinterpret_cast<void**>(&at), bytes)); }
  Memory(size_t bytes, const std::vector<char>& block) : Memory(bytes) {
    for (size_t i = 0; i < bytes; i += block.size())
      check(cudaMemcpy(at + i, block.data(), std::min(block.size(), bytes - i),
                       cudaMemcpyHostToDevice));
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
  const Memory from(bytes, normal_block(Precision::f32)), to(bytes);
  const double s = median_seconds(
      [&] { check(cudaMemcpyAsync(to.at, from.at, bytes, cudaMemcpyDeviceToDevice)); });
  return 2 * double(bytes) / s;
}

double device_product_rate(int device, Precision precision, int m, int n, int k) {
  check(cudaSetDevice(device));
  const cudaDataType type = precision == Precision::bf16 ? CUDA_R_16BF : CUDA_R_32F;
  const cublasComputeType_t compute =
      precision == Precision::tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
  const std::vector<char> block = normal_block(precision);
  const size_t width = precision == Precision::bf16 ? 2 : 4;
  const Memory a(size_t(m) * size_t(k) * width, block), b(size_t(n) * size_t(k) * width, block),
      c(size_t(m) * size_t(n) * 4);
  cublasHandle_t handle;
  check(cublasCreate(&handle));
  const float one = 1, zero = 0;
  // c [m, n] = a [m, k] b [n, k]^T, row-major: its transpose, column-major, is b^T a
  const double s = median_seconds([&] {
    check(cublasGemmEx(handle, CUBLAS_OP_T, CUBLAS_OP_N, n, m, k, &one, b.at, type, k, a.at, type,
                       k, &zero, c.at, CUDA_R_32F, n, compute, CUBLAS_GEMM_DEFAULT));
  });
  check(cublasDestroy(handle));
  return 2.0 * m * n * k / s;
}

}  // namespace whence::bench
