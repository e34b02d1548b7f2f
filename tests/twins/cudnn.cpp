#ifdef WHENCE_HAVE_SIMT
#include "tests/twins/cudnn.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/cuda/ptx.cuh"
#include "tests/twins/objects.h"

namespace whence::simt::dnn {

struct cudnnContext {
  Stream* stream = nullptr;
};
// Sides are 0 until a descriptor is set.
struct cudnnTensorStruct {
  cudnnTensorFormat_t format{};
  cudnnDataType_t type{};
  int n = 0, c = 0, h = 0, w = 0;
  size_t bytes() const { return size_t(n) * size_t(c) * size_t(h) * size_t(w) * sizeof(float); }
};
struct cudnnFilterStruct : cudnnTensorStruct {};  // n outputs, c channels of a group
struct cudnnConvolutionStruct {
  int pad_h = 0, pad_w = 0, stride_h = 0, stride_w = 0, dilation_h = 0, dilation_w = 0;
  cudnnConvolutionMode_t mode{};
  cudnnDataType_t type{};
  int groups = 1;
  cudnnMathType_t math = CUDNN_DEFAULT_MATH;
};

}  // namespace whence::simt::dnn

namespace whence::twins::dnn {
namespace {

constexpr auto success = CUDNN_STATUS_SUCCESS, bad = CUDNN_STATUS_BAD_PARAM,
               unsupported = CUDNN_STATUS_NOT_SUPPORTED;

struct State {
  Objects objects;
  Answers answers;  // changed while nothing runs
  std::atomic<size_t> done{0};
};
State& state() {
  static State& all = *new State;  // streams in static objects may outlive others
  return all;
}

// All that a convolution needs to know, by value: descriptors may be gone when it runs.
struct Problem {
  cudnnTensorStruct x, y;
  cudnnFilterStruct w;
  cudnnConvolutionStruct z;
  // More than what is of use, so that nobody relies on none being needed.
  size_t workspace() const { return 300 + size_t(w.h) * size_t(w.w) * sizeof(int); }
};

int outputs(int size, int pad, int stride, int dilation, int taps) {
  const int64_t room = int64_t(size) + 2 * int64_t(pad) - int64_t(dilation) * (taps - 1) - 1;
  return room < 0 ? 0 : int(room / stride + 1);
}

// The problem that the descriptors make up.
cudnnStatus_t understand(cudnnHandle_t handle, cudnnTensorDescriptor_t x, cudnnFilterDescriptor_t w,
                         cudnnConvolutionDescriptor_t convolution, cudnnTensorDescriptor_t y,
                         cudnnConvolutionFwdAlgo_t algo, Problem& p) {
  if (!state().objects.live(handle, x, w, convolution, y)) return bad;
  p = {*x, *y, *w, *convolution};
  const cudnnConvolutionStruct& z = p.z;
  if (p.x.n == 0 || p.y.n == 0 || p.w.n == 0 || z.stride_h == 0) return bad;
  if (p.x.type != p.w.type || p.x.type != p.y.type) return bad;
  if (p.x.c != p.w.c * z.groups || p.w.n % z.groups != 0) return bad;
  if (p.y.n != p.x.n || p.y.c != p.w.n ||
      p.y.h != outputs(p.x.h, z.pad_h, z.stride_h, z.dilation_h, p.w.h) ||
      p.y.w != outputs(p.x.w, z.pad_w, z.stride_w, z.dilation_w, p.w.w))
    return bad;
  for (const cudnnTensorFormat_t f : {p.x.format, p.y.format, p.w.format})
    if (f != CUDNN_TENSOR_NHWC) return unsupported;
  if (p.x.type != CUDNN_DATA_FLOAT || z.type != CUDNN_DATA_FLOAT) return unsupported;
  if (z.mode != CUDNN_CROSS_CORRELATION) return unsupported;
  // What the others would do to f32 is the library's choice, and not what whence wants.
  if (z.math != CUDNN_FMA_MATH && z.math != CUDNN_DEFAULT_MATH) return unsupported;
  const bool dilated = z.dilation_h != 1 || z.dilation_w != 1;
  if (algo == CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM ||
      (algo == CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM && !dilated))
    return success;
  return unsupported;
}

cudnnStatus_t check_memory(const Problem& p, const void* x, const void* w, const void* workspace,
                           size_t workspace_bytes, const void* y) {
  const Memory all[] = {
      {y, p.y.bytes()}, {workspace, p.workspace()}, {x, p.x.bytes()}, {w, p.w.bytes()}};
  for (const Memory& each : all) {
    if (each.begin == 0) return bad;
    if (!each.aligned(16)) return CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER;
  }
  if (workspace_bytes < p.workspace()) return CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT;
  for (int written : {0, 1})
    for (int other = written + 1; other < 4; ++other)
      if (all[written].meets(all[other])) return bad;
  return success;
}

// Sums are chains of fused multiply-adds in f32; under CUDNN_DEFAULT_MATH of factors in tf32.
struct Convolution {
  Problem p;
  const float *x, *w;
  float* y;
  float alpha, beta;
  void* workspace;
  size_t workspace_bytes;

