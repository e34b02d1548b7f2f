#include "kernels/simt/cudnn.h"

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <set>

#include "kernels/cuda/ptx.cuh"

namespace whence::simt::dnn {

struct cudnnContext {
  Stream* stream = nullptr;
};
// Sides are 0 until a descriptor is set.
struct cudnnTensorStruct {
  cudnnTensorFormat_t format{};
  cudnnDataType_t type{};
  int n = 0, c = 0, h = 0, w = 0;
  int64_t count() const { return int64_t(n) * c * h * w; }
};
struct cudnnFilterStruct {
  cudnnTensorFormat_t format{};
  cudnnDataType_t type{};
  int k = 0, c = 0, h = 0, w = 0;
  int64_t count() const { return int64_t(k) * c * h * w; }
};
struct cudnnConvolutionStruct {
  int pad_h = 0, pad_w = 0, stride_h = 0, stride_w = 0, dilation_h = 0, dilation_w = 0;
  cudnnConvolutionMode_t mode{};
  cudnnDataType_t type{};
  int groups = 1;
  cudnnMathType_t math = CUDNN_DEFAULT_MATH;
};

namespace {

std::mutex mutex;
std::set<const void*>& live() {
  static auto& objects = *new std::set<const void*>;
  return objects;
}
Answers answers;
std::atomic<size_t> done{0};

bool alive(const void* object) {
  const std::lock_guard lock(mutex);
  return live().contains(object);
}
Answers answers_now() {
  const std::lock_guard lock(mutex);
  return answers;
}

template <class T>
cudnnStatus_t create(T** object) {
  if (!object) return CUDNN_STATUS_BAD_PARAM;
  *object = new T;
  const std::lock_guard lock(mutex);
  live().insert(*object);
  return CUDNN_STATUS_SUCCESS;
}
template <class T>
cudnnStatus_t destroy(T* object) {
  const std::lock_guard lock(mutex);
  if (live().erase(object) == 0) return CUDNN_STATUS_BAD_PARAM;
  delete object;
  return CUDNN_STATUS_SUCCESS;
}

bool known(cudnnDataType_t t) {
  return t == CUDNN_DATA_FLOAT || t == CUDNN_DATA_DOUBLE || t == CUDNN_DATA_BFLOAT16;
}
bool known(cudnnTensorFormat_t f) {
  return f == CUDNN_TENSOR_NCHW || f == CUDNN_TENSOR_NHWC || f == CUDNN_TENSOR_NCHW_VECT_C;
}

constexpr int64_t max_elements = int64_t{1} << 31;
// More than what is of use, so that nobody relies on none being needed.
constexpr size_t workspace_base = 300;

// All that a convolution needs to know, by value: descriptors may be gone when it runs.
struct Problem {
  cudnnTensorStruct x, y;
  cudnnFilterStruct w;
  cudnnConvolutionStruct z;
  size_t workspace() const { return workspace_base + size_t(w.h) * size_t(w.w) * sizeof(int); }
};

int outputs(int size, int pad, int stride, int dilation, int taps) {
  const int64_t room = int64_t(size) + 2 * int64_t(pad) - int64_t(dilation) * (taps - 1) - 1;
  return room < 0 ? 0 : int(room / stride + 1);
}

cudnnStatus_t check(cudnnHandle_t handle, cudnnTensorDescriptor_t x, cudnnFilterDescriptor_t w,
                    cudnnConvolutionDescriptor_t convolution, cudnnTensorDescriptor_t y,
                    cudnnConvolutionFwdAlgo_t algo, Problem& p) {
  for (const void* object :
       {static_cast<const void*>(handle), static_cast<const void*>(x), static_cast<const void*>(w),
        static_cast<const void*>(convolution), static_cast<const void*>(y)})
    if (!alive(object)) return CUDNN_STATUS_BAD_PARAM;
  p = {*x, *y, *w, *convolution};
  const cudnnConvolutionStruct& z = p.z;
  if (p.x.n == 0 || p.y.n == 0 || p.w.k == 0 || z.stride_h == 0) return CUDNN_STATUS_BAD_PARAM;
  if (p.x.type != p.w.type || p.x.type != p.y.type) return CUDNN_STATUS_BAD_PARAM;
  if (p.x.c != p.w.c * z.groups || p.w.k % z.groups != 0) return CUDNN_STATUS_BAD_PARAM;
  if (p.y.n != p.x.n || p.y.c != p.w.k ||
      p.y.h != outputs(p.x.h, z.pad_h, z.stride_h, z.dilation_h, p.w.h) ||
      p.y.w != outputs(p.x.w, z.pad_w, z.stride_w, z.dilation_w, p.w.w))
    return CUDNN_STATUS_BAD_PARAM;
  for (const cudnnTensorFormat_t f : {p.x.format, p.y.format, p.w.format})
    if (f != CUDNN_TENSOR_NHWC) return CUDNN_STATUS_NOT_SUPPORTED;
  if (p.x.type != CUDNN_DATA_FLOAT || z.type != CUDNN_DATA_FLOAT) return CUDNN_STATUS_NOT_SUPPORTED;
  if (z.mode != CUDNN_CROSS_CORRELATION) return CUDNN_STATUS_NOT_SUPPORTED;
  // What the others would do to f32 is the library's choice, and not what whence wants.
  if (z.math != CUDNN_FMA_MATH && z.math != CUDNN_DEFAULT_MATH) return CUDNN_STATUS_NOT_SUPPORTED;
  const bool dilated = z.dilation_h != 1 || z.dilation_w != 1;
  if (algo == CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM ||
      (algo == CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM && !dilated))
    return CUDNN_STATUS_SUCCESS;
  return CUDNN_STATUS_NOT_SUPPORTED;
}

struct Range {
  uintptr_t first, end;
  Range(const void* p, size_t bytes) : first(reinterpret_cast<uintptr_t>(p)), end(first + bytes) {}
  bool meets(const Range& other) const { return first < other.end && other.first < end; }
};

cudnnStatus_t check_memory(const Problem& p, const void* x, const void* w, const void* workspace,
                           size_t workspace_bytes, const void* y) {
  for (const void* at : {x, w, y, workspace}) {
    if (!at) return CUDNN_STATUS_BAD_PARAM;
    if (reinterpret_cast<uintptr_t>(at) % 16 != 0) return CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER;
  }
  if (workspace_bytes < p.workspace()) return CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT;
  const Range ranges[] = {{y, size_t(p.y.count()) * sizeof(float)},
                          {workspace, p.workspace()},
                          {x, size_t(p.x.count()) * sizeof(float)},
                          {w, size_t(p.w.count()) * sizeof(float)}};
  for (int written : {0, 1})
    for (int other = written + 1; other < 4; ++other)
      if (ranges[written].meets(ranges[other])) return CUDNN_STATUS_BAD_PARAM;
  return CUDNN_STATUS_SUCCESS;
}

struct Operands {
  const float *x, *w;
  float* y;
  float alpha, beta;
};

float factor(const Problem& p, float value) {
  if (p.z.math != CUDNN_DEFAULT_MATH) return value;
  const uint32_t bits = to_tf32(value);
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

float sum_of(const Problem& p, const Operands& o, int n, int h, int w, int k) {
  const int group = k / (p.y.c / p.z.groups);
  float sum = 0;
  for (int i = 0; i < p.w.h; ++i)
    for (int j = 0; j < p.w.w; ++j) {
      const int64_t y = int64_t(h) * p.z.stride_h - p.z.pad_h + int64_t(i) * p.z.dilation_h;
      const int64_t x = int64_t(w) * p.z.stride_w - p.z.pad_w + int64_t(j) * p.z.dilation_w;
      if (y < 0 || y >= p.x.h || x < 0 || x >= p.x.w) continue;
      const float* pixel = o.x + ((n * int64_t(p.x.h) + y) * p.x.w + x) * p.x.c + group * p.w.c;
      const float* tap = o.w + ((k * int64_t(p.w.h) + i) * p.w.w + j) * p.w.c;
      for (int c = 0; c < p.w.c; ++c) sum = std::fma(factor(p, pixel[c]), factor(p, tap[c]), sum);
    }
  return sum;
}

// Image n, by one thread.
void convolve_image(const Problem& p, const Operands& o, int n) {
  for (int h = 0; h < p.y.h; ++h)
    for (int w = 0; w < p.y.w; ++w)
      for (int k = 0; k < p.y.c; ++k) {
        float& y = o.y[((n * int64_t(p.y.h) + h) * p.y.w + w) * p.y.c + k];
        const float sum = o.alpha * sum_of(p, o, n, h, w, k);
        y = o.beta == 0 ? sum : std::fma(o.beta, y, sum);  // y is not read for 0
      }
}

}  // namespace

cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  const cudnnStatus_t answer = answers_now().create;
  return answer == CUDNN_STATUS_SUCCESS ? create(handle) : answer;
}
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) { return destroy(handle); }
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  if (!alive(handle)) return CUDNN_STATUS_BAD_PARAM;
  handle->stream = stream;
  return CUDNN_STATUS_SUCCESS;
}

