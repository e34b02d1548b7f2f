// Convolutions by cuDNN, in both directions, for the gathers of conv.h.
//
// A gather is a forward convolution also where it is a phase of a backward one, and its packed
// weights are the library's filter [to][taps down][taps across][from] of every group: so weights
// are packed alike for the library and for the kernels of conv.cu, and either can do any call. The
// library's own backward convolution reads other weights, and plans for images of several sizes
// share what was packed: it would have to support either all sizes or none.
//
// Bits must not depend on the batch, but the library chooses kernels by the size it is asked for.
// So it is always asked for the same: `images` images, in as many calls as it takes, the last one
// with zeros behind the batch. A call is about one wave of tiles on a large device, so that what is
// computed in vain runs where nothing would. For the same reason it gets aligned memory always.
// That an image has the same bits in every place of a call is what is expected of tiled products
// that do not split their sums, and no documentation promises it: the tests that explain a batch in
// chunks of several sizes assert it on a GPU.
//
// Only the implicit products are used. They multiply every factor with its weight and add, so zeros
// stay zeros and NaNs stay where they are; Winograd and Fourier transforms do not, and are less
// accurate. f32 asks for multiply-adds of f32, tf32 for the library's default, which is tf32 where
// tensors are f32. bf16 stays with the own kernels, in f32: the library's convolutions of bf16 give
// bf16. Depthwise convolutions do too: they are bound by memory, and depthwise_kernel reads and
// writes every element once.
//
// The library leaves its sums in scratch memory, at most 2^21 of them unless an image has more: L2
// holds them for finish_images_kernel. There a thread owns an element of the result, neighbours are
// channels. Bytes: sums and residual in, result out. Bound by memory; in stage_images_kernel too.
#include "kernels/cuda/epilogue.cuh"
#include "kernels/cuda/library_conv.cuh"

#ifdef __CUDACC__
#include "kernels/cuda/cudnn.h"
#else
#include "kernels/simt/cudnn.h"
#define WHENCE_HAVE_CUDNN
#endif

#ifndef WHENCE_F64

#include <algorithm>
#include <climits>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <type_traits>

#include "kernels/device_error.h"

