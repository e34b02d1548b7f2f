// Convolutions by cuDNN: what is asked of it, what is left to the kernels of whence, and that
// nothing depends on the batch. Through a double of the library.
#if defined(WHENCE_HAVE_SIMT) && !defined(WHENCE_F64)
#include "kernels/cuda/library_conv.cuh"

#include "kernels/cuda/ptx.cuh"
#include "kernels/device_error.h"
#include "tests/ref/conv.h"
#include "tests/ref/functions.h"
#include "tests/ref/linear.h"
#include "tests/twins/cudnn.h"
#include "tests/unit/random_tensors.h"
#include "tests/unit/tiny_model.h"

namespace whence {
namespace {

using namespace ref;
namespace dnn = twins::dnn;
using k::ConvSize;
using k::DeviceError;
using k::Unary;

struct LibraryConv : testing::Test {
  ~LibraryConv() override {
    dnn::answer({});
    EXPECT_EQ(dnn::live_objects(), before_) << "left behind";
  }

 private:
  dnn::Installed library_;
  size_t before_ = dnn::live_objects();
};

// A convolution and its data. Elements of a batch are the same in a larger one.
struct Case {
  ConvSize z;
  bool backward = false;

  Reals source() const { return noise(backward ? y_count() : x_count(), 1); }
  Reals weight() const { return noise(z.outputs * (z.channels / z.groups) * z.taps(), 2); }
  int64_t x_count() const { return z.batch * z.height * z.width * z.channels; }
  int64_t y_count() const { return z.batch * z.out_height() * z.out_width() * z.outputs; }
  int64_t result_count() const { return backward ? x_count() : y_count(); }
  int64_t cols() const { return backward ? z.channels : z.outputs; }

  Reals packed(simt::Stream& s) const {
    const Reals w = weight();
    Reals to(size_t(k::conv_packed_count(z)), poison);
    k::conv_pack(s, w.data(), z, backward, to.data());
    s.synchronize();
    return to;
  }
  void queue(simt::Stream& s, const real* source, const real* packed, const k::Epilogue& e,
             real* result) const {
    if (backward)
      k::conv_bwd(s, source, packed, z, e, result);
    else
      k::conv(s, source, packed, z, e, result);
  }
  Reals run(simt::Stream& s, const k::Epilogue& e = {}) const {
    const Reals from = source(), weights = packed(s);
    Reals result(size_t(result_count()), poison);
    try {
      queue(s, from.data(), weights.data(), e, result.data());
    } catch (...) {
      s.synchronize();  // what is queued still reads the arrays
      throw;
    }
    s.synchronize();
    return result;
  }
  Reals run(Precision precision = Precision::f32) const {
    simt::Stream s;
    s.precision = precision;
    return run(s);
  }
  Reals run_without_library(Precision precision = Precision::f32) const {
    const auto* library = std::exchange(simt::dnn::installed, nullptr);
    const Reals result = run(precision);
    simt::dnn::installed = library;
    return result;
  }

  // The sums, of rounded factors.
  Bounded want(Precision precision) const {
    const auto rounded = [&](real x) -> double {
      return precision == Precision::tf32 ? gpu::float_of(gpu::to_tf32(x)) : x;
    };
    const auto array = [&](const Reals& x, const Shape& shape) {
      size_t i = 0;
      return make(shape, [&](const Index&) { return rounded(x[i++]); });
    };
    const auto size_of = [](Array a) {
      for (double& x : a.x) x = std::abs(x);
      return a;
    };
    const Array w =
        array(weight(), {z.outputs, z.channels / z.groups, z.kernel_height, z.kernel_width});
    const Shape image{z.batch, z.height, z.width, z.channels};
    const Array from = array(
        source(), backward ? Shape{z.batch, z.out_height(), z.out_width(), z.outputs} : image);
    const auto sums = [&](const Array& a, const Array& b) {
      return backward ? transposed(a, b) : conv2d(a, b, nullptr, {z.stride, z.pad, z.dilation}).x;
    };
    Bounded all{size_t(result_count())};
    all.value = sums(from, w);
    all.error = sums(size_of(from), size_of(w));
    const int64_t terms = z.taps() * std::max(z.channels, z.outputs) / z.groups;
    for (double& e : all.error) e = chain_error(terms, e);
    return all;
  }