const char* cudnnGetErrorString(cudnnStatus_t status) {
#define WHENCE_NAME(name) \
  case name:              \
    return #name
  switch (status) {
    WHENCE_NAME(CUDNN_STATUS_SUCCESS);
    WHENCE_NAME(CUDNN_STATUS_NOT_INITIALIZED);
    WHENCE_NAME(CUDNN_STATUS_BAD_PARAM);
    WHENCE_NAME(CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER);
    WHENCE_NAME(CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT);
    WHENCE_NAME(CUDNN_STATUS_NOT_SUPPORTED);
    WHENCE_NAME(CUDNN_STATUS_INTERNAL_ERROR);
    WHENCE_NAME(CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED);
    WHENCE_NAME(CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED);
    WHENCE_NAME(CUDNN_STATUS_EXECUTION_FAILED);
  }
#undef WHENCE_NAME
  return "an unknown status";
}

cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t* d) { return create(d); }
cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t d) { return destroy(d); }
cudnnStatus_t cudnnSetTensor4dDescriptor(cudnnTensorDescriptor_t d, cudnnTensorFormat_t format,
                                         cudnnDataType_t type, int n, int c, int h, int w) {
  if (!alive(d) || n <= 0 || c <= 0 || h <= 0 || w <= 0 || !known(format) || !known(type))
    return CUDNN_STATUS_BAD_PARAM;
  const cudnnTensorStruct next{format, type, n, c, h, w};
  if (int64_t(h) * w >= max_elements / c || next.count() >= max_elements)
    return CUDNN_STATUS_NOT_SUPPORTED;
  *d = next;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t* d) { return create(d); }
