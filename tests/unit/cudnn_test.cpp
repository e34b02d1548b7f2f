// The double of cuDNN: what it computes, and what it refuses. What the double lets pass, no test of
// the calling code can find.
#if defined(WHENCE_HAVE_SIMT)
#include "tests/twins/cudnn.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <functional>
#include <vector>

namespace whence {
namespace {

using namespace twins::dnn;

// A convolution with everything in order, and memory of the stream's device for it.
struct Call {
  Installed library;
  simt::Stream stream;
  cudnnHandle_t handle{};
  cudnnTensorDescriptor_t x{}, y{};
  cudnnFilterDescriptor_t w{};
  cudnnConvolutionDescriptor_t z{};
  cudnnConvolutionFwdAlgo_t algo = CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
  float alpha = 1, beta = 0;
  const void *alpha_at = &alpha, *beta_at = &beta;
  std::shared_ptr<void> memory = simt::Stream::allocate(4096);
  char *x_at = static_cast<char*>(memory.get()), *w_at = x_at + 1024, *y_at = x_at + 2048,
       *workspace = x_at + 3072;
  size_t workspace_bytes = 1024;

  // 2 images of 3 x 4 pixels, 4 to 6 channels in 2 groups, 2 x 3 taps: 2 x 3 x 2 x 6 results.
  Call() {
    functions().cudnnCreate(&handle);
    functions().cudnnSetStream(handle, &stream);
    functions().cudnnCreateTensorDescriptor(&x);
    functions().cudnnCreateTensorDescriptor(&y);
    functions().cudnnCreateFilterDescriptor(&w);
    functions().cudnnCreateConvolutionDescriptor(&z);
    functions().cudnnSetTensor4dDescriptor(x, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, 2, 4, 3, 4);
    functions().cudnnSetTensor4dDescriptor(y, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, 2, 6, 4, 2);
    functions().cudnnSetFilter4dDescriptor(w, CUDNN_DATA_FLOAT, CUDNN_TENSOR_NHWC, 6, 2, 2, 3);
    functions().cudnnSetConvolution2dDescriptor(z, 1, 0, 1, 1, 1, 1, CUDNN_CROSS_CORRELATION,
                                                CUDNN_DATA_FLOAT);
    functions().cudnnSetConvolutionGroupCount(z, 2);
    functions().cudnnSetConvolutionMathType(z, CUDNN_FMA_MATH);
  }
  ~Call() {
    functions().cudnnDestroy(handle);
    functions().cudnnDestroyTensorDescriptor(x);
    functions().cudnnDestroyTensorDescriptor(y);
    functions().cudnnDestroyFilterDescriptor(w);
    functions().cudnnDestroyConvolutionDescriptor(z);
  }
  cudnnStatus_t run() {
    return functions().cudnnConvolutionForward(handle, alpha_at, x, x_at, w, w_at, z, algo,
                                               workspace, workspace_bytes, beta_at, y, y_at);
  }
  cudnnStatus_t ask(size_t* bytes) {
    return functions().cudnnGetConvolutionForwardWorkspaceSize(handle, x, w, z, y, algo, bytes);
  }
};

struct Wrong {
  const char* what;
  std::function<void(Call&)> spoil;
  cudnnStatus_t status;
  bool in_workspace_size_too = true;  // or only where there is memory
};

void set_x(Call& c, cudnnTensorFormat_t format, cudnnDataType_t type, std::array<int, 4> sides) {
  functions().cudnnSetTensor4dDescriptor(c.x, format, type, sides[0], sides[1], sides[2], sides[3]);
}
void set_y(Call& c, std::array<int, 4> sides) {
  functions().cudnnSetTensor4dDescriptor(c.y, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, sides[0],
                                         sides[1], sides[2], sides[3]);
}

std::vector<Wrong> wrong_descriptions() {
  const auto nhwc = CUDNN_TENSOR_NHWC;
  const auto f32 = CUDNN_DATA_FLOAT;
  const auto bad = CUDNN_STATUS_BAD_PARAM, no = CUDNN_STATUS_NOT_SUPPORTED;
  return {
      {"no handle", [](Call& c) { functions().cudnnDestroy(c.handle), c.handle = nullptr; }, bad},
      {"a destroyed handle", [](Call& c) { functions().cudnnDestroy(c.handle); }, bad},
      {"a destroyed tensor", [](Call& c) { functions().cudnnDestroyTensorDescriptor(c.y); }, bad},
      {"a destroyed filter", [](Call& c) { functions().cudnnDestroyFilterDescriptor(c.w); }, bad},
      {"a destroyed convolution",
       [](Call& c) { functions().cudnnDestroyConvolutionDescriptor(c.z); }, bad},
      {"a tensor that was never set",
       [](Call& c) {
         functions().cudnnDestroyTensorDescriptor(c.x);
         functions().cudnnCreateTensorDescriptor(&c.x);
       },
       bad},
      {"other channels",
       [=](Call& c) {
         set_x(c, nhwc, f32, {2, 6, 3, 4});
       },
       bad},
      {"another batch",
       [=](Call& c) {
         set_x(c, nhwc, f32, {3, 4, 3, 4});
       },
       bad},
      {"another type",
       [=](Call& c) {
         set_x(c, nhwc, CUDNN_DATA_BFLOAT16, {2, 4, 3, 4});
       },
       bad},
      {"another height",
       [](Call& c) {
         set_y(c, {2, 6, 3, 2});
       },
       bad},
      {"another width",
       [](Call& c) {
         set_y(c, {2, 6, 4, 3});
       },
       bad},
      {"other outputs",
       [](Call& c) {
         set_y(c, {2, 5, 4, 2});
       },
       bad},
      {"groups that do not divide the channels",
       [](Call& c) { functions().cudnnSetConvolutionGroupCount(c.z, 3); }, bad},
      {"groups that do not divide the outputs",
       [](Call& c) {
         functions().cudnnSetFilter4dDescriptor(c.w, CUDNN_DATA_FLOAT, CUDNN_TENSOR_NHWC, 6, 1, 2,
                                                3);
         functions().cudnnSetConvolutionGroupCount(c.z, 4);
       },
       bad},
      {"channels first",
       [=](Call& c) {
         set_x(c, CUDNN_TENSOR_NCHW, f32, {2, 4, 3, 4});
       },
       no},
      {"a filter with channels first",
       [=](Call& c) {
         functions().cudnnSetFilter4dDescriptor(c.w, f32, CUDNN_TENSOR_NCHW, 6, 2, 2, 3);
       },
       no},
      {"flipped taps",
       [=](Call& c) {
         functions().cudnnSetConvolution2dDescriptor(c.z, 1, 0, 1, 1, 1, 1, CUDNN_CONVOLUTION, f32);
       },
       no},
      {"another way to multiply",
       [](Call& c) {
         functions().cudnnSetConvolutionMathType(c.z, CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION);
       },
       no},
      {"an inexact algorithm", [](Call& c) { c.algo = CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD; }, no},
      {"dilation",
       [=](Call& c) {
         functions().cudnnSetConvolution2dDescriptor(c.z, 1, 0, 1, 1, 2, 1, CUDNN_CROSS_CORRELATION,
                                                     f32);
         set_y(c, {2, 6, 3, 2});
       },
       no},
  };
}

std::vector<Wrong> wrong_memory() {
  const auto bad = CUDNN_STATUS_BAD_PARAM;
  const auto misaligned = CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER;
  return {
      {"no stream", [](Call& c) { functions().cudnnSetStream(c.handle, nullptr); }, bad, false},
      {"no alpha", [](Call& c) { c.alpha_at = nullptr; }, bad, false},
      {"no beta", [](Call& c) { c.beta_at = nullptr; }, bad, false},
      {"no x", [](Call& c) { c.x_at = nullptr; }, bad, false},
      {"no w", [](Call& c) { c.w_at = nullptr; }, bad, false},
      {"no y", [](Call& c) { c.y_at = nullptr; }, bad, false},
      {"no workspace", [](Call& c) { c.workspace = nullptr; }, bad, false},
      {"a small workspace", [](Call& c) { c.workspace_bytes = 300; },
       CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT, false},
      {"x not aligned", [](Call& c) { c.x_at += 4; }, misaligned, false},
      {"w not aligned", [](Call& c) { c.w_at += 4; }, misaligned, false},
      {"y not aligned", [](Call& c) { c.y_at += 4; }, misaligned, false},
      {"workspace not aligned", [](Call& c) { c.workspace += 4; }, misaligned, false},
      {"y is x", [](Call& c) { c.y_at = c.x_at; }, bad, false},
      {"y in w", [](Call& c) { c.y_at = c.w_at + 16; }, bad, false},
      {"workspace in y", [](Call& c) { c.workspace = c.y_at + 16; }, bad, false},
      {"workspace in w", [](Call& c) { c.workspace = c.w_at - 16; }, bad, false},
  };
}

TEST(CudnnTwin, refuses_wrong_calls) {
  const size_t before = live_objects(), done = convolutions();
  for (const auto& table : {wrong_descriptions(), wrong_memory()})
    for (const Wrong& row : table) {
      Call c;
      size_t bytes = 0;
      EXPECT_EQ(c.ask(&bytes), CUDNN_STATUS_SUCCESS);
      row.spoil(c);
      EXPECT_EQ(c.run(), row.status) << row.what;
      EXPECT_EQ(c.ask(&bytes), row.in_workspace_size_too ? row.status : CUDNN_STATUS_SUCCESS)
          << row.what;
    }
  EXPECT_EQ(convolutions(), done);
  EXPECT_EQ(live_objects(), before);
  EXPECT_EQ(Call().ask(nullptr), CUDNN_STATUS_BAD_PARAM);
}

TEST(CudnnTwin, refuses_wrong_descriptions) {
  Call c;
  const auto& f = functions();
  const auto nhwc = CUDNN_TENSOR_NHWC;
  const auto f32 = CUDNN_DATA_FLOAT;
  const auto cross = CUDNN_CROSS_CORRELATION;
  const auto bad = CUDNN_STATUS_BAD_PARAM;
  EXPECT_EQ(f.cudnnSetTensor4dDescriptor(nullptr, nhwc, f32, 2, 3, 4, 5), bad);
  EXPECT_EQ(f.cudnnSetTensor4dDescriptor(c.x, nhwc, f32, 2, -3, 4, 5), bad);
  EXPECT_EQ(f.cudnnSetFilter4dDescriptor(c.w, f32, nhwc, 6, 0, 2, 3), bad);
  EXPECT_EQ(f.cudnnSetConvolution2dDescriptor(c.z, -1, 1, 1, 1, 1, 1, cross, f32), bad);
  EXPECT_EQ(f.cudnnSetConvolution2dDescriptor(c.z, 1, 1, 1, 1, 1, 0, cross, f32), bad);
  EXPECT_EQ(f.cudnnSetConvolutionGroupCount(c.z, 0), bad);
  EXPECT_EQ(f.cudnnCreateTensorDescriptor(nullptr), bad);
  EXPECT_EQ(f.cudnnDestroy(nullptr), bad);
  // What was refused has changed nothing.
  EXPECT_EQ(c.run(), CUDNN_STATUS_SUCCESS);
  c.stream.synchronize();
}

// Ones everywhere count the taps inside the image: 2 channels of a group, 3 taps across, and 1 or 2
// of the taps down.
TEST(CudnnTwin, scales_adds_and_leaves_nothing_in_the_workspace) {
  Call c;
  std::vector<float> ones(256, 1), y(96), workspace(256, 1);
  c.stream.copy_in(c.x_at, ones.data(), 1024);
  c.stream.copy_in(c.w_at, ones.data(), 1024);
  c.stream.copy_in(c.workspace, ones.data(), 1024);
  c.alpha = 2;  // with beta 0, y may be anything: it is NaN
  EXPECT_EQ(c.run(), CUDNN_STATUS_SUCCESS);
  c.alpha = 1, c.beta = 0.5f;
  EXPECT_EQ(c.run(), CUDNN_STATUS_SUCCESS);
  c.stream.copy_out(y.data(), c.y_at, 384);
  c.stream.copy_out(workspace.data(), c.workspace, 1024);
  EXPECT_EQ(y[0], 0) << "queued, not done";
  c.stream.synchronize();
  for (size_t i = 0; i < y.size(); ++i) {
    const size_t row = i / 12 % 4;
    EXPECT_EQ(y[i], 2 * (row == 0 || row == 3 ? 6 : 12)) << i;
  }
  for (const float v : workspace) EXPECT_TRUE(std::isnan(v));
}

TEST(CudnnTwin, rounds_factors_for_tensor_cores) {
  Call c;
  const std::vector<float> fine(256, 1 + 0x1p-11f + 0x1p-13f), ones(256, 1);
  for (const auto& [math, want] :
       {std::pair(CUDNN_FMA_MATH, 6 * fine[0]), {CUDNN_DEFAULT_MATH, 6 * (1 + 0x1p-10f)}}) {
    functions().cudnnSetConvolutionMathType(c.z, math);
    float y = 0;
    c.stream.copy_in(c.x_at, ones.data(), 1024);
    c.stream.copy_in(c.w_at, fine.data(), 1024);
    EXPECT_EQ(c.run(), CUDNN_STATUS_SUCCESS);
    c.stream.copy_out(&y, c.y_at, sizeof(y));
    c.stream.synchronize();
    EXPECT_NEAR(y, want, 1e-6);
  }
}

}  // namespace
}  // namespace whence

#endif