 private:
  // Every output gives to the inputs that it reads.
  Doubles transposed(const Array& dy, const Array& w) const {
    Doubles dx(size_t(x_count()), 0);
    const int64_t in = z.channels / z.groups, out = z.outputs / z.groups;
    for (int64_t b = 0; b < z.batch; ++b)
      for (int64_t h = 0; h < z.out_height(); ++h)
        for (int64_t v = 0; v < z.out_width(); ++v)
          for (int64_t i = 0; i < z.kernel_height; ++i)
            for (int64_t j = 0; j < z.kernel_width; ++j) {
              const int64_t y = h * z.stride - z.pad + i * z.dilation;
              const int64_t x = v * z.stride - z.pad + j * z.dilation;
              if (y < 0 || x < 0 || y >= z.height || x >= z.width) continue;
              for (int64_t o = 0; o < z.outputs; ++o)
                for (int64_t c = 0; c < in; ++c)
                  dx[size_t(((b * z.height + y) * z.width + x) * z.channels + o / out * in + c)] +=
                      dy({b, h, v, o}) * w({o, c, i, j});
            }
    return dx;
  }
};

// How many convolutions the library was given by f.
template <class F>
size_t given(F&& f) {
  const size_t before = dnn::convolutions();
  f();
  return dnn::convolutions() - before;
}

std::vector<ConvSize> sizes() {
  return {
      {2, 5, 4, 3, 4, 1, 3, 3, 1, 1, 1},    // few channels
      {3, 6, 7, 17, 20, 1, 3, 3, 2, 1, 1},  // odd channels, stride
      {2, 5, 4, 6, 9, 1, 1, 1, 2, 0, 1},    // pixels that no output reads
      {2, 9, 8, 4, 12, 1, 2, 3, 3, 1, 1},   // a stride as wide as the kernel
      {2, 8, 9, 8, 5, 1, 3, 3, 2, 2, 2},    // dilation in step with the stride
      {2, 10, 9, 4, 8, 1, 3, 2, 2, 3, 3},   // and out of step
      {2, 10, 9, 4, 8, 1, 3, 2, 2, 0, 3},   // with taps that begin before the image
      {2, 6, 5, 4, 8, 1, 3, 3, 1, 4, 1},    // more padding than taps
      {2, 2, 3, 12, 7, 1, 5, 5, 1, 2, 1},   // a kernel beyond the image
      {2, 7, 6, 4, 4, 1, 3, 3, 1, 0, 2},    // no padding
      {2, 6, 7, 4, 4, 1, 3, 3, 2, 0, 1},    // the last row is read by nothing
      {2, 4, 5, 12, 8, 4, 3, 3, 1, 1, 1},   // groups
      {2, 5, 4, 8, 16, 2, 3, 3, 2, 1, 1},   // with a stride
      {2, 5, 4, 4, 8, 4, 3, 3, 1, 1, 1},    // two outputs a channel
      {2, 9, 7, 3, 8, 1, 7, 7, 2, 3, 1},    // the first layer of many networks
      {9, 3, 5, 5, 3, 1, 3, 3, 1, 1, 1},    // two calls
  };
}

TEST_F(LibraryConv, equals_double_loops) {
  for (const ConvSize& z : sizes())
    for (const bool backward : {false, true})
      for (const Precision precision : {Precision::f32, Precision::tf32}) {
        const Case c{z, backward};
        Reals got;
        EXPECT_GT(given([&] { got = c.run(precision); }), 0u) << name_of(z);
        expect_within(got, c.want(precision),
                      to_string(precision) + (backward ? " backward" : " forward") + name_of(z));
      }
}

TEST_F(LibraryConv, gets_what_it_is_good_at) {
  const auto calls = [](const ConvSize& z, bool backward, Precision precision = Precision::f32) {
    return given([&] { Case{z, backward}.run(precision); });
  };
  const ConvSize plain{2, 5, 4, 4, 8, 1, 3, 3, 1, 1, 1}, strided{2, 6, 6, 4, 8, 1, 3, 3, 2, 1, 1},
      depthwise{2, 5, 4, 8, 8, 8, 3, 3, 1, 1, 1}, pointwise{2, 5, 4, 4, 8, 1, 1, 1, 1, 0, 1},
      downsampling{2, 6, 6, 4, 8, 1, 1, 1, 2, 0, 1}, odd{2, 6, 6, 3, 5, 1, 3, 3, 2, 1, 1};
  EXPECT_EQ(calls(plain, false), 1u);
  EXPECT_EQ(calls(plain, true), 1u);
  EXPECT_EQ(calls(plain, false, Precision::tf32), 1u);
  EXPECT_EQ(calls(plain, false, Precision::bf16), 0u);
  EXPECT_EQ(calls(strided, false), 1u);
  EXPECT_EQ(calls(strided, true), 4u) << "a phase each";
  EXPECT_EQ(calls(downsampling, true), 1u) << "the other phases have no taps";
  EXPECT_EQ(calls(odd, true), 1u) << "the weights of the other phases are not aligned";
  for (const bool backward : {false, true}) {
    EXPECT_EQ(calls(depthwise, backward), 0u);
    EXPECT_EQ(calls(pointwise, backward), 0u);
  }
  EXPECT_EQ(given([&] { Case{plain}.run_without_library(); }), 0u);
}

TEST_F(LibraryConv, the_rest_of_the_epilogue_is_that_of_the_own_kernels) {
  for (const ConvSize& z :
       {ConvSize{9, 3, 4, 3, 6, 1, 3, 3, 1, 1, 1}, ConvSize{2, 5, 4, 6, 4, 2, 3, 3, 2, 1, 1}})
    for (const bool backward : {false, true})
      for (const bool in_place : {false, true})
        for (const bool residual_first : {false, true})
          for (const Unary activation :
               std::initializer_list<Unary>{k::Identity{}, k::Relu{}, k::Gelu{}}) {
            const Case c{z, backward};
            const Reals bias = noise(c.cols(), 3), other = noise(c.result_count(), 4);
            const Bounded sums = c.want(Precision::f32);
            Reals result = in_place ? other : Reals(other.size(), poison);
            simt::Stream s;
            const Reals from = c.source(), packed = c.packed(s);
            c.queue(
                s, from.data(), packed.data(),
                {bias.data(), activation, in_place ? result.data() : other.data(), residual_first},
                result.data());
            s.synchronize();
            Bounded want(other.size());
            for (size_t i = 0; i < other.size(); ++i) {
              const double sum = sums.value[i] + bias[i % size_t(c.cols())];
              want.value[i] = residual_first ? unary(activation, sum + other[i])
                                             : unary(activation, sum) + other[i];
              want.error[i] = 1.13 * sums.error[i] + 16 * eps * (std::abs(sum) + 2);
            }
            expect_within(result, want, name_of(z) + (in_place ? " in place" : ""));
          }
}

TEST_F(LibraryConv, bits_do_not_depend_on_the_batch) {
  for (const bool backward : {false, true})
    for (const Precision precision : {Precision::f32, Precision::tf32}) {
      Case c{{1, 5, 3, 3, 7, 1, 3, 3, 2, 1, 1}, backward};
      const Reals one = c.run(precision);
      for (const int64_t batch : {5, 8, 17}) {
        c.z.batch = batch;
        const Reals all = c.run(precision);
        expect_same_bits(std::span(all).first(one.size()), one, std::to_string(batch));
        // A source that is not aligned, and what weights are packed for, make no difference.
        const Reals from = c.source();
        Reals moved(from.size() + 1, poison), result(all.size(), poison);
        std::copy(from.begin(), from.end(), moved.begin() + 1);
        simt::Stream s;
        s.precision = precision;
        const Reals packed = Case{{1, 5, 3, 3, 7, 1, 3, 3, 2, 1, 1}, backward}.packed(s);
        c.queue(s, moved.data() + 1, packed.data(), {}, result.data());
        s.synchronize();
        expect_same_bits(result, all, "moved");
      }
    }
}

// Zeros stay zeros, and a NaN reaches what reads it and nothing else, other images included.
TEST_F(LibraryConv, zeros_and_nans_stay_where_they_are) {
  const Case c{{3, 5, 4, 6, 8, 2, 3, 3, 1, 1, 1}};
  simt::Stream s;
  const Reals packed = c.packed(s);
  Reals x(size_t(c.x_count()), 0), y(size_t(c.y_count()), poison);
  c.queue(s, x.data(), packed.data(), {}, y.data());
  s.synchronize();
  for (const real v : y) EXPECT_EQ(v, 0);
  x[size_t(((1 * 5 + 4) * 4 + 0) * 6 + 2)] = poison;  // image 1, bottom left, group 0
  c.queue(s, x.data(), packed.data(), {}, y.data());
  s.synchronize();
  for (size_t i = 0; i < y.size(); ++i) {
    const size_t channel = i % 8, w = i / 8 % 4, h = i / 32 % 5, b = i / 160;
    EXPECT_EQ(std::isnan(y[i]), channel < 4 && w < 2 && h > 2 && b == 1) << i;
  }
}

TEST_F(LibraryConv, images_that_the_batch_lacks_are_zeros) {
  const Reals some = noise(300, 1);
  Reals staged(777, poison);
  simt::Stream s;
  k::stage_images(s, some.data(), 300, 777, staged.data());
  s.synchronize();
  for (size_t i = 0; i < staged.size(); ++i) EXPECT_EQ(staged[i], i < 300 ? some[i] : 0) << i;
}

TEST_F(LibraryConv, what_is_kept_is_made_once_and_goes_with_the_stream) {
  const Case c{{2, 5, 4, 4, 8, 1, 3, 3, 2, 1, 1}, true};
  const size_t before = dnn::live_objects();
  {
    simt::Stream s;
    const Reals first = c.run(s);
    const size_t made = dnn::live_objects();
    EXPECT_GT(made, before);
    expect_same_bits(c.run(s), first, "again");
    EXPECT_EQ(dnn::live_objects(), made);
    s.precision = Precision::tf32;
    c.run(s);
    EXPECT_GT(dnn::live_objects(), made);
  }
  EXPECT_EQ(dnn::live_objects(), before);
}

TEST_F(LibraryConv, what_it_cannot_do_the_own_kernels_do) {
  for (const bool backward : {false, true}) {
    const Case c{{2, 5, 4, 4, 8, 1, 3, 3, 2, 1, 1}, backward};
    const Reals want = c.run_without_library();
    for (const dnn::Answers& answers :
         {dnn::Answers{.create = dnn::CUDNN_STATUS_NOT_INITIALIZED},
          dnn::Answers{.describe = dnn::CUDNN_STATUS_NOT_SUPPORTED},
          dnn::Answers{.workspace = dnn::CUDNN_STATUS_NOT_SUPPORTED},
          dnn::Answers{.workspace = dnn::CUDNN_STATUS_NOT_INITIALIZED},
          dnn::Answers{.forward = dnn::CUDNN_STATUS_NOT_SUPPORTED}}) {
      dnn::answer(answers);
      simt::Stream s;
      EXPECT_EQ(given([&] { expect_same_bits(c.run(s), want, "own kernels"); }), 0u);
      dnn::answer({});
      EXPECT_EQ(given([&] { expect_same_bits(c.run(s), want, "own kernels again"); }), 0u)
          << "decided once";
    }
  }
  const Case c{{2, 5, 4, 4, 8, 1, 3, 3, 2, 1, 1}};
  {
    simt::Stream s;
    dnn::answer({.precomputed = dnn::CUDNN_STATUS_NOT_SUPPORTED});
    EXPECT_EQ(given([&] { expect_within(c.run(s), c.want(Precision::f32), "the other"); }), 1u)
        << "by the other algorithm";
    dnn::answer({});
  }
  // Where it has worked once, it has to: results in other bits would follow.
  simt::Stream s;
  EXPECT_EQ(given([&] { c.run(s); }), 1u);
  dnn::answer({.forward = dnn::CUDNN_STATUS_NOT_SUPPORTED});
  EXPECT_THROW(c.run(s), DeviceError);
}

TEST_F(LibraryConv, failures_are_errors) {
  const Case c{{2, 5, 4, 4, 8, 1, 3, 3, 1, 1, 1}};
  struct Row {
    dnn::Answers answers;
    DeviceError::Kind kind;
    const char* text;
  };
  const char* asked =
      " for f32 images 8 height 5 width 4 channels 4 outputs 8 groups 1 taps 3 x 3 "
      "stride 1 x 1 dilation 1 x 1 padding 1 x 1";
  for (const Row& row :
       {Row{{.create = dnn::CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED},
            DeviceError::out_of_memory,
            "cudnnCreate: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"},
        Row{{.workspace = dnn::CUDNN_STATUS_BAD_PARAM},
            DeviceError::refused,
            "cudnnGetConvolutionForwardWorkspaceSize: CUDNN_STATUS_BAD_PARAM"},
        Row{{.forward = dnn::CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED},
            DeviceError::out_of_memory,
            "cudnnConvolutionForward: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"},
        Row{{.forward = dnn::CUDNN_STATUS_EXECUTION_FAILED},
            DeviceError::refused,
            "cudnnConvolutionForward: CUDNN_STATUS_EXECUTION_FAILED"}}) {
    const size_t before = dnn::live_objects();
    {
      simt::Stream s;
      dnn::answer(row.answers);
      try {
        c.run(s);
        ADD_FAILURE() << row.text;
      } catch (const DeviceError& e) {
        EXPECT_EQ(e.kind, row.kind);
        EXPECT_EQ(e.what(), std::string(row.text) +
                                (row.answers.create == dnn::CUDNN_STATUS_SUCCESS ? asked : ""));
      }
      dnn::answer({});
      expect_within(c.run(s), c.want(Precision::f32), "the next call");
    }
    EXPECT_EQ(dnn::live_objects(), before);
  }
  simt::Stream s;  // has no room for the sums
  simt::Stream::inject({simt::Injection::allocation, 1, false});
  EXPECT_THROW(c.run(s), DeviceError);
  simt::Stream::inject({});
}

TEST_F(LibraryConv, explanations_of_a_network_equal_the_cpu) {
  const auto model = tiny_cnn();
  const Tensor x = random_tensor({3, 3, 12, 20}, 21);
  const auto explain = [&](Device on, int64_t chunk) {
    Explainer::Settings settings;
    settings.device = on;
    settings.chunk = chunk;
    return Explainer(model, settings).explain(x, request_for("gradient"));
  };
  const auto want = explain({}, 3);
  std::vector<std::vector<Result>> got;
  EXPECT_GT(given([&] { got = explain({Device::simt, 0}, 3); }), 5u);
  const auto chunked = explain({Device::simt, 0}, 2);
  for (size_t i = 0; i < want.size(); ++i)
    for (size_t t = 0; t < want[i].size(); ++t) {
      expect_near(got[i][t].attribution, want[i][t].attribution, 1e-5);
      expect_same_bits(chunked[i][t].attribution, got[i][t].attribution);
    }
}

}  // namespace
}  // namespace whence

#endif
