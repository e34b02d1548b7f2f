// Convolutions, batch norm, pooling.
#include <fmt/core.h>

#include "tests/ref/conv.h"
#include "tests/unit/op_cases.h"
#include "whence/ops.h"

namespace whence {
namespace {

using ref::Array;
using ref::Arrays;
using ref::Index;

OpCase conv(const std::string& name, Shape x, Shape w, Window z, bool bias) {
  const ref::ConvWindow same{z.stride, z.pad, z.dilation};
  OpCase c{"conv2d_" + name,
           {{x}, {w}},
           [=](const Values& v) { return conv2d(v[0], v[1], bias ? v[2] : Value{}, z); },
           [=](const Arrays& v) { return ref::conv2d(v[0], v[1], bias ? &v[2] : nullptr, same); }};
  if (bias) c.in.push_back({{w[0]}});
  return c;
}

std::vector<OpCase> convolutions() {
  return {
      conv("3x3", {2, 5, 4, 3}, {4, 3, 3, 3}, {1, 1, 1}, true),
      conv("1x1", {2, 3, 5, 6}, {7, 6, 1, 1}, {}, true),
      conv("1x1_stride_2", {2, 5, 4, 3}, {4, 3, 1, 1}, {2, 0, 1}, false),
      conv("1x1_padded", {1, 2, 3, 3}, {2, 3, 1, 1}, {1, 1, 1}, true),
      conv("stride_2", {2, 6, 7, 2}, {3, 2, 3, 3}, {2, 1, 1}, true),
      conv("stride_3_leaves_pixels_out", {2, 9, 8, 2}, {2, 2, 2, 2}, {3, 0, 1}, false),
      conv("7x7_stride_2", {1, 9, 8, 1}, {2, 1, 7, 7}, {2, 3, 1}, false),
      conv("dilated", {2, 7, 6, 2}, {3, 2, 3, 3}, {1, 2, 2}, true),
      conv("dilated_stride_2", {2, 7, 8, 2}, {3, 2, 3, 3}, {2, 2, 2}, false),
      conv("dilated_by_3_stride_2", {1, 9, 8, 2}, {2, 2, 3, 2}, {2, 3, 3}, false),
      conv("oblong_kernel", {2, 4, 6, 3}, {2, 3, 1, 5}, {1, 2, 1}, true),
      conv("kernel_beyond_the_image", {2, 2, 3, 2}, {3, 2, 5, 5}, {1, 2, 1}, true),
      conv("one_pixel", {2, 3, 3, 2}, {3, 2, 3, 3}, {}, true),
      conv("groups", {2, 4, 5, 6}, {4, 3, 3, 3}, {1, 1, 1}, true),
      conv("groups_stride_2", {2, 5, 6, 4}, {6, 2, 2, 3}, {2, 1, 1}, false),
      conv("1x1_groups", {2, 3, 4, 6}, {4, 3, 1, 1}, {}, true),
      conv("depthwise", {2, 4, 5, 6}, {6, 1, 3, 3}, {1, 1, 1}, true),
      conv("depthwise_stride_2", {2, 6, 5, 5}, {5, 1, 3, 3}, {2, 1, 1}, false),
      conv("depthwise_dilated", {1, 7, 6, 19}, {19, 1, 3, 3}, {1, 2, 2}, true),
      conv("depthwise_twice_the_channels", {2, 4, 4, 3}, {6, 1, 3, 3}, {1, 1, 1}, true),
      conv("one_channel", {2, 5, 4, 1}, {1, 1, 3, 3}, {1, 1, 1}, true),
      {"conv2d_relu",
       {{{2, 4, 5, 3}}, {{5, 3, 3, 3}}, {{5}}},
       [](const Values& v) {
         return relu(conv2d(v[0], v[1], v[2], {1, 1, 1}));
       },
       [](const Arrays& v) {
         return ref::apply(ref::conv2d(v[0], v[1], &v[2], {1, 1, 1}),
                           [](double x) { return std::max(x, 0.0); });
       }},
      {"conv2d_of_a_sum_then_relu6_then_sum",
       {{{2, 4, 5, 3}}, {{3, 3, 3, 3}}},
       [](const Values& v) {
         const Value x = relu(v[0]);
         return add(x, relu6(conv2d(x, v[1], {}, {1, 1, 1})));
       },
       [](const Arrays& v) {
         const Array x = ref::apply(v[0], [](double a) { return std::max(a, 0.0); });
         return ref::pairwise(x, ref::conv2d(x, v[1], nullptr, {1, 1, 1}),
                              [](double a, double b) { return a + std::clamp(b, 0.0, 6.0); });
       }},
      {"conv2d_residual_then_relu",
       {{{2, 4, 5, 3}}, {{3, 3, 3, 3}}, {{3}}},
       [](const Values& v) {
         return relu(add(conv2d(v[0], v[1], v[2], {1, 1, 1}), v[0]));
       },
       [](const Arrays& v) {
         return ref::pairwise(v[0], ref::conv2d(v[0], v[1], &v[2], {1, 1, 1}),
                              [](double a, double b) { return std::max(a + b, 0.0); });
       }},
      {"linear_residual_then_relu",
       {{{2, 4, 3}}, {{3, 3}}, {{3}}},
       [](const Values& v) { return relu(add(v[0], linear(v[0], v[1], v[2]))); },
       [](const Arrays& v) {
         return ref::pairwise(v[0], ref::linear(v[0], v[1], &v[2]),
                              [](double a, double b) { return std::max(a + b, 0.0); });
       }},
  };
}

OpCase pooling(const std::string& name, Shape x, ref::Pooling z) {
  const PoolWindow w{z.size, z.stride, z.pad, z.ceil};
  return {(z.largest ? "max_pool_" : "average_pool_") + name,
          {{x}},
          [=](const Values& v) {
            return z.largest ? max_pool(v[0], w) : average_pool(v[0], w, z.count_padding);
          },
          [=](const Arrays& v) { return ref::pool(v[0], z); }};
}

std::vector<OpCase> pools() {
  std::vector<OpCase> cases;
  struct Sizes {
    const char* name;
    Shape x;
    int64_t size, stride, pad;
    bool ceil;
  };
  for (const Sizes& s : {Sizes{"2x2", {2, 4, 6, 3}, 2, 2, 0, false},
                         {"3x3_stride_2", {2, 7, 6, 5}, 3, 2, 1, false},
                         {"ceil", {2, 6, 5, 3}, 3, 2, 1, true},
                         {"ceil_without_a_last_window", {1, 5, 6, 2}, 2, 3, 1, true},
                         {"overlapping", {2, 5, 4, 19}, 3, 1, 0, false},
                         {"with_gaps", {2, 7, 8, 2}, 2, 3, 0, false},
                         {"beyond_the_image", {2, 2, 3, 2}, 5, 2, 2, true},
                         {"one_pixel", {2, 3, 3, 4}, 3, 3, 0, false},
                         {"1x1", {2, 3, 2, 3}, 1, 1, 0, false}})
    for (int kind = 0; kind < (s.pad ? 3 : 2); ++kind)
      cases.push_back(pooling(s.name + std::string(kind == 2 ? "_of_the_image_alone" : ""), s.x,
                              {s.size, s.stride, s.pad, s.ceil, kind != 2, kind == 0}));
  return cases;
}

}  // namespace

std::vector<OpCase> conv_cases() {
  std::vector<OpCase> cases = convolutions();
  for (OpCase& c : pools()) cases.push_back(std::move(c));
  cases.push_back({"channels_last",
                   {{{2, 3, 5, 4}}},
                   [](const Values& v) { return channels_last(v[0]); },
                   [](const Arrays& v) {
                     return ref::make({2, 5, 4, 3}, [&](const Index& at) {
                       return v[0]({at[0], at[3], at[1], at[2]});
                     });
                   }});
  for (const Shape& s : {Shape{2, 3, 4, 5}, Shape{7, 33}}) {
    const Shape width{s[-1]};
    cases.push_back(
        {fmt::format("batch_norm_of_{}_axes", s.rank()),
         {{s}, {width}, {width}, {width}, {width, 0.2, 1}},
         [](const Values& v) { return batch_norm(v[0], v[1], v[2], v[3], v[4], real(1e-3)); },
         [](const Arrays& v) {
           return ref::batch_norm(v[0], v[1], v[2], v[3], v[4], double(real(1e-3)));
         }});
  }
  return cases;
}

}  // namespace whence
