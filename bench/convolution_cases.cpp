// Kernels at the sizes of ResNet-50, 224 x 224 pixels: every shape of convolution that occurs in
// it, forward and backward, and what stands between them.
#include <algorithm>

#include "bench/measure.h"
#include "kernels/conv.h"
#include "kernels/pool.h"
#include "models/cnn/cnn.h"

namespace whence::bench {
namespace {

std::string name_of(const k::ConvSize& z) {
  const auto text = [](int64_t i) { return std::to_string(i); };
  return text(z.kernel_height) + "x" + text(z.kernel_width) + "/stride:" + text(z.stride) + "/" +
         text(z.height) + "x" + text(z.width) + "x" + text(z.channels) + "-" + text(z.outputs);
}

}  // namespace

// Smoke: an eighth of the height and width, a sixteenth of the channels, and no
// shapes beyond the first two stages.
std::vector<k::ConvSize> convolution_shapes(bool smoke) {
  const ResNetConfig net;
  const int64_t less = smoke ? 16 : 1;
  std::vector<k::ConvSize> out;
  const auto put = [&](int64_t side, int64_t from, int64_t to, int64_t kernel, int64_t stride) {
    k::ConvSize z;
    z.batch = 1, z.height = z.width = side;
    z.channels = from, z.outputs = to;
    z.kernel_height = z.kernel_width = kernel;
    z.stride = stride, z.pad = kernel / 2;
    const auto same = [&](const k::ConvSize& y) { return name_of(y) == name_of(z); };
    if (std::none_of(out.begin(), out.end(), same)) out.push_back(z);
  };
  int64_t side = smoke ? 28 : 224, from = net.stem / less;
  put(side, 3, from, 7, 2);
  side /= 4;
  for (const ResNetConfig::Layer& layer : net.layers) {
    const int64_t inner = layer.inner / less, outer = layer.outer / less;
    put(side, from, inner, 1, 1);
    put(side, inner, inner, 3, layer.stride);
    put(side, from, outer, 1, layer.stride);  // the shortcut
    side = (side + layer.stride - 1) / layer.stride;
    put(side, inner, outer, 1, 1);
    put(side, outer, inner, 1, 1);
    put(side, inner, inner, 3, 1);
    from = outer;
    if (smoke && layer.stride == 2) break;
  }
  return out;
}

namespace {

Operand weights(Operands& o, const k::ConvSize& z, bool backward) {
  return o.packed(
      z.outputs * z.channels * z.taps(), k::conv_packed_count(z), sizeof(real),
      [=](auto& s, const real* from, real* to) { k::conv_pack(s, from, z, backward, to); });
}

void convolutions(std::vector<Case>& out, k::ConvSize z, int64_t batch) {
  z.batch = batch;
  const int64_t pixels = z.out_height() * z.out_width() * batch, y_count = pixels * z.outputs;
  const int64_t x_count = batch * z.height * z.width * z.channels;
  // a stride beyond the kernel leaves pixels unread
  const int64_t x_read = z.taps() == 1 ? pixels * z.channels : x_count;
  const double flops = 2.0 * double(y_count) * double(z.taps() * z.channels);
  const std::string at = name_of(z) + "/batch:" + std::to_string(batch);
  out.push_back(case_of("conv/" + at, flops, Ways::precisions_and_libraries, [=](Operands& o) {
    const Operand x = o.normal(x_count, x_read), w = weights(o, z, false),
                  bias = o.normal(z.outputs), y = o.room(y_count);
    return [=](auto& s, int64_t t) {
      k::conv(s, x(t), w(t), z, {.bias = bias(t), .activation = k::Relu{}}, y(t));
    };
  }));
  out.push_back(case_of("conv_bwd/" + at, flops, Ways::precisions_and_libraries, [=](Operands& o) {
    const Operand dy = o.normal(y_count), w = weights(o, z, true), dx = o.room(x_count);
    return [=](auto& s, int64_t t) { k::conv_bwd(s, dy(t), w(t), z, {}, dx(t)); };
  }));
  out.push_back(case_of("conv_bwd_weight/" + at, flops, Ways::one, [=](Operands& o) {
    const Operand x = o.normal(x_count, x_read), dy = o.normal(y_count),
                  dw = o.room(z.outputs * z.channels * z.taps());
    return [=](auto& s, int64_t t) { k::conv_bwd_weight(s, x(t), dy(t), z, dw(t)); };
  }));
}

void batch_norms(std::vector<Case>& out, int64_t batch, int64_t side, int64_t cols) {
  const int64_t rows = batch * side * side;
  const real eps = real(1e-5);
  const std::string at = "/" + std::to_string(side) + "x" + std::to_string(side) + "x" +
                         std::to_string(cols) + "/batch:" + std::to_string(batch);
  out.push_back(case_of("batch_norm" + at, 0, Ways::one, [=](Operands& o) {
    const Operand x = o.normal(rows * cols), w = o.normal(cols), b = o.normal(cols),
                  mean = o.normal(cols), variance = o.uniform(cols), y = o.room(rows * cols);
    return [=](auto& s, int64_t t) {
      k::batch_norm(s, x(t), w(t), b(t), mean(t), variance(t), eps, rows, cols, y(t));
    };
  }));
  out.push_back(case_of("batch_norm_bwd" + at, 0, Ways::one, [=](Operands& o) {
    const Operand dy = o.normal(rows * cols), w = o.normal(cols), variance = o.uniform(cols),
                  dx = o.room(rows * cols);
    return [=](auto& s, int64_t t) {
      k::batch_norm_bwd(s, dy(t), w(t), variance(t), eps, rows, cols, dx(t));
    };
  }));
}

void pools(std::vector<Case>& out, int64_t batch, bool smoke) {
  const int64_t half = smoke ? 14 : 112, small = smoke ? 2 : 7, less = smoke ? 16 : 1;
  const k::PoolSize stem{batch, half, half, 64 / less, half / 2, half / 2, 3, 2, 1};
  const k::PoolSize whole{batch, small, small, 2048 / less, 1, 1, small, small, 0};
  const auto count = [](const k::PoolSize& z) {
    return std::pair(z.batch * z.height * z.width * z.channels,
                     z.batch * z.out_height * z.out_width * z.channels);
  };
  const auto pool = [&](const char* name, const k::PoolSize& z, bool reads_x, bool reads_dy,
                        auto call) {
    const auto [from, to] = count(z);
    out.push_back(case_of(name + ("/batch:" + std::to_string(batch)), 0, Ways::one,
                          [=, from = from, to = to](Operands& o) {
                            const Operand x = reads_x ? o.normal(from) : Operand{};
                            const Operand d = reads_dy ? o.normal(to) : Operand{};
                            const Operand y = o.room(reads_dy ? from : to);
                            return [=](auto& s, int64_t t) { call(s, z, x(t), d(t), y(t)); };
                          }));
  };
  using Z = const k::PoolSize&;
  pool("max_pool", stem, true, false,
       [](auto& s, Z z, real* x, real*, real* y) { k::max_pool(s, x, z, y); });
  pool("max_pool_bwd", stem, true, true,
       [](auto& s, Z z, real* x, real* d, real* y) { k::max_pool_bwd(s, x, d, z, y); });
  out.push_back(case_of("max_pool_rescale/batch:" + std::to_string(batch), 0, Ways::one,
                        [=, sizes = count(stem)](Operands& o) {
                          const auto [from, to] = sizes;
                          const Operand x = o.normal(from), x0 = o.normal(from / stem.batch),
                                        d = o.normal(to), y = o.room(from);
                          return [=](auto& s, int64_t t) {
                            k::max_pool_rescale(s, real(1e-10), x(t), x0(t), 1, d(t), stem, y(t));
                          };
                        }));
  pool("average_pool", whole, true, false,
       [](auto& s, Z z, real* x, real*, real* y) { k::average_pool(s, x, z, false, y); });
  pool("average_pool_bwd", whole, false, true,
       [](auto& s, Z z, real*, real* d, real* y) { k::average_pool_bwd(s, d, z, false, y); });
}

}  // namespace

std::vector<Case> convolution_cases(const Setup& setup) {
  std::vector<Case> out;
  for (const int64_t batch : setup.batches) {
    for (const k::ConvSize& z : convolution_shapes(setup.smoke)) convolutions(out, z, batch);
    if (setup.smoke) {
      batch_norms(out, batch, 3, 8);
    } else {
      batch_norms(out, batch, 112, 64);
      batch_norms(out, batch, 56, 256);
      batch_norms(out, batch, 7, 2048);
    }
    pools(out, batch, setup.smoke);
  }
  return out;
}

}  // namespace whence::bench
