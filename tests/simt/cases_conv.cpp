// Convolutions in both directions, their weights, and batch norm.
#include "kernels/conv.h"
#include "kernels/cuda/library_conv.cuh"
#include "tests/simt/cases.h"

namespace whence::simt_test {
namespace {

using gpu::Stream;
using k::ConvSize;
using ref::noise;
using ref::Reals;

int64_t inputs(const ConvSize& z) { return z.batch * z.height * z.width * z.channels; }
int64_t outputs(const ConvSize& z) { return z.batch * z.out_height() * z.out_width() * z.outputs; }
int64_t weights(const ConvSize& z) { return z.outputs * (z.channels / z.groups) * z.taps(); }

Reals packed(Stream& s, const ConvSize& z, bool backward) {
  const Reals weight = noise(weights(z), 1);
  Reals to(size_t(k::conv_packed_count(z)), 0);
  k::conv_pack(s, weight.data(), z, backward, to.data());
  s.synchronize();
  return to;
}

Reals forward(Stream& s, const ConvSize& z) {
  const Reals x = noise(inputs(z), 2), bias = noise(z.outputs, 3), weight = packed(s, z, false);
  const k::Epilogue epilogue{.bias = bias.data(), .activation = k::Relu{}};
  return output_of(s, outputs(z),
                   [&](real* y) { k::conv(s, x.data(), weight.data(), z, epilogue, y); });
}
Reals backward(Stream& s, const ConvSize& z) {
  const Reals dy = noise(outputs(z), 2), weight = packed(s, z, true);
  return output_of(s, inputs(z),
                   [&](real* dx) { k::conv_bwd(s, dy.data(), weight.data(), z, {}, dx); });
}
Reals weight_gradient(Stream& s, const ConvSize& z) {
  const Reals x = noise(inputs(z), 2), dy = noise(outputs(z), 3);
  return output_of(s, weights(z),
                   [&](real* dweight) { k::conv_bwd_weight(s, x.data(), dy.data(), z, dweight); });
}

// 2 images of 3 x 5 pixels, 3 x 3 taps unless told.
ConvSize images(int64_t channels, int64_t outputs, int64_t groups, int64_t stride = 1,
                int64_t taps = 3) {
  return {.batch = 2,
          .height = 3,
          .width = 5,
          .channels = channels,
          .outputs = outputs,
          .groups = groups,
          .kernel_height = taps,
          .kernel_width = taps,
          .stride = stride,
          .pad = taps / 2};
}

struct Shape {
  const char *name, *sizes, *pack, *kernel;
  ConvSize z;
};
std::vector<Shape> shapes() {
  const char *pack = "conv_pack_kernel", *kernel = "conv_kernel";
  return {
      {"groups", "2 x 3 x 5, 2 groups of 5 to 5 channels, 3 x 3", pack, kernel, images(10, 10, 2)},
      {"strides", "2 x 3 x 5, 18 to 7 channels, 3 x 3, stride 2", pack, kernel,
       images(18, 7, 1, 2)},
      {"small_tiles", "2 x 3 x 5, 18 to 19 channels, 3 x 3", pack, kernel, images(18, 19, 1)},
      {"depthwise", "2 x 3 x 5 x 37, 3 x 3", "depthwise_pack_kernel", "depthwise_kernel",
       images(37, 37, 37)},
      {"pointwise", "2 x 3 x 5, 33 to 35 channels", "pack_kernel", "product_kernel",
       images(33, 35, 1, 1, 1)},
  };
}

std::string times(const ConvSize& z, bool backward, const std::string& launch) {
  std::string all;
  // Backwards every position inside a stride is a convolution of its own.
  for (int64_t i = 0; i < (backward ? z.stride * z.stride : 1); ++i) all += launch + " ";
  return all;
}

std::vector<KernelCase> direction_cases(bool both_ways) {
  std::vector<KernelCase> table;
  const char* kernel = both_ways ? "conv_bwd" : "conv";
  for (const Shape& shape : shapes()) {
    const ConvSize z = shape.z;
    const std::string pack = times(z, both_ways, shape.pack);
    table.push_back({kernel, shape.name, shape.sizes, pack + times(z, both_ways, shape.kernel),
                     [=](Stream& s) { return both_ways ? backward(s, z) : forward(s, z); }});
    if (!both_ways)
      table.push_back(
          {"conv_pack", shape.name, shape.sizes, pack + times(z, true, shape.pack), [=](Stream& s) {
             Reals all = packed(s, z, false);
             append(all, packed(s, z, true));
             return all;
           }});
    if (!both_ways && !z.depthwise())
      table.push_back({"conv_bwd_weight", shape.name, shape.sizes, "conv_bwd_weight_kernel",
                       [=](Stream& s) { return weight_gradient(s, z); }});
  }
  return table;
}

std::vector<KernelCase> norm_cases() {
  constexpr int64_t rows = 40, cols = 7;
  constexpr real eps = real(1e-3);
  const auto positive = [](Reals x) {
    for (real& v : x) v = std::abs(v);
    return x;
  };
  return {
      {"norm_scale", "", "259", "norm_scale_kernel",
       [=](Stream& s) {
         const Reals weight = noise(259, 1), variance = positive(noise(259, 2));
         return output_of(s, 259, [&](real* scale) {
           k::norm_scale(s, weight.data(), variance.data(), eps, 259, scale);
         });
       }},
      {"batch_norm", "", "40 x 7, in place", "batch_norm_kernel",
       [=](Stream& s) {
         const Reals weight = noise(cols, 1), bias = noise(cols, 2), mean = noise(cols, 3),
                     variance = positive(noise(cols, 4));
         Reals y = noise(rows * cols, 5);
         k::batch_norm(s, y.data(), weight.data(), bias.data(), mean.data(), variance.data(), eps,
                       rows, cols, y.data());
         s.synchronize();
         return y;
       }},
      {"batch_norm_bwd", "", "40 x 7, in place", "batch_norm_bwd_kernel",
       [=](Stream& s) {
         const Reals weight = noise(cols, 1), variance = positive(noise(cols, 4));
         Reals dx = noise(rows * cols, 5);
         k::batch_norm_bwd(s, dx.data(), weight.data(), variance.data(), eps, rows, cols,
                           dx.data());
         s.synchronize();
         return dx;
       }},
  };
}

// What is done around a call of the library: its own part is no kernel.
std::vector<KernelCase> library_cases() {
#ifdef WHENCE_F64
  return {};
#else
  const auto finish = [](Stream& s, bool backward) {
    const ConvSize z = images(18, 37, 1, backward ? 1 : 2);
    k::Gather g;
    k::each_gather(z, backward, [&](const k::Gather& only) { g = only; });
    const int64_t cols = g.groups * g.to;
    const k::Along down{1, g.down.count, 1}, across{1, g.across.count + 1, -1};
    const Reals sums = noise(z.batch * down.count * across.count * cols, 1), bias = noise(cols, 2);
    Reals y = noise(backward ? inputs(z) : outputs(z), 3);
    k::finish_images(s, g, sums.data(), down, across, {bias.data(), k::Relu{}, y.data()}, y.data());
    s.synchronize();
    return y;
  };
  return {
      {"conv", "library_staging", "259 of 515", "stage_images_kernel",
       [](Stream& s) {
         const Reals x = noise(259, 1);
         return output_of(s, 515,
                          [&](real* staged) { k::stage_images(s, x.data(), 259, 515, staged); });
       }},
      {"conv", "library_finish", "2 x 3 x 5, 37 channels, stride 2, in place",
       "finish_images_kernel", [=](Stream& s) { return finish(s, false); }},
      {"conv_bwd", "library_finish", "2 x 3 x 5, 18 channels, in place", "finish_images_kernel",
       [=](Stream& s) { return finish(s, true); }},
  };
#endif
}

}  // namespace

std::vector<KernelCase> conv_cases() {
  std::vector<KernelCase> table;
  for (const auto& part :
       {direction_cases(false), direction_cases(true), library_cases(), norm_cases()})
    table.insert(table.end(), part.begin(), part.end());
  return table;
}

}  // namespace whence::simt_test
