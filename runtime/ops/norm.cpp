// Layer norm, softmax, log-softmax and what is built from them.
#include "runtime/ops/norm.h"

#include "kernels/elementwise.h"
#include "kernels/rows.h"
#include "runtime/ops/op_common.h"
#include "whence/rules.h"

namespace whence {
namespace {

RowFlow rowed(const Shape& s, unsigned inputs, unsigned zero) {
  if (s.rank() < 3) return {};
  return {RowFlow::by_row, inputs, zero, false, 1, 0};
}

struct LayerNormGrad final : Op {
  explicit LayerNormGrad(real epsilon) : eps(epsilon) {}
  std::string_view kind() const override { return "layer_norm_bwd"; }
  std::vector<Type> infer(std::span<const Type> in) const override { return {in[0]}; }
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override {
    on(s, [&](auto& q) {
      k::layer_norm_bwd(q, in[0].in(), in[1].in(), in[2].in(), eps, rows(in[0].shape()),
                        last(in[0].shape()), out[0].out());
    });
  }
  RowFlow row_flow(std::span<const Type> in) const override { return rowed(in[0].shape, 5, 4); }
  int may_overwrite() const override { return 2; }
  real eps;
};

struct LayerNormGradWeight final : Op {
  explicit LayerNormGradWeight(real epsilon) : eps(epsilon) {}
  std::string_view kind() const override { return "layer_norm_bwd_weight"; }
  std::vector<Type> infer(std::span<const Type> in) const override {
    return {Type{Shape{last(in[0].shape)}}};
  }
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override {
    on(s, [&](auto& q) {
      k::layer_norm_bwd_weight(q, in[0].in(), in[1].in(), eps, rows(in[0].shape()),
                               last(in[0].shape()), out[0].out());
    });
  }
  real eps;
};

struct LayerNorm final : Op {
  explicit LayerNorm(real epsilon) : eps(epsilon) {}
  std::string_view kind() const override { return "layer_norm"; }
  std::string detail() const override { return fmt::format("eps={}", eps); }
  std::vector<Type> infer(std::span<const Type> in) const override {
    expect_real(kind(), in);
    const Shape width{last(in[0].shape)};
    if (in[1].shape != width || in[2].shape != width)
      fail_shape("layer_norm: weight {} and bias {} for rows of {}", to_string(in[1].shape),
                 to_string(in[2].shape), width[0]);
    return {in[0]};
  }
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override {
    on(s, [&](auto& q) {
      k::layer_norm(q, in[0].in(), in[1].in(), in[2].in(), eps, rows(in[0].shape()),
                    last(in[0].shape()), out[0].out());
    });
  }
  Values vjp(const Emit& e, std::span<const Value> dy) const override {
    Values d(3);
    if (e.wants(0)) d[0] = emit<LayerNormGrad>({e.in(0), e.in(1), dy[0]}, eps);
    if (e.wants(1)) d[1] = emit<LayerNormGradWeight>({e.in(0), dy[0]}, eps);
    if (e.wants(2)) {
      std::vector<int> axes;
      for (int i = 0; i + 1 < dy[0].shape().rank(); ++i) axes.push_back(i);
      d[2] = axes.empty() ? dy[0] : sum(dy[0], axes);
    }
    return d;
  }
  // Epsilon: y = g (x - mean) / s + bias with the deviation s constant, so that R_x = x J r' with
  // r' = R / y and J r' = (g r' - mean(g r')) / s. The ordinary gradient has the deviation's part
  // in addition, -(x - mean) / s^2 mean(r' g (x - mean) / s), where g (x - mean) / s is y - bias.
  Values relprop(const RelevanceEmit& e, const RelevanceRule& rule, Value r) const override {
    const auto* epsilon = std::get_if<rule::Epsilon>(&rule);
    if (!epsilon) return Op::relprop(e, rule, r);
    const Value x = e.in(0), share = divide(r, e.out(), epsilon->by);
    if (e.absorbed) *e.absorbed = mul(share, e.in(2));
    const int axis = x.shape().rank() - 1;
    const auto row_mean = [&](Value v) { return reshape(mean(v, {axis}), v.shape().with(-1, 1)); };
    const Value centred = sub(x, row_mean(x));
    const Value variance = affine(row_mean(mul(centred, centred)), 1, eps);
    const Value slope = row_mean(mul(share, sub(e.out(), e.in(2))));
    const Value back = emit<LayerNormGrad>({x, e.in(1), share}, eps);
    return {mul(x, add(back, mul(centred, div(slope, variance))))};
  }
  RowFlow row_flow(std::span<const Type> in) const override { return rowed(in[0].shape, 1, 0); }
  real eps;
};

struct SoftmaxGrad final : Op {
  explicit SoftmaxGrad(bool log_) : log(log_) {}
  std::string_view kind() const override { return log ? "log_softmax_bwd" : "softmax_bwd"; }
  std::vector<Type> infer(std::span<const Type> in) const override { return {in[0]}; }
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override {
    const int64_t r = rows(in[0].shape()), c = last(in[0].shape());
    on(s, [&](auto& q) {
      if (log)
        k::log_softmax_bwd(q, in[0].in(), in[1].in(), r, c, out[0].out());
      else
        k::softmax_bwd(q, in[0].in(), in[1].in(), r, c, out[0].out());
    });
  }
  RowFlow row_flow(std::span<const Type> in) const override { return rowed(in[0].shape, 3, 2); }
  int may_overwrite() const override { return 1; }
  bool log;
};

struct Softmax final : Op {
  explicit Softmax(bool log_) : log(log_) {}
  std::string_view kind() const override { return log ? "log_softmax" : "softmax"; }
  Traits traits() const override {
    return {.non_negative = log ? Traits::unknown : Traits::always};
  }
  std::vector<Type> infer(std::span<const Type> in) const override {
    expect_real(kind(), in);
    return {in[0]};
  }
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override {
    const int64_t r = rows(in[0].shape()), c = last(in[0].shape());
    on(s, [&](auto& q) {
      if (log)
        k::log_softmax(q, in[0].in(), r, c, out[0].out());
      else
        k::softmax(q, in[0].in(), r, c, out[0].out());
    });
  }
  // Both Jacobians need the output only.
  Values vjp(const Emit& e, std::span<const Value> dy) const override {
    return {emit<SoftmaxGrad>({e.out(), dy[0]}, log)};
  }
  Values relprop(const RelevanceEmit& e, const RelevanceRule& rule, Value r) const override {
    if (log || !std::holds_alternative<rule::Taylor>(rule)) return Op::relprop(e, rule, r);
    return {softmax_relevance(e.in(0), e.out(), r)};
  }
  RowFlow row_flow(std::span<const Type> in) const override { return rowed(in[0].shape, 1, 0); }
  int may_overwrite() const override { return 0; }
  bool log;
};

// The largest element of each sample.
struct Largest final : Op {
  std::string_view kind() const override { return "largest"; }
  std::vector<Type> infer(std::span<const Type> in) const override {
    expect_real(kind(), in);
    if (in[0].shape.rank() < 1) fail_shape("largest: a scalar has no samples");
    return {Type{Shape{in[0].shape[0]}}};
  }
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override {
    const Shape& x = in[0].shape();
    on(s,
       [&](auto& q) { k::row_largest(q, in[0].in(), x[0], x.count(1, x.rank()), out[0].out()); });
  }
};

}  // namespace

Value softmax_relevance(Value x, Value y, Value r) {
  const Shape& s = y.shape();
  const Value whole = reshape(sum(r, {s.rank() - 1}), s.with(-1, 1));
  return mul(x, sub(r, mul(y, whole)));
}

Value layer_norm(Value x, Value weight, Value bias, real epsilon) {
  return emit<LayerNorm>({x, weight, bias}, epsilon);
}
Value largest(Value x) { return emit<Largest>({x}); }
Value softmax(Value x) { return emit<Softmax>({x}, false); }
Value log_softmax(Value x) { return emit<Softmax>({x}, true); }

Value cross_entropy(Value logits, Value target) {
  if (logits.shape().rank() != 2 || logits.shape() != target.shape())
    fail_shape("cross_entropy: logits {} and targets {} must both be [B, K]",
               to_string(logits.shape()), to_string(target.shape()));
  return scale(sum(mul(log_softmax(logits), target), {1}), -1);
}

}  // namespace whence