namespace whence::k {
namespace {

constexpr int threads = 256;

__global__ void __launch_bounds__(threads)
    stage_images_kernel(const real* source, int64_t count, int64_t room, real* staged) {
  const int64_t i = int64_t(blockIdx.x) * threads + threadIdx.x;
  if (i < room) staged[i] = i < count ? source[i] : real(0);
}

__global__ void __launch_bounds__(threads)
    finish_images_kernel(Gather g, const real* sums, Along down, Along across, Epilogue epilogue,
                         real* result) {
  const int64_t i = int64_t(blockIdx.x) * threads + threadIdx.x, channels = g.groups * g.to;
  if (i >= g.rows() * channels) return;
  // 32 bits hold the number of elements, and divide several times as fast as 64.
  const uint32_t row = uint32_t(i) / uint32_t(channels), line = row / uint32_t(g.across.count);
  const int64_t channel = i - row * channels, v = row - line * g.across.count;
  const int64_t b = line / uint32_t(g.down.count), u = line - b * g.down.count;
  const int64_t h = u + down.shift, w = v + across.shift;
  const bool there = h >= 0 && h < down.count && w >= 0 && w < across.count;
  const real sum =
      there ? sums[((b * down.count + h) * across.count + w) * channels + channel] : real(0);
  const int64_t y = g.down.first + u * g.down.step, x = g.across.first + v * g.across.step;
  const int64_t at = ((b * g.result_height + y) * g.result_width + x) * channels + channel;
  result[at] = finished(epilogue, sum, channel, at);
}

#ifdef WHENCE_HAVE_CUDNN

namespace dnn = gpu::dnn;
using namespace gpu::dnn;

struct Destroy {
  void operator()(cudnnHandle_t p) const { functions().cudnnDestroy(p); }
  void operator()(cudnnTensorDescriptor_t p) const { functions().cudnnDestroyTensorDescriptor(p); }
  void operator()(cudnnFilterDescriptor_t p) const { functions().cudnnDestroyFilterDescriptor(p); }
  void operator()(cudnnConvolutionDescriptor_t p) const {
    functions().cudnnDestroyConvolutionDescriptor(p);
  }
};
template <class T>
using Owned = std::unique_ptr<std::remove_pointer_t<T>, Destroy>;

// What the library is asked for.
struct Ask {
  int64_t images, height, width, channels, outputs, groups;
  int64_t taps_down, taps_across, stride_down, stride_across, hop_down, hop_across;
  int64_t pad_down, pad_across, rows, cols;  // positions of the result
  bool tf32;
  auto operator<=>(const Ask&) const = default;
  int64_t image() const { return height * width * channels; }
  int64_t sums() const { return rows * cols * outputs; }
};
std::string text(const Ask& a) {
  std::string all = a.tf32 ? "tf32" : "f32";
  for (const auto& [name, value] : {std::pair("images", a.images),
                                    {"height", a.height},
                                    {"width", a.width},
                                    {"channels", a.channels},
                                    {"outputs", a.outputs},
                                    {"groups", a.groups},
                                    {"taps", a.taps_down},
                                    {"x", a.taps_across},
                                    {"stride", a.stride_down},
                                    {"x", a.stride_across},
                                    {"dilation", a.hop_down},
                                    {"x", a.hop_across},
                                    {"padding", a.pad_down},
                                    {"x", a.pad_across}})
    all += std::string(" ") + name + " " + std::to_string(value);
  return all;
}

// Answers that mean that the library cannot: it is incomplete, or does not support what was asked.
bool cannot(cudnnStatus_t status) {
  const int kind = CUDNN_STATUS_CATEGORY(int(status));
  return kind == CUDNN_STATUS_CATEGORY(int(CUDNN_STATUS_NOT_INITIALIZED)) ||
         kind == CUDNN_STATUS_CATEGORY(int(CUDNN_STATUS_NOT_SUPPORTED));
}
void expect(cudnnStatus_t status, gpu::Stream& s, const char* what, const Ask* ask = nullptr) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  dnn::expect_alive(s, what);
  const bool memory = status == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED ||
                      status == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED;
  throw DeviceError(memory ? DeviceError::out_of_memory : DeviceError::refused,
                    std::string(what) + ": " + functions().cudnnGetErrorString(status) +
                        (ask ? " for " + text(*ask) : ""));
}

struct Plan {
  Owned<cudnnTensorDescriptor_t> x, y;
  Owned<cudnnFilterDescriptor_t> w;
  Owned<cudnnConvolutionDescriptor_t> convolution;
  size_t algorithm = 0;  // of `algorithms`; beyond the last: the library cannot
  size_t workspace_bytes = 0;
  bool proven = false;
};
constexpr cudnnConvolutionFwdAlgo_t algorithms[] = {
    CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM};
bool usable(const Plan& p) { return p.algorithm < std::size(algorithms); }

// Of a stream.
struct Library {
  bool tried = false;
  Owned<cudnnHandle_t> handle;  // null where the library does not work
  std::map<Ask, Plan> plans;
};

// The first status that is no success, or success.
cudnnStatus_t describe(const Ask& ask, Plan& p) {
  cudnnTensorDescriptor_t x{}, y{};
  cudnnFilterDescriptor_t w{};
  cudnnConvolutionDescriptor_t z{};
  cudnnStatus_t status = CUDNN_STATUS_SUCCESS;
  const auto good = [&](cudnnStatus_t next) {
    status = next;
    return next == CUDNN_STATUS_SUCCESS;
  };
  if (!good(functions().cudnnCreateTensorDescriptor(&x))) return status;
  p.x.reset(x);
  if (!good(functions().cudnnCreateTensorDescriptor(&y))) return status;
  p.y.reset(y);
  if (!good(functions().cudnnCreateFilterDescriptor(&w))) return status;
  p.w.reset(w);
  if (!good(functions().cudnnCreateConvolutionDescriptor(&z))) return status;
  p.convolution.reset(z);
  good(functions().cudnnSetTensor4dDescriptor(x, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT,
                                              int(ask.images), int(ask.channels), int(ask.height),
                                              int(ask.width))) &&
      good(functions().cudnnSetTensor4dDescriptor(y, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT,
                                                  int(ask.images), int(ask.outputs), int(ask.rows),
                                                  int(ask.cols))) &&
      good(functions().cudnnSetFilter4dDescriptor(w, CUDNN_DATA_FLOAT, CUDNN_TENSOR_NHWC,
                                                  int(ask.outputs), int(ask.channels / ask.groups),
                                                  int(ask.taps_down), int(ask.taps_across))) &&
      good(functions().cudnnSetConvolution2dDescriptor(
          z, int(ask.pad_down), int(ask.pad_across), int(ask.stride_down), int(ask.stride_across),
          int(ask.hop_down), int(ask.hop_across), CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT)) &&
      good(functions().cudnnSetConvolutionGroupCount(z, int(ask.groups))) &&
      good(functions().cudnnSetConvolutionMathType(z,
                                                   ask.tf32 ? CUDNN_DEFAULT_MATH : CUDNN_FMA_MATH));
  return status;
}

// Goes on to the first algorithm from p.algorithm on that the library takes on.
void choose(gpu::Stream& s, const Library& library, const Ask& ask, Plan& p) {
  for (; usable(p); ++p.algorithm) {
    const cudnnStatus_t status = functions().cudnnGetConvolutionForwardWorkspaceSize(
        library.handle.get(), p.x.get(), p.w.get(), p.convolution.get(), p.y.get(),
        algorithms[p.algorithm], &p.workspace_bytes);
    if (cannot(status)) continue;
    expect(status, s, "cudnnGetConvolutionForwardWorkspaceSize", &ask);
    return;
  }
}

Plan make_plan(gpu::Stream& s, const Library& library, const Ask& ask) {
  Plan p;
  const cudnnStatus_t described = describe(ask, p);
  if (cannot(described))
    p.algorithm = std::size(algorithms);
  else
    expect(described, s, "describing a convolution to cuDNN", &ask);
  choose(s, library, ask, p);
  return p;
}

// The library with the stream set, or null.
Library* library_of(gpu::Stream& s) {
  if (s.precision == Precision::bf16 || !dnn::available()) return nullptr;
  Library& library = s.retained.get<Library>();
  const auto stream = dnn::native(s, "cudnn");
  if (!library.tried) {
    cudnnHandle_t handle{};
    const cudnnStatus_t status = functions().cudnnCreate(&handle);
    if (!cannot(status)) {
      expect(status, s, "cudnnCreate");
      library.handle.reset(handle);
    }
    library.tried = true;
  }
  if (!library.handle) return nullptr;
  expect(functions().cudnnSetStream(library.handle.get(), stream), s, "cudnnSetStream");
  return &library;
}

Along along(const Reach& r, int64_t size) {
  const int64_t span = r.hop * (r.taps - 1);
  int64_t pad = -r.offset;
  // As much as the first and the last position need; more reads nothing.
  if (r.stride == 1)
    pad = std::clamp<int64_t>(std::max(-r.offset, r.count + r.offset + span - size), 0, span);
  const int64_t room = size + 2 * pad - span - 1;
  return {pad, room < 0 ? 0 : room / r.stride + 1, r.offset + pad};
}

constexpr int64_t most_images = 8, wave = int64_t{1} << 21;  // results of a call

Ask ask_for(const Gather& g, const Along& down, const Along& across, Precision precision) {
  Ask a{1,
        g.source_height,
        g.source_width,
        g.groups * g.from,
        g.groups * g.to,
        g.groups,
        g.down.taps,
        g.across.taps,
        g.down.stride,
        g.across.stride,
        g.down.hop,
        g.across.hop,
        down.pad,
        across.pad,
        down.count,
        across.count,
        precision == Precision::tf32};
  while (a.images < most_images && 2 * a.images * std::max(a.sums(), int64_t{1}) <= wave)
    a.images *= 2;
  return a;
}

// Whether there is something to compute and the library's ints hold it.
bool fits(const Gather& g, const Ask& a) {
  if (g.sums() <= 0 || a.rows <= 0 || a.cols <= 0) return false;
  const int64_t result = g.result_height * g.result_width * a.outputs;
  return a.images * std::max({a.image(), a.sums(), result}) < INT_MAX &&
         a.outputs * g.sums() < INT_MAX;
}

bool aligned(const real* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }
size_t room_for(size_t bytes) { return gpu::pieces<size_t>(bytes, 256) * 256; }

// A call of library_conv.
struct Work {
  const Gather& g;
  const Along &down, &across;
  const real *source, *packed;
  const Epilogue& epilogue;
  real* result;
};

// False, and nothing done, where an algorithm that has not been run yet turns out to be none.
bool compute(gpu::Stream& s, const Library& library, Plan& plan, const Ask& ask, const Work& w) {
  const int64_t image = ask.image(), room = ask.images * image;
  const int64_t result_image = w.g.result_height * w.g.result_width * ask.outputs;
  const bool always_staged = !aligned(w.source) || (room % 4 != 0 && w.g.batch > ask.images);
  const bool staged = always_staged || w.g.batch % ask.images != 0;
  const size_t sums_bytes = room_for(size_t(ask.images * ask.sums()) * sizeof(real));
  const size_t workspace_bytes = room_for(plan.workspace_bytes);
  auto* memory = static_cast<char*>(
      s.scratch(sums_bytes + workspace_bytes + (staged ? size_t(room) * sizeof(real) : 0)));
  if (s.asking()) return false;
  auto* sums = reinterpret_cast<real*>(memory);
  auto* stage = reinterpret_cast<real*>(memory + sums_bytes + workspace_bytes);
  const float one = 1, zero = 0;
  for (int64_t first = 0; first < w.g.batch; first += ask.images) {
    Gather part = w.g;
    part.batch = std::min(ask.images, w.g.batch - first);
    const real* x = w.source + first * image;
    if (always_staged || part.batch < ask.images) {
      stage_images(s, x, part.batch * image, room, stage);
      x = stage;
    }
    const cudnnStatus_t status = functions().cudnnConvolutionForward(
        library.handle.get(), &one, plan.x.get(), x, plan.w.get(), w.packed, plan.convolution.get(),
        algorithms[plan.algorithm], memory + sums_bytes, plan.workspace_bytes, &zero, plan.y.get(),
        sums);
    if (!plan.proven && cannot(status)) return false;
    expect(status, s, "cudnnConvolutionForward", &ask);
    plan.proven = true;
    Epilogue finish = w.epilogue;
    if (finish.residual) finish.residual += first * result_image;
    finish_images(s, part, sums, w.down, w.across, finish, w.result + first * result_image);
  }
  return true;
}

#endif

}  // namespace

