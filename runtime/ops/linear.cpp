#include "runtime/ops/linear.h"

#include "kernels/elementwise.h"
#include "runtime/ops/product_relevance.h"

namespace whence {
namespace {

constexpr const char* unpacked = "a plan packs the weights of every product before it runs";

}  // namespace

std::vector<Type> Linear::infer(std::span<const Type> in) const {
  expect_real(kind(), in);
  const Shape &x = in[0].shape, &w = in[1].shape;
  if (w.rank() != 2 || x.rank() < 1 || x[-1] != w[1])
    fail_shape("linear: the input {} and the weight {} do not fit (the last sizes must agree)",
               to_string(x), to_string(w));
  if (in.size() > 2 && in[2].shape != Shape{w[0]})
    fail_shape("linear: the bias has shape {}, [{}] is needed", to_string(in[2].shape), w[0]);
  return {Type{x.with(-1, w[0])}};
}

void Linear::run(Stream&, std::span<const View>, std::span<const View>) const {
  fail(ErrorCode::internal, "{}", unpacked);
}

Values Linear::vjp(const Emit& e, std::span<const Value> dy) const {
  Values d(e.wanted.size());
  if (e.wants(0)) d[0] = emit<LinearGrad>({dy[0], e.in(1)});
  if (e.wants(1)) {
    const Value x = e.in(0);
    const Value x2 = reshape(x, {rows(x.shape()), last(x.shape())});
    const Value dy2 = reshape(dy[0], {rows(dy[0].shape()), last(dy[0].shape())});
    d[1] = einsum(dy2, x2, "ro,rc->oc");
  }
  if (d.size() > 2 && e.wants(2)) {
    std::vector<int> axes;
    for (int i = 0; i + 1 < dy[0].shape().rank(); ++i) axes.push_back(i);
    d[2] = axes.empty() ? dy[0] : sum(dy[0], axes);
  }
  return d;
}

Values Linear::relprop(const RelevanceEmit& e, const RelevanceRule& rule, Value r) const {
  Values all(e.wanted.size());
  all[0] = product_relevance(e,
                             product_of(
                                 e, [](Value x, Value w, Value b) { return linear(x, w, b); },
                                 [](Value s, Value w) {
                                   return emit<LinearGrad>({s, w});
                                 }),
                             rule, r);
  return all;
}

RowFlow Linear::row_flow(std::span<const Type> in) const {
  if (in[0].shape.rank() < 3) return {};
  return {RowFlow::by_row, 1, in.size() > 2 ? 0u : 1u, false, 1, 0};
}

std::vector<Type> LinearGrad::infer(std::span<const Type> in) const {
  const Shape &dy = in[0].shape, &w = in[1].shape;
  if (dy[-1] != w[0]) fail_shape("linear_bwd: {} and {} do not fit", to_string(dy), to_string(w));
  return {Type{dy.with(-1, w[1])}};
}

void LinearGrad::run(Stream&, std::span<const View>, std::span<const View>) const {
  fail(ErrorCode::internal, "{}", unpacked);
}

RowFlow LinearGrad::row_flow(std::span<const Type> in) const {
  if (in[0].shape.rank() < 3) return {};
  return {RowFlow::by_row, 1, 1, false, 1, 0};
}

std::vector<Type> WeightPart::infer(std::span<const Type> in) const {
  expect_real(kind(), in);
  return {in[0]};
}

// min(w, 0) = -max(-w, 0)
void WeightPart::run(Stream& s, std::span<const View> in, std::span<const View> out) const {
  const int64_t n = in[0].count();
  real* to = out[0].out();
  on(s, [&](auto& q) {
    if (part == k::Part::positive) return k::unary(q, k::Relu{}, in[0].in(), n, to);
    k::affine(q, in[0].in(), -1, 0, n, to);
    k::unary(q, k::Relu{}, to, n, to);
    k::affine(q, to, -1, 0, n, to);
  });
}

std::vector<Type> Pack::infer(std::span<const Type> in) const {
  const Shape& w = in[0].shape;
  return {Type{Shape{transposed ? k::packed_count(w[1], w[0]) : k::packed_count(w[0], w[1])}}};
}

void Pack::run(Stream& s, std::span<const View> in, std::span<const View> out) const {
  const int64_t o = in[0].shape()[0], c = in[0].shape()[1];
  on(s, [&](auto& q) {
    if (transposed)
      k::pack(q, in[0].in(), c, o, 1, c, out[0].out());
    else
      k::pack(q, in[0].in(), o, c, c, 1, out[0].out());
  });
}

std::string PackedProduct::detail() const {
  std::string text = fmt::format("n={}", n);
  if (part != k::Part::all) text += part == k::Part::positive ? " W+" : " W-";
  if (bias) text += " + bias";
  if (residual && residual_first) text += " + residual";
  if (activation != k::Identity{}) text += fmt::format(" + {}", facts_of(activation).name);
  if (residual && !residual_first) text += " + residual";
  return text;
}

std::vector<Type> PackedProduct::infer(std::span<const Type> in) const {
  return {Type{in[0].shape.with(-1, n)}};
}

void PackedProduct::run(Stream& s, std::span<const View> in, std::span<const View> out) const {
  k::Epilogue epilogue;
  size_t next = 2;
  if (bias) epilogue.bias = in[next++].in();
  if (residual) epilogue.residual = in[next].in();
  epilogue.activation = activation;
  epilogue.residual_first = residual_first;
  const int64_t c = last(in[0].shape());
  on(s, [&](auto& q) {
    k::part_product(q, part, in[0].in(), c, in[1].in(), rows(in[0].shape()), n, c, epilogue,
                    out[0].out(), n);
  });
}

double PackedProduct::flops(std::span<const Type> in, std::span<const Type> out) const {
  return 2.0 * double(out[0].shape.count()) * double(last(in[0].shape));
}

Value positive_part(Value weight) { return emit<WeightPart>({weight}, k::Part::positive); }
Value negative_part(Value weight) { return emit<WeightPart>({weight}, k::Part::negative); }

Value linear(Value x, Value weight, Value bias) {
  Values in{x, weight};
  if (bias) in.push_back(bias);
  return emit<Linear>(std::move(in));
}

}  // namespace whence
