// Convolutions against double loops and, bit by bit, against products; their epilogues, and bits
// that depend on nothing but the operands.
#include "kernels/conv.h"
#include "tests/ref/backends.h"
#include "tests/ref/conv.h"
#include "tests/ref/linear.h"
#include "tests/ref/rows.h"

namespace whence {
namespace {

using namespace ref;
using k::ConvSize;

// Calls f(offset in x, offset in y, offset in the weight) for every product of a convolution.
template <class F>
void each_term(const ConvSize& z, F&& f) {
  const int64_t in = z.channels / z.groups, out = z.outputs / z.groups;
  for (int64_t b = 0; b < z.batch; ++b)
    for (int64_t h = 0; h < z.out_height(); ++h)
      for (int64_t w = 0; w < z.out_width(); ++w)
        for (int64_t o = 0; o < z.outputs; ++o)
          for (int64_t i = 0; i < z.kernel_height; ++i)
            for (int64_t j = 0; j < z.kernel_width; ++j) {
              const int64_t y = h * z.stride - z.pad + i * z.dilation;
              const int64_t x = w * z.stride - z.pad + j * z.dilation;
              if (y < 0 || x < 0 || y >= z.height || x >= z.width) continue;
              for (int64_t c = 0; c < in; ++c)
                f(size_t(((b * z.height + y) * z.width + x) * z.channels + o / out * in + c),
                  size_t(((b * z.out_height() + h) * z.out_width() + w) * z.outputs + o),
                  size_t(((o * in + c) * z.kernel_height + i) * z.kernel_width + j));
            }
}

template <class Backend>
struct Problem {
  ConvSize z;
  Reals x, weight, dy, packed[2];
  Problem(const ConvSize& size, uint64_t seed)
      : z(size),
        x(noise(z.batch * z.height * z.width * z.channels, seed)),
        weight(noise(z.outputs * (z.channels / z.groups) * z.taps(), seed + 100)),
        dy(noise(z.batch * z.out_height() * z.out_width() * z.outputs, seed + 200)) {
    for (bool backward : {false, true}) {
      packed[backward].assign(size_t(k::conv_packed_count(z)), poison);
      Backend::run(
          [&](auto& s) { k::conv_pack(s, weight.data(), z, backward, packed[backward].data()); });
    }
  }
  Reals forward(const k::Epilogue& e = {}) const {
    Reals y(dy.size(), poison);
    Backend::run([&](auto& s) { k::conv(s, x.data(), packed[0].data(), z, e, y.data()); });
    return y;
  }
  Reals backward(const k::Epilogue& e = {}) const {
    Reals dx(x.size(), poison);
    Backend::run([&](auto& s) { k::conv_bwd(s, dy.data(), packed[1].data(), z, e, dx.data()); });
    return dx;
  }
  Reals by_weight() const {
    Reals dw(weight.size(), poison);
    Backend::run([&](auto& s) { k::conv_bwd_weight(s, x.data(), dy.data(), z, dw.data()); });
    return dw;
  }
  // The sums of forward, backward and by_weight.
  std::array<Bounded, 3> want() const {
    std::array<Bounded, 3> sums{Bounded(dy.size()), Bounded(x.size()), Bounded(weight.size())};
    std::array<std::vector<int64_t>, 3> terms;
    for (size_t i = 0; i < 3; ++i) terms[i].assign(sums[i].value.size(), 0);
    const auto meet = [&](size_t which, size_t at, double term) {
      sums[which].value[at] += term;
      sums[which].error[at] += std::abs(term);
      ++terms[which][at];
    };
    each_term(z, [&](size_t in, size_t out, size_t w) {
      meet(0, out, double(x[in]) * weight[w]);
      meet(1, in, double(dy[out]) * weight[w]);
      meet(2, w, double(dy[out]) * x[in]);
    });
    for (size_t i = 0; i < 3; ++i)
      for (size_t at = 0; at < terms[i].size(); ++at)
        sums[i].error[at] = chain_error(terms[i][at], sums[i].error[at]);
    return sums;
  }
};

std::vector<ConvSize> sizes() {
  return {
      {2, 5, 4, 3, 4, 1, 3, 3, 1, 1, 1},     // few channels
      {2, 6, 7, 17, 19, 1, 3, 3, 2, 1, 1},   // odd channels, stride
      {1, 3, 5, 33, 40, 1, 1, 1, 1, 0, 1},   // a plain product
      {2, 5, 4, 6, 9, 1, 1, 1, 2, 0, 1},     // pixels that no output reads
      {1, 9, 8, 10, 3, 1, 2, 3, 3, 1, 1},    // a stride beyond the kernel
      {1, 8, 9, 11, 5, 1, 3, 3, 2, 2, 2},    // dilation in step with the stride
      {1, 10, 9, 9, 5, 1, 3, 2, 2, 3, 3},    // and out of step
      {1, 2, 3, 12, 7, 1, 5, 5, 1, 2, 1},    // a kernel beyond the image
      {2, 4, 5, 12, 8, 4, 3, 3, 1, 1, 1},    // groups
      {1, 5, 4, 36, 36, 2, 3, 1, 2, 1, 1},   // wide groups
      {1, 3, 3, 6, 4, 2, 1, 1, 1, 0, 1},     // groups of a plain product
      {2, 4, 5, 36, 27, 9, 3, 3, 2, 1, 1},   // many groups, from four channels to three
      {2, 5, 4, 21, 21, 21, 3, 3, 1, 1, 1},  // depthwise
      {1, 6, 5, 34, 34, 34, 3, 3, 2, 1, 1},
      {1, 7, 6, 5, 5, 5, 3, 3, 1, 2, 2},
      {1, 4, 4, 3, 9, 3, 3, 3, 1, 1, 1},  // three outputs a channel
      {1, 5, 4, 1, 1, 1, 3, 3, 1, 1, 1},
      {1, 9, 7, 3, 8, 1, 7, 7, 2, 3, 1},  // the first layer of many networks
      {1, 7, 9, 2, 3, 1, 3, 3, 2, 2, 2},
      {1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1},
  };
}

template <class Backend>
struct KernelsConv : testing::Test {};
TYPED_TEST_SUITE(KernelsConv, Backends, BackendNames);

TYPED_TEST(KernelsConv, sums_match_double_loops) {
  for (const ConvSize& z : sizes()) {
    const Problem<TypeParam> p(z, 5);
    const auto want = p.want();
    expect_within(p.forward(), want[0], "forward" + name_of(z));
    expect_within(p.backward(), want[1], "backward" + name_of(z));
    expect_within(p.by_weight(), want[2], "by weight" + name_of(z));
  }
}

TYPED_TEST(KernelsConv, nothing_to_do) {
  for (ConvSize z :
       {ConvSize{0, 5, 4, 3, 4, 1, 3, 3, 1, 1, 1}, ConvSize{0, 5, 4, 4, 4, 4, 3, 3, 2, 1, 1}}) {
    const Problem<TypeParam> p(z, 1);
    EXPECT_TRUE(p.forward().empty());
    EXPECT_TRUE(p.backward().empty());
    for (real d : p.by_weight()) EXPECT_EQ(d, 0);
  }
}

// Sums that are cut into blocks of taps, strips of more than one tile, all sizes of tiles of a
// device.
TEST(KernelsConvCpu, large_sizes_match_double_loops) {
  for (const ConvSize& z :
       {ConvSize{2, 14, 13, 260, 70, 1, 3, 3, 1, 1, 1},
        ConvSize{1, 15, 16, 70, 258, 1, 3, 3, 2, 1, 1},
        ConvSize{1, 40, 37, 3, 33, 1, 7, 7, 2, 3, 1}, ConvSize{1, 33, 30, 5, 9, 1, 3, 3, 1, 2, 2},
        ConvSize{2, 9, 9, 1500, 4, 1, 1, 1, 2, 0, 1}}) {
    const Problem<Cpu> p(z, 9);
    const auto want = p.want();
    expect_within(p.forward(), want[0], "forward" + name_of(z));
    expect_within(p.backward(), want[1], "backward" + name_of(z));
    expect_within(p.by_weight(), want[2], "by weight" + name_of(z));
  }
}

// Groups of one channel to more than a tile of a product has, as many on both sides and not.
std::vector<ConvSize> grouped_sizes() {
  std::vector<ConvSize> sizes;
  for (const auto& [in, out, groups] : std::vector<std::array<int64_t, 3>>{
           {1, 2, 21}, {1, 3, 16},  {2, 1, 9},  {2, 2, 19},  {3, 3, 11},  {4, 4, 8},   {4, 4, 5},
           {4, 8, 6},  {5, 5, 7},   {6, 6, 5},  {7, 7, 3},   {8, 8, 4},   {8, 8, 3},   {8, 3, 5},
           {9, 20, 2}, {16, 16, 3}, {17, 4, 3}, {24, 24, 2}, {32, 32, 2}, {33, 31, 2}, {16, 40, 2}})
    for (const auto& [height, width, kernel_height, kernel_width, stride, pad, dilation] :
         std::vector<std::array<int64_t, 7>>{{6, 7, 3, 3, 1, 1, 1},
                                             {7, 6, 3, 3, 2, 1, 1},
                                             {7, 9, 3, 2, 2, 3, 2},
                                             {5, 8, 2, 3, 3, 0, 1}})
      sizes.push_back({2, height, width, in * groups, out * groups, groups, kernel_height,
                       kernel_width, stride, pad, dilation});
  // More than one block of rows and of columns, for each width of a vector; a kernel that is mostly
  // outside the image, and one that skips pixels.
  sizes.push_back({1, 90, 70, 16, 16, 4, 3, 3, 1, 1, 1});
  sizes.push_back({1, 70, 150, 24, 24, 3, 3, 3, 2, 1, 1});
  sizes.push_back({2, 3, 4, 20, 20, 5, 3, 3, 1, 11, 11});
  sizes.push_back({1, 13, 12, 24, 12, 6, 1, 1, 4, 0, 1});
  return sizes;
}

// The rows [pixels, taps, channels of the group] whose products with the group's weights are the
// sums of a convolution, taps in ascending position of the source: the sums again, each a chain.
Reals as_chains(const ConvSize& z, std::span<const real> source, std::span<const real> weight,
                bool backward) {
  const int64_t in = z.channels / z.groups, out = z.outputs / z.groups, taps = z.taps();
  const int64_t from = backward ? out : in, to = backward ? in : out;
  const int64_t height = backward ? z.height : z.out_height();
  const int64_t width = backward ? z.width : z.out_width(), pixels = z.batch * height * width;
  Reals result(size_t(pixels * z.groups * to)), rows(size_t(pixels * taps * from));
  Reals matrix(size_t(to * taps * from));
  for (int64_t group = 0; group < z.groups; ++group) {
    std::fill(rows.begin(), rows.end(), real(0));
    ConvSize one = z;
    one.channels = in, one.outputs = out, one.groups = 1;
    each_term(one, [&](size_t x, size_t y, size_t w) {
      const int64_t at_x = int64_t(x), at_y = int64_t(y), tap = int64_t(w) % taps;
      const int64_t row = backward ? at_x / in : at_y / out;
      const int64_t pixel = backward ? at_y / out : at_x / in;
      const int64_t c = backward ? at_y % out : at_x % in;
      rows[size_t((row * taps + (backward ? taps - 1 - tap : tap)) * from + c)] =
          source[size_t((pixel * z.groups + group) * from + c)];
    });
    for (int64_t o = 0; o < out; ++o)
      for (int64_t i = 0; i < in; ++i)
        for (int64_t tap = 0; tap < taps; ++tap)
          matrix[size_t(backward ? (i * taps + taps - 1 - tap) * out + o
                                 : (o * taps + tap) * in + i)] =
              weight[size_t(((group * out + o) * in + i) * taps + tap)];
    const size_t sums = size_t(taps * from);
    for (int64_t pixel = 0; pixel < pixels; ++pixel)
      for (int64_t j = 0; j < to; ++j) {
        real sum = 0;
        for (size_t i = 0; i < sums; ++i)
          sum = std::fma(rows[size_t(pixel) * sums + i], matrix[size_t(j) * sums + i], sum);
        result[size_t((pixel * z.groups + group) * to + j)] = sum;
      }
  }
  return result;
}

TEST(KernelsConvCpu, groups_are_chains_in_ascending_order) {
  for (const ConvSize& z : grouped_sizes()) {
    const Problem<Cpu> p(z, 13);
    expect_same_bits(p.forward(), as_chains(z, p.x, p.weight, false), "forward" + name_of(z));
    expect_same_bits(p.backward(), as_chains(z, p.dy, p.weight, true), "backward" + name_of(z));
  }
}

#ifdef WHENCE_HAVE_SIMT
TEST(KernelsConvSimt, wide_tiles_match_double_loops) {
  for (const ConvSize& z : {ConvSize{1, 92, 92, 1, 33, 1, 2, 2, 1, 0, 1},
                            ConvSize{1, 129, 131, 1, 65, 1, 3, 3, 1, 1, 1}}) {
    const Problem<Emulated<simt::Order::reverse>> p(z, 9);
    expect_within(p.forward(), p.want()[0], "forward" + name_of(z));
  }
}
#endif

TYPED_TEST(KernelsConv, epilogue_in_both_orders) {
  for (const ConvSize& z :
       {ConvSize{2, 5, 4, 6, 35, 1, 3, 3, 2, 1, 1}, ConvSize{1, 4, 5, 6, 8, 2, 3, 3, 1, 1, 1},
        ConvSize{1, 3, 4, 5, 7, 1, 1, 1, 1, 0, 1}, ConvSize{1, 4, 5, 19, 19, 19, 3, 3, 2, 1, 1},
        ConvSize{1, 3, 5, 44, 33, 11, 3, 3, 2, 1, 1}})
    for (bool backward : {false, true})
      for (bool first : {false, true}) {
        const Problem<TypeParam> p(z, 11);
        const auto run = [&](const k::Epilogue& e) {
          return backward ? p.backward(e) : p.forward(e);
        };
        const Reals plain = run({});
        const int64_t channels = backward ? z.channels : z.outputs;
        const Reals bias = noise(channels, 1), residual = noise(int64_t(plain.size()), 2);
        const k::Epilogue e{bias.data(), k::Relu6{}, residual.data(), first};
        Reals want = plain;
        for (size_t i = 0; i < want.size(); ++i) {
          real v = plain[i] + bias[i % size_t(channels)];
          if (first) v += residual[i];
          v = std::clamp(v, real(0), real(6));
          want[i] = first ? v : v + residual[i];
        }
        expect_same_bits(run(e), want, name_of(z));
      }
}

// What a sample gets does not depend on its neighbours, nor on who computes it.
TYPED_TEST(KernelsConv, bits_do_not_depend_on_the_batch) {
  for (ConvSize z :
       {ConvSize{3, 5, 7, 6, 35, 1, 3, 3, 2, 1, 1}, ConvSize{3, 6, 5, 3, 8, 1, 3, 3, 2, 1, 1},
        ConvSize{3, 4, 5, 6, 8, 2, 3, 3, 1, 1, 1}, ConvSize{3, 4, 5, 19, 19, 19, 3, 3, 2, 1, 1},
        ConvSize{3, 3, 4, 20, 20, 5, 3, 3, 2, 1, 1}}) {
    Problem<TypeParam> p(z, 21);
    const Reals y = p.forward(), dx = p.backward();
    const size_t in = p.x.size() / 3, out = y.size() / 3;
    p.z.batch = 1;
    for (size_t b = 0; b < 3; ++b) {
      Problem<TypeParam> one = p;
      one.x.assign(p.x.begin() + int64_t(b * in), p.x.begin() + int64_t((b + 1) * in));
      one.dy.assign(p.dy.begin() + int64_t(b * out), p.dy.begin() + int64_t((b + 1) * out));
      expect_same_bits(one.forward(), std::span(y).subspan(b * out, out), "forward" + name_of(z));
      expect_same_bits(one.backward(), std::span(dx).subspan(b * in, in), "backward" + name_of(z));
    }
  }
}

TEST(KernelsConvCpu, bits_do_not_depend_on_threads) {
  for (const ConvSize& z :
       {ConvSize{2, 20, 21, 70, 100, 1, 3, 3, 2, 1, 1},
        ConvSize{1, 40, 37, 3, 33, 1, 7, 7, 2, 3, 1}, ConvSize{2, 20, 21, 64, 64, 4, 3, 3, 1, 1, 1},
        ConvSize{1, 40, 71, 32, 32, 8, 3, 3, 1, 1, 1},
        ConvSize{2, 25, 24, 40, 80, 8, 3, 3, 2, 1, 1}, ConvSize{2, 9, 10, 80, 80, 2, 3, 3, 1, 1, 1},
        ConvSize{2, 30, 31, 70, 70, 70, 3, 3, 2, 1, 1},
        ConvSize{1, 7, 7, 300, 100, 1, 3, 3, 1, 1, 1}}) {
    const Problem<Cpu> p(z, 31);
    const Reals y = p.forward(), dx = p.backward(), dw = p.by_weight();
    for (int threads : {1, 3, 4, 8}) {
      cpu::Stream s{threads};
      Reals packed(p.packed[0].size(), poison), y2(y.size()), dx2(dx.size()), dw2(dw.size());
      k::conv_pack(s, p.weight.data(), z, false, packed.data());
      k::conv(s, p.x.data(), packed.data(), z, {}, y2.data());
      k::conv_bwd(s, p.dy.data(), p.packed[1].data(), z, {}, dx2.data());
      k::conv_bwd_weight(s, p.x.data(), p.dy.data(), z, dw2.data());
      expect_same_bits(y2, y, "forward" + name_of(z));
      expect_same_bits(dx2, dx, "backward" + name_of(z));
      expect_same_bits(dw2, dw, "by weight" + name_of(z));
    }
  }
}

// A NaN reaches what reads it, of its own group, and nothing else.
TYPED_TEST(KernelsConv, nan_reaches_what_reads_it_only) {
  for (const ConvSize& z :
       {ConvSize{2, 5, 4, 6, 8, 2, 3, 3, 1, 1, 1}, ConvSize{2, 5, 4, 7, 7, 7, 3, 3, 2, 1, 1},
        ConvSize{2, 4, 3, 20, 20, 5, 3, 3, 2, 1, 1}}) {
    Problem<TypeParam> p(z, 41);
    const size_t at = p.x.size() / 3, at_dy = p.dy.size() / 3;
    p.x[at] = p.dy[at_dy] = poison;
    std::vector<bool> reads(p.dy.size(), false), gives(p.x.size(), false);
    each_term(z, [&](size_t in, size_t out, size_t) {
      if (in == at) reads[out] = true;
      if (out == at_dy) gives[in] = true;
    });
    const Reals y = p.forward(), dx = p.backward();
    for (size_t i = 0; i < y.size(); ++i) EXPECT_EQ(std::isnan(y[i]), reads[i]) << i << name_of(z);
    for (size_t i = 0; i < dx.size(); ++i)
      EXPECT_EQ(std::isnan(dx[i]), gives[i]) << i << name_of(z);
  }
}

TYPED_TEST(KernelsConv, batch_norm_scales_and_shifts_channels) {
  for (int64_t rows : {0, 1, 7})
    for (int64_t cols : {1, 5, 37}) {
      const Reals x = noise(rows * cols, 1, 3), weight = noise(cols, 2), bias = noise(cols, 3),
                  mean = noise(cols, 4);
      Reals variance = noise(cols, 5), y(x.size(), poison), dx(x.size(), poison),
            scale(size_t(cols), poison);
      for (real& v : variance) v = v * v;
      const real e = real(1e-3);
      TypeParam::run([&](auto& s) {
        k::batch_norm(s, x.data(), weight.data(), bias.data(), mean.data(), variance.data(), e,
                      rows, cols, y.data());
        k::batch_norm_bwd(s, x.data(), weight.data(), variance.data(), e, rows, cols, dx.data());
        k::norm_scale(s, weight.data(), variance.data(), e, cols, scale.data());
      });
      Bounded want(x.size()), slope(x.size());
      for (size_t i = 0; i < x.size(); ++i) {
        const size_t c = i % size_t(cols);
        const double factor = weight[c] / std::sqrt(double(variance[c]) + e);
        want.value[i] = (double(x[i]) - mean[c]) * factor + bias[c];
        want.error[i] = 8 * eps * (std::abs(factor) * 4 + 1);
        slope.value[i] = x[i] * factor;
        slope.error[i] = 8 * eps * std::abs(slope.value[i]);
        if (i < size_t(cols)) {
          EXPECT_NEAR(scale[c], factor, 8 * eps * std::abs(factor));
        }
      }
      expect_within(y, want, "forward");
      expect_within(dx, slope, "backward");
    }
}

}  // namespace
}  // namespace whence