cudnnStatus_t cudnnDestroyFilterDescriptor(cudnnFilterDescriptor_t d) { return destroy(d); }
cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t d, cudnnDataType_t type,
                                         cudnnTensorFormat_t format, int k, int c, int h, int w) {
  if (!alive(d) || k <= 0 || c <= 0 || h <= 0 || w <= 0 || !known(format) || !known(type))
    return CUDNN_STATUS_BAD_PARAM;
  *d = {format, type, k, c, h, w};
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t* d) {
  if (const auto status = answers_now().describe) return status;
  return create(d);
}
cudnnStatus_t cudnnDestroyConvolutionDescriptor(cudnnConvolutionDescriptor_t d) {
  return destroy(d);
}
cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t d, int pad_h, int pad_w,
                                              int stride_h, int stride_w, int dilation_h,
                                              int dilation_w, cudnnConvolutionMode_t mode,
                                              cudnnDataType_t type) {
  if (!alive(d) || pad_h < 0 || pad_w < 0 || stride_h <= 0 || stride_w <= 0 || dilation_h <= 0 ||
      dilation_w <= 0 || (mode != CUDNN_CONVOLUTION && mode != CUDNN_CROSS_CORRELATION) ||
      !known(type))
    return CUDNN_STATUS_BAD_PARAM;
  const int groups = d->groups;
  const cudnnMathType_t math = d->math;
  *d = {pad_h, pad_w, stride_h, stride_w, dilation_h, dilation_w, mode, type, groups, math};
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetConvolutionGroupCount(cudnnConvolutionDescriptor_t d, int groups) {
  if (!alive(d) || groups <= 0) return CUDNN_STATUS_BAD_PARAM;
  d->groups = groups;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t d, cudnnMathType_t math) {
  if (!alive(d) || math < CUDNN_DEFAULT_MATH || math > CUDNN_FMA_MATH)
    return CUDNN_STATUS_BAD_PARAM;
  d->math = math;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(
    cudnnHandle_t handle, cudnnTensorDescriptor_t x, cudnnFilterDescriptor_t w,
    cudnnConvolutionDescriptor_t convolution, cudnnTensorDescriptor_t y,
    cudnnConvolutionFwdAlgo_t algo, size_t* bytes) {
  if (!bytes) return CUDNN_STATUS_BAD_PARAM;
  Problem p;
  if (const auto status = check(handle, x, w, convolution, y, algo, p)) return status;
  if (const auto status = answers_now().workspace) return status;
  *bytes = p.workspace();
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t handle, const void* alpha,
                                      cudnnTensorDescriptor_t x_descriptor, const void* x,
                                      cudnnFilterDescriptor_t w_descriptor, const void* w,
                                      cudnnConvolutionDescriptor_t convolution,
                                      cudnnConvolutionFwdAlgo_t algo, void* workspace,
                                      size_t workspace_bytes, const void* beta,
                                      cudnnTensorDescriptor_t y_descriptor, void* y) {
  Problem p;
  if (const auto status =
          check(handle, x_descriptor, w_descriptor, convolution, y_descriptor, algo, p))
    return status;
  if (!alpha || !beta) return CUDNN_STATUS_BAD_PARAM;
  if (const auto status = check_memory(p, x, w, workspace, workspace_bytes, y)) return status;
  // Without a stream of its own a handle uses the default one, which nothing here waits for.
  if (!handle->stream) return CUDNN_STATUS_BAD_PARAM;
  if (const auto status = answers_now().forward) return status;
  if (algo == CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM)
    if (const auto status = answers_now().precomputed) return status;
  const Operands o{static_cast<const float*>(x), static_cast<const float*>(w),
                   static_cast<float*>(y), *static_cast<const float*>(alpha),
                   *static_cast<const float*>(beta)};
  handle->stream->launch({"cudnnConvolutionForward", {p.x.n}, {32}, 0},
                         [p, o, workspace, workspace_bytes] {
                           if (threadIdx.x != 0) return;
                           // Nothing may be expected in the workspace afterwards.
                           if (blockIdx.x == 0) std::memset(workspace, 0xff, workspace_bytes);
                           convolve_image(p, o, int(blockIdx.x));
                         });
  ++done;
  return CUDNN_STATUS_SUCCESS;
}

void answer(const Answers& next) {
  const std::lock_guard lock(mutex);
  answers = next;
}
size_t live_objects() {
  const std::lock_guard lock(mutex);
  return live().size();
}
size_t convolutions() { return done; }

}  // namespace whence::simt::dnn
