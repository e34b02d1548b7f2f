#include "runtime/ops/conv.h"

#include "kernels/elementwise.h"
#include "runtime/ops/product_relevance.h"
#include "whence/rules.h"

namespace whence {
namespace {

constexpr const char* unpacked = "a plan packs the weights of every convolution before it runs";

std::string text_of(const Window& w) {
  return fmt::format("stride={} pad={} dilation={}", w.stride, w.pad, w.dilation);
}

// dweight. Inputs x, dy.
struct ConvGradWeight final : Op {
  ConvGradWeight(Window w, Shape of_weight) : window(w), weight(of_weight) {}
  std::string_view kind() const override { return "conv2d_bwd_weight"; }
  std::vector<Type> infer(std::span<const Type>) const override { return {Type{weight}}; }
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override {
    const k::ConvSize size = conv_size(in[0].shape(), weight, window);
    on(s, [&](auto& q) { k::conv_bwd_weight(q, in[0].in(), in[1].in(), size, out[0].out()); });
  }
  double flops(std::span<const Type> in, std::span<const Type>) const override {
    return 2.0 * double(in[1].shape.count()) * double(weight.count(1, 4));
  }
  Window window;
  Shape weight;
};

// [B, C, H, W] to [B, H, W, C], or back.
struct ChannelsLast final : Op {
  explicit ChannelsLast(bool back) : inverse(back) {}
  std::string_view kind() const override { return inverse ? "channels_first" : "channels_last"; }
  Traits traits() const override { return {.move = true}; }
  std::vector<Type> infer(std::span<const Type> in) const override {
    expect_real(kind(), in);
    const Shape& x = in[0].shape;
    if (x.rank() != 4) fail_shape("{}: {} does not have four axes", kind(), to_string(x));
    if (inverse) return {Type{{x[0], x[3], x[1], x[2]}}};
    return {Type{{x[0], x[2], x[3], x[1]}}};
  }
  // A copy that steps through x in the order of the result.
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override {
    const Shape &x = in[0].shape(), &y = out[0].shape();
    const int64_t b = x[1] * x[2] * x[3], row = x[2] * x[3], col = x[3];
    k::Broadcast space;
    space.size = {1, y[0], y[1], y[2], y[3]};
    space.a = inverse ? std::array<int64_t, 5>{0, b, 1, row, col}
                      : std::array<int64_t, 5>{0, b, col, 1, row};
    space.b = space.a;
    on(s, [&](auto& q) {
      k::binary(q, k::Binary::first, in[0].in(), in[0].in(), space, out[0].out());
    });
  }
  Values vjp(const Emit&, std::span<const Value> dy) const override {
    return {emit<ChannelsLast>({dy[0]}, !inverse)};
  }
  bool inverse;
};

}  // namespace

k::ConvSize conv_size(const Shape& x, const Shape& weight, const Window& window) {
  k::ConvSize z;
  z.batch = x[0], z.height = x[1], z.width = x[2], z.channels = x[3];
  z.outputs = weight[0], z.groups = weight[1] > 0 ? x[3] / weight[1] : 1;
  z.kernel_height = weight[2], z.kernel_width = weight[3];
  z.stride = window.stride, z.pad = window.pad, z.dilation = window.dilation;
  return z;
}

std::string Conv::detail() const { return text_of(window); }

std::vector<Type> Conv::infer(std::span<const Type> in) const {
  expect_real(kind(), in);
  const Shape &x = in[0].shape, &w = in[1].shape;
  if (x.rank() != 4 || w.rank() != 4 || w[1] < 1 || x[3] % w[1] != 0 || x[3] < 1)
    fail_shape(
        "conv2d: the input {} ([B, H, W, C]) and the weight {} ([O, C/groups, kh, kw]) do "
        "not fit",
        to_string(x), to_string(w));
  const k::ConvSize z = conv_size(x, w, window);
  if (z.outputs % z.groups != 0)
    fail_shape("conv2d: {} outputs do not divide into {} groups", z.outputs, z.groups);
  if (in.size() > 2 && in[2].shape != Shape{w[0]})
    fail_shape("conv2d: the bias has shape {}, [{}] is needed", to_string(in[2].shape), w[0]);
  if (window.stride < 1 || window.pad < 0 || window.dilation < 1 || z.taps() < 1)
    fail_shape("conv2d: a window with {} and a kernel of {}x{}", text_of(window), z.kernel_height,
               z.kernel_width);
  if (z.out_height() < 1 || z.out_width() < 1)
    fail_shape("conv2d: a {}x{} kernel with {} does not fit into {}x{}", z.kernel_height,
               z.kernel_width, text_of(window), z.height, z.width);
  return {Type{{z.batch, z.out_height(), z.out_width(), z.outputs}}};
}

void Conv::run(Stream&, std::span<const View>, std::span<const View>) const {
  fail(ErrorCode::internal, "{}", unpacked);
}

Values Conv::vjp(const Emit& e, std::span<const Value> dy) const {
  Values d(e.wanted.size());
  if (e.wants(0)) d[0] = emit<ConvGrad>({dy[0], e.in(1)}, window, e.in(0).shape());
  if (e.wants(1)) d[1] = emit<ConvGradWeight>({e.in(0), dy[0]}, window, e.in(1).shape());
  if (d.size() > 2 && e.wants(2)) d[2] = sum(dy[0], {0, 1, 2});
  return d;
}

Values Conv::relprop(const RelevanceEmit& e, const RelevanceRule& rule, Value r) const {
  const Product p = product_of(
      e, [this](Value x, Value w, Value b) { return conv2d(x, w, b, window); },
      [&](Value s, Value w) {
        return emit<ConvGrad>({s, w}, window, e.in(0).shape());
      });
  Values all(e.wanted.size());
  all[0] = product_relevance(e, p, rule, r);
  return all;
}

std::vector<Type> ConvGrad::infer(std::span<const Type> in) const {
  const k::ConvSize z = conv_size(image, in[1].shape, window);
  if (in[0].shape != Shape{z.batch, z.out_height(), z.out_width(), z.outputs})
    fail_shape("conv2d_bwd: {} and {} do not fit", to_string(in[0].shape), to_string(in[1].shape));
  return {Type{image}};
}

void ConvGrad::run(Stream&, std::span<const View>, std::span<const View>) const {
  fail(ErrorCode::internal, "{}", unpacked);
}

// What the packed order depends on, besides the weight.
std::string ConvPack::detail() const {
  return fmt::format("{} groups={} {}", backward ? "backward" : "forward", size.groups,
                     text_of({size.stride, size.pad, size.dilation}));
}

std::vector<Type> ConvPack::infer(std::span<const Type>) const {
  return {Type{Shape{k::conv_packed_count(size)}}};
}

void ConvPack::run(Stream& s, std::span<const View> in, std::span<const View> out) const {
  on(s, [&](auto& q) { k::conv_pack(q, in[0].in(), size, backward, out[0].out()); });
}

std::string PackedConv::detail() const {
  std::string text = fmt::format("{}x{} {} groups={} n={}", size.kernel_height, size.kernel_width,
                                 text_of({size.stride, size.pad, size.dilation}), size.groups,
                                 backward ? size.channels : size.outputs);
  if (bias) text += " + bias";
  if (residual && residual_first) text += " + residual";
  if (activation != k::Identity{}) text += fmt::format(" + {}", facts_of(activation).name);
  if (residual && !residual_first) text += " + residual";
  return text;
}

std::vector<Type> PackedConv::infer(std::span<const Type>) const {
  if (backward) return {Type{{size.batch, size.height, size.width, size.channels}}};
  return {Type{{size.batch, size.out_height(), size.out_width(), size.outputs}}};
}

void PackedConv::run(Stream& s, std::span<const View> in, std::span<const View> out) const {
  k::Epilogue epilogue;
  size_t next = 2;
  if (bias) epilogue.bias = in[next++].in();
  if (residual) epilogue.residual = in[next].in();
  epilogue.activation = activation;
  epilogue.residual_first = residual_first;
  on(s, [&](auto& q) {
    if (backward)
      k::conv_bwd(q, in[0].in(), in[1].in(), size, epilogue, out[0].out());
    else
      k::conv(q, in[0].in(), in[1].in(), size, epilogue, out[0].out());
  });
}

double PackedConv::flops(std::span<const Type>, std::span<const Type>) const {
  const int64_t pixels = size.batch * size.out_height() * size.out_width();
  return 2.0 * double(pixels * size.outputs) * double(size.channels / size.groups * size.taps());
}

std::vector<Type> BatchNorm::infer(std::span<const Type> in) const {
  expect_real(kind(), in);
  const Shape width{last(in[0].shape)};
  for (size_t i = 1; i < 5; ++i)
    if (in[i].shape != width)
      fail_shape("batch_norm: weight {}, bias {}, mean {} and variance {} for {} channels",
                 to_string(in[1].shape), to_string(in[2].shape), to_string(in[3].shape),
                 to_string(in[4].shape), width[0]);
  return {in[0]};
}

void BatchNorm::run(Stream& s, std::span<const View> in, std::span<const View> out) const {
  on(s, [&](auto& q) {
    k::batch_norm(q, in[0].in(), in[1].in(), in[2].in(), in[3].in(), in[4].in(), eps,
                  rows(in[0].shape()), last(in[0].shape()), out[0].out());
  });
}

// With n = (x - mean) / sqrt(variance + eps): dx = dy weight / sqrt(variance + eps), dweight = dy
// n, dbias = dy, dmean = -dx, dvariance = -dy n weight / (2 (variance + eps)). All are those of
// each row; the caller sums what belongs to a channel.
Values BatchNorm::vjp(const Emit& e, std::span<const Value> dy) const {
  const Value weight = e.in(1), mean = e.in(3), variance = e.in(4);
  Values d(5);
  if (e.wants(0) || e.wants(3)) d[0] = emit<BatchNormGrad>({dy[0], weight, variance}, eps);
  if (e.wants(1) || e.wants(4)) {
    const Value one = affine(weight, 0, 1), zero = scale(weight, 0);
    d[1] = mul(dy[0], batch_norm(e.in(0), one, zero, mean, variance, eps));
  }
  if (e.wants(2)) d[2] = dy[0];
  if (e.wants(3)) d[3] = scale(d[0], -1);
  if (e.wants(4)) d[4] = mul(d[1], div(scale(weight, real(-0.5)), affine(variance, 1, eps)));
  return d;
}

// Norm: x w (r / (x w)) with w the scale of each channel; the shift has no share. Epsilon: the
// shift is part of the denominator.
Values BatchNorm::relprop(const RelevanceEmit& e, const RelevanceRule& rule, Value r) const {
  const auto* norm = std::get_if<rule::Norm>(&rule);
  if (!norm) {
    const Values parts = Op::relprop(e, rule, r);
    if (const auto* epsilon = std::get_if<rule::Epsilon>(&rule); epsilon && e.absorbed)
      *e.absorbed = sub(mul(e.out(), divide(r, e.out(), epsilon->by)), parts[0]);
    return parts;
  }
  const Value scaled = emit<BatchNormGrad>({e.in(0), e.in(1), e.in(4)}, eps);
  return {mul(scaled, divide(r, scaled, norm->by))};
}

void BatchNormGrad::run(Stream& s, std::span<const View> in, std::span<const View> out) const {
  on(s, [&](auto& q) {
    k::batch_norm_bwd(q, in[0].in(), in[1].in(), in[2].in(), eps, rows(in[0].shape()),
                      last(in[0].shape()), out[0].out());
  });
}

void NormScale::run(Stream& s, std::span<const View> in, std::span<const View> out) const {
  on(s,
     [&](auto& q) { k::norm_scale(q, in[0].in(), in[1].in(), eps, in[0].count(), out[0].out()); });
}

Value channels_last(Value image) { return emit<ChannelsLast>({image}, false); }
Value conv2d(Value x, Value weight, Value bias, Window window) {
  Values in{x, weight};
  if (bias) in.push_back(bias);
  return emit<Conv>(std::move(in), window);
}
Value batch_norm(Value x, Value weight, Value bias, Value mean, Value variance, real epsilon) {
  return emit<BatchNorm>({x, weight, bias, mean, variance}, epsilon);
}

}  // namespace whence