void stage_images(gpu::Stream& s, const real* source, int64_t count, int64_t room, real* staged) {
  gpu::launch(s, {gpu::pieces<int64_t>(room, threads), threads}, stage_images_kernel, source, count,
              room, staged);
}

void finish_images(gpu::Stream& s, const Gather& g, const real* sums, const Along& down,
                   const Along& across, const Epilogue& epilogue, real* result) {
  gpu::launch(s, {gpu::pieces<int64_t>(g.rows() * g.groups * g.to, threads), threads},
              finish_images_kernel, g, sums, down, across, epilogue, result);
}

#ifdef WHENCE_HAVE_CUDNN
bool library_conv(gpu::Stream& s, const Gather& g, const real* source, const real* packed,
                  const Epilogue& epilogue, real* result) {
  Library* library = library_of(s);
  if (!library || (!s.asking() && !aligned(packed))) return false;
  const Along down = along(g.down, g.source_height), across = along(g.across, g.source_width);
  const Ask ask = ask_for(g, down, across, s.precision);
  if (!fits(g, ask)) return false;
  auto found = library->plans.find(ask);
  if (found == library->plans.end())
    found = library->plans.emplace(ask, make_plan(s, *library, ask)).first;
  Plan& plan = found->second;
  const size_t first = plan.algorithm;
  for (; usable(plan); ++plan.algorithm, choose(s, *library, ask, plan))
    if (compute(s, *library, plan, ask, {g, down, across, source, packed, epilogue, result}))
      return true;
  if (s.asking()) {  // each has been asked, for each may turn out to be none
    plan.algorithm = first;
    choose(s, *library, ask, plan);
  }
  return false;
}
#else
bool library_conv(gpu::Stream&, const Gather&, const real*, const real*, const Epilogue&, real*) {
  return false;
}
#endif

}  // namespace whence::k

#endif