  // A block's first thread computes an image.
  void operator()() const {
    if (simt::threadIdx.x != 0) return;
    const int n = int(simt::blockIdx.x);
    // Nothing may be expected in the workspace afterwards.
    if (n == 0) std::memset(workspace, 0xff, workspace_bytes);
    for (int h = 0; h < p.y.h; ++h)
      for (int v = 0; v < p.y.w; ++v)
        for (int k = 0; k < p.y.c; ++k) {
          float& to = y[((n * int64_t(p.y.h) + h) * p.y.w + v) * p.y.c + k];
          const float sum = alpha * sum_of(n, h, v, k);
          to = beta == 0 ? sum : std::fma(beta, to, sum);  // y is not read for 0
        }
  }
  float sum_of(int n, int h, int v, int k) const {
    const int group = k / (p.y.c / p.z.groups);
    float sum = 0;
    for (int i = 0; i < p.w.h; ++i)
      for (int j = 0; j < p.w.w; ++j) {
        const int64_t row = int64_t(h) * p.z.stride_h - p.z.pad_h + int64_t(i) * p.z.dilation_h;
        const int64_t col = int64_t(v) * p.z.stride_w - p.z.pad_w + int64_t(j) * p.z.dilation_w;
        if (row < 0 || row >= p.x.h || col < 0 || col >= p.x.w) continue;
        const float* pixel = x + ((n * int64_t(p.x.h) + row) * p.x.w + col) * p.x.c + group * p.w.c;
        const float* tap = w + ((k * int64_t(p.w.h) + i) * p.w.w + j) * p.w.c;
        for (int c = 0; c < p.w.c; ++c) sum = std::fma(factor(pixel[c]), factor(tap[c]), sum);
      }
    return sum;
  }
  float factor(float value) const {
    return p.z.math == CUDNN_DEFAULT_MATH ? simt::float_of(simt::to_tf32(value)) : value;
  }
};

// --- the library's functions ---

template <class T>
cudnnStatus_t create(T** handle) {
  return state().objects.create(handle) ? success : bad;
}
template <class T>
cudnnStatus_t destroy(T* handle) {
  return state().objects.destroy(handle) ? success : bad;
}

cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  const cudnnStatus_t answer = state().answers.create;
  return answer == success ? create(handle) : answer;
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  if (!state().objects.live(handle)) return bad;
  handle->stream = stream;
  return success;
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

cudnnStatus_t set_sides(cudnnTensorStruct* d, const cudnnTensorStruct& next) {
  if (!state().objects.live(d) || std::min({next.n, next.c, next.h, next.w}) <= 0) return bad;
  *d = next;
  return success;
}
cudnnStatus_t cudnnSetTensor4dDescriptor(cudnnTensorDescriptor_t d, cudnnTensorFormat_t format,
                                         cudnnDataType_t type, int n, int c, int h, int w) {
  return set_sides(d, {format, type, n, c, h, w});
}
cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t d, cudnnDataType_t type,
                                         cudnnTensorFormat_t format, int k, int c, int h, int w) {
  return set_sides(d, {format, type, k, c, h, w});
}

cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t* d) {
  const cudnnStatus_t answer = state().answers.describe;
  return answer == success ? create(d) : answer;
}
cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t d, int pad_h, int pad_w,
                                              int stride_h, int stride_w, int dilation_h,
                                              int dilation_w, cudnnConvolutionMode_t mode,
                                              cudnnDataType_t type) {
  if (!state().objects.live(d) || std::min(pad_h, pad_w) < 0 ||
      std::min({stride_h, stride_w, dilation_h, dilation_w}) <= 0)
    return bad;
  *d = {pad_h, pad_w, stride_h, stride_w, dilation_h, dilation_w, mode, type, d->groups, d->math};
  return success;
}
cudnnStatus_t cudnnSetConvolutionGroupCount(cudnnConvolutionDescriptor_t d, int groups) {
  if (!state().objects.live(d) || groups <= 0) return bad;
  d->groups = groups;
  return success;
}
cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t d, cudnnMathType_t math) {
  if (!state().objects.live(d)) return bad;
  d->math = math;
  return success;
}

cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(
    cudnnHandle_t handle, cudnnTensorDescriptor_t x, cudnnFilterDescriptor_t w,
    cudnnConvolutionDescriptor_t convolution, cudnnTensorDescriptor_t y,
    cudnnConvolutionFwdAlgo_t algo, size_t* bytes) {
  Problem p;
  if (const auto status = understand(handle, x, w, convolution, y, algo, p)) return status;
  if (const auto status = state().answers.workspace) return status;
  if (!bytes) return bad;
  *bytes = p.workspace();
  return success;
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
          understand(handle, x_descriptor, w_descriptor, convolution, y_descriptor, algo, p))
    return status;
  // Without a stream of its own a handle uses the default one, which nothing here waits for.
  if (!alpha || !beta || !handle->stream) return bad;
  if (const auto status = check_memory(p, x, w, workspace, workspace_bytes, y)) return status;
  if (const auto status = state().answers.forward) return status;
  if (algo == CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM)
    if (const auto status = state().answers.precomputed) return status;
  handle->stream->launch({"cudnnConvolutionForward", {p.x.n}, {32}, 0},
                         Convolution{p, static_cast<const float*>(x), static_cast<const float*>(w),
                                     static_cast<float*>(y), *static_cast<const float*>(alpha),
                                     *static_cast<const float*>(beta), workspace, workspace_bytes});
  ++state().done;
  return success;
}

constexpr Functions functions{cudnnCreate,
                              destroy,
                              cudnnSetStream,
                              cudnnGetErrorString,
                              create,
                              destroy,
                              cudnnSetTensor4dDescriptor,
                              create,
                              destroy,
                              cudnnSetFilter4dDescriptor,
                              cudnnCreateConvolutionDescriptor,
                              destroy,
                              cudnnSetConvolution2dDescriptor,
                              cudnnSetConvolutionGroupCount,
                              cudnnSetConvolutionMathType,
                              cudnnGetConvolutionForwardWorkspaceSize,
                              cudnnConvolutionForward};

}  // namespace

Installed::Installed() { installed = &functions; }
Installed::~Installed() { installed = nullptr; }

void answer(const Answers& answers) { state().answers = answers; }
size_t live_objects() { return state().objects.count(); }
size_t convolutions() { return state().done; }

}  // namespace whence::twins::dnn
#endif
