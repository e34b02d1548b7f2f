// What library_conv.cu uses of cuDNN, declared for the emulated device under the library's own
// names (NVIDIA's documentation of cuDNN 9). There is no library here: tests install a double of
// it.
#pragma once

#include <cstddef>

#include "kernels/simt/stream.h"

namespace whence::simt::dnn {

enum cudnnStatus_t {
  CUDNN_STATUS_SUCCESS = 0,
  CUDNN_STATUS_NOT_INITIALIZED = 1001,
  CUDNN_STATUS_BAD_PARAM = 2000,
  CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER = 2003,
  CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT = 2006,
  CUDNN_STATUS_NOT_SUPPORTED = 3000,
  CUDNN_STATUS_INTERNAL_ERROR = 4000,
  CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED = 4003,
  CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED = 4004,
  CUDNN_STATUS_EXECUTION_FAILED = 5000,
};
// The thousands of a status say what kind it is.
#define CUDNN_STATUS_CATEGORY(full_error_code) ((full_error_code) / 1000 * 1000)

enum cudnnDataType_t { CUDNN_DATA_FLOAT = 0, CUDNN_DATA_BFLOAT16 = 9 };
enum cudnnTensorFormat_t { CUDNN_TENSOR_NCHW = 0, CUDNN_TENSOR_NHWC = 1 };
enum cudnnConvolutionMode_t { CUDNN_CONVOLUTION = 0, CUDNN_CROSS_CORRELATION = 1 };
enum cudnnMathType_t {
  CUDNN_DEFAULT_MATH = 0,
  CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION = 2,
  CUDNN_FMA_MATH = 3,
};
enum cudnnConvolutionFwdAlgo_t {
  CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM = 0,
  CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM = 1,
  CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD = 6,
};

using cudnnHandle_t = struct cudnnContext*;
using cudnnTensorDescriptor_t = struct cudnnTensorStruct*;
using cudnnFilterDescriptor_t = struct cudnnFilterStruct*;
using cudnnConvolutionDescriptor_t = struct cudnnConvolutionStruct*;
using cudaStream_t = Stream*;

struct Functions {
  cudnnStatus_t (*cudnnCreate)(cudnnHandle_t*);
  cudnnStatus_t (*cudnnDestroy)(cudnnHandle_t);
  cudnnStatus_t (*cudnnSetStream)(cudnnHandle_t, cudaStream_t);
  const char* (*cudnnGetErrorString)(cudnnStatus_t);
  cudnnStatus_t (*cudnnCreateTensorDescriptor)(cudnnTensorDescriptor_t*);
  cudnnStatus_t (*cudnnDestroyTensorDescriptor)(cudnnTensorDescriptor_t);
  cudnnStatus_t (*cudnnSetTensor4dDescriptor)(cudnnTensorDescriptor_t, cudnnTensorFormat_t,
                                              cudnnDataType_t, int n, int c, int h, int w);
  cudnnStatus_t (*cudnnCreateFilterDescriptor)(cudnnFilterDescriptor_t*);
  cudnnStatus_t (*cudnnDestroyFilterDescriptor)(cudnnFilterDescriptor_t);
  cudnnStatus_t (*cudnnSetFilter4dDescriptor)(cudnnFilterDescriptor_t, cudnnDataType_t,
                                              cudnnTensorFormat_t, int k, int c, int h, int w);
  cudnnStatus_t (*cudnnCreateConvolutionDescriptor)(cudnnConvolutionDescriptor_t*);
  cudnnStatus_t (*cudnnDestroyConvolutionDescriptor)(cudnnConvolutionDescriptor_t);
  cudnnStatus_t (*cudnnSetConvolution2dDescriptor)(cudnnConvolutionDescriptor_t, int pad_h,
                                                   int pad_w, int stride_h, int stride_w,
                                                   int dilation_h, int dilation_w,
                                                   cudnnConvolutionMode_t, cudnnDataType_t);
  cudnnStatus_t (*cudnnSetConvolutionGroupCount)(cudnnConvolutionDescriptor_t, int groups);
  cudnnStatus_t (*cudnnSetConvolutionMathType)(cudnnConvolutionDescriptor_t, cudnnMathType_t);
  cudnnStatus_t (*cudnnGetConvolutionForwardWorkspaceSize)(cudnnHandle_t, cudnnTensorDescriptor_t x,
                                                           cudnnFilterDescriptor_t w,
                                                           cudnnConvolutionDescriptor_t,
                                                           cudnnTensorDescriptor_t y,
                                                           cudnnConvolutionFwdAlgo_t,
                                                           size_t* bytes);
  // y = alpha convolution(x, w) + beta y, queued on the handle's stream.
  cudnnStatus_t (*cudnnConvolutionForward)(cudnnHandle_t, const void* alpha,
                                           cudnnTensorDescriptor_t, const void* x,
                                           cudnnFilterDescriptor_t, const void* w,
                                           cudnnConvolutionDescriptor_t, cudnnConvolutionFwdAlgo_t,
                                           void* workspace, size_t workspace_bytes,
                                           const void* beta, cudnnTensorDescriptor_t, void* y);
};

// Null: there is none. To be set while nothing runs.
inline const Functions* installed = nullptr;

// What kernels/cuda/cudnn.h has as well.
inline bool available() { return installed != nullptr; }
inline const Functions& functions() { return *installed; }
inline cudaStream_t native(Stream& s, const char*) { return &s; }
inline void expect_alive(Stream&, const char*) {}

}  // namespace whence::simt::dnn
