// Pooling over windows of channels-last images.
#include "kernels/pool.h"

#include "runtime/ops/elementwise.h"
#include "whence/rules.h"

namespace whence {
namespace {

// Windows of `size` elements, the last one only partly inside the padded axis where `ceil`, but
// none that begins beyond the axis and the padding before it.
int64_t windows_along(int64_t size, const PoolWindow& w) {
  const int64_t room = size + 2 * w.pad - w.size;
  if (room < 0) return w.ceil && size > 0 && room > -w.stride ? 1 : 0;
  const int64_t count = (room + (w.ceil ? w.stride - 1 : 0)) / w.stride + 1;
  return (count - 1) * w.stride >= size + w.pad ? count - 1 : count;
}

k::PoolSize pool_size(const Shape& x, const PoolWindow& w) {
  return {x[0],   x[1],     x[2], x[3], windows_along(x[1], w), windows_along(x[2], w),
          w.size, w.stride, w.pad};
}

struct Pool : Op {
  explicit Pool(PoolWindow w) : window(w) {}
  Traits traits() const override { return {.non_negative = Traits::if_inputs_are}; }
  std::string detail() const override {
    return fmt::format("{}x{} stride={} pad={}{}", window.size, window.size, window.stride,
                       window.pad, window.ceil ? " ceil" : "");
  }
  std::vector<Type> infer(std::span<const Type> in) const override {
    expect_real(kind(), in);
    const Shape& x = in[0].shape;
    if (x.rank() != 4) fail_shape("{}: {} is not [B, H, W, C]", kind(), to_string(x));
    if (window.size < 1 || window.stride < 1 || window.pad < 0 || 2 * window.pad > window.size)
      fail_shape("{}: windows of {} (the padding is at most half a window)", kind(), detail());
    const k::PoolSize z = pool_size(x, window);
    if (z.out_height < 1 || z.out_width < 1)
      fail_shape("{}: windows of {} do not fit into {}x{}", kind(), detail(), z.height, z.width);
    return {Type{{x[0], z.out_height, z.out_width, x[3]}}};
  }
  PoolWindow window;
};

// Inputs x, dy.
struct MaxPoolGrad final : Op {
  explicit MaxPoolGrad(PoolWindow w) : window(w) {}
  std::string_view kind() const override { return "max_pool_bwd"; }
  std::vector<Type> infer(std::span<const Type> in) const override { return {in[0]}; }
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override {
    on(s, [&](auto& q) {
      k::max_pool_bwd(q, in[0].in(), in[1].in(), pool_size(in[0].shape(), window), out[0].out());
    });
  }
  PoolWindow window;
};

// The same with Rescale; behind the samples that dy has, x has their references.
struct MaxPoolRescale final : Op {
  MaxPoolRescale(PoolWindow w, double e) : window(w), epsilon(e) {}
  std::string_view kind() const override { return "max_pool_rescale"; }
  std::vector<Type> infer(std::span<const Type> in) const override {
    return {Type{in[0].shape.with(0, in[1].shape[0])}};
  }
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override {
    const References r(in[0], in[1]);
    on(s, [&](auto& q) {
      k::max_pool_rescale(q, real(epsilon), in[0].in(), r.first, r.count, in[1].in(),
                          pool_size(out[0].shape(), window), out[0].out());
    });
  }
  PoolWindow window;
  double epsilon;
};

struct MaxPool final : Pool {
  using Pool::Pool;
  std::string_view kind() const override { return "max_pool"; }
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override {
    on(s, [&](auto& q) {
      k::max_pool(q, in[0].in(), pool_size(in[0].shape(), window), out[0].out());
    });
  }
  Values vjp(const Emit& e, std::span<const Value> dy) const override {
    return {emit<MaxPoolGrad>({e.in(0), dy[0]}, window)};
  }
  Values vjp_by(const Emit& e, const GradientRule& rule, Value dy) const override {
    if (const auto* rescale = std::get_if<rule::Rescale>(&rule))
      return {emit<MaxPoolRescale>({e.whole(0), dy}, window, rescale->epsilon)};
    return Op::vjp_by(e, rule, dy);
  }
  // Pass: the winner takes all.
  Values relprop(const RelevanceEmit& e, const RelevanceRule& rule, Value r) const override {
    if (std::holds_alternative<rule::Pass>(rule)) return vjp(e, {&r, 1});
    return Op::relprop(e, rule, r);
  }
};

// Input dy; the result has shape `image`.
struct AveragePoolGrad final : Op {
  AveragePoolGrad(PoolWindow w, bool padding, Shape x)
      : window(w), count_padding(padding), image(x) {}
  std::string_view kind() const override { return "average_pool_bwd"; }
  std::vector<Type> infer(std::span<const Type>) const override { return {Type{image}}; }
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override {
    on(s, [&](auto& q) {
      k::average_pool_bwd(q, in[0].in(), pool_size(image, window), count_padding, out[0].out());
    });
  }
  PoolWindow window;
  bool count_padding;
  Shape image;
};

struct AveragePool final : Pool {
  AveragePool(PoolWindow w, bool padding) : Pool(w), count_padding(padding) {}
  std::string_view kind() const override { return "average_pool"; }
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override {
    on(s, [&](auto& q) {
      k::average_pool(q, in[0].in(), pool_size(in[0].shape(), window), count_padding, out[0].out());
    });
  }
  Values vjp(const Emit& e, std::span<const Value> dy) const override {
    return {emit<AveragePoolGrad>({dy[0]}, window, count_padding, e.in(0).shape())};
  }
  bool count_padding;
};

}  // namespace

Value max_pool(Value x, PoolWindow window) { return emit<MaxPool>({x}, window); }
Value average_pool(Value x, PoolWindow window, bool count_padding) {
  return emit<AveragePool>({x}, window, count_padding);
}

}  // namespace whence
