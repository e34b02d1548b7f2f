// Elementwise operators. Formulas and derivatives are in kernels/unary.h and kernels/scalar.h.
#include "runtime/ops/elementwise.h"

#include <algorithm>

#include "whence/rules.h"

namespace whence {
namespace {

constexpr const char* division_names[] = {"guarded", "away", "shifted"};

const char* name_of(k::Binary f) {
  switch (f) {
    case k::Binary::add:
      return "add";
    case k::Binary::sub:
      return "sub";
    case k::Binary::mul:
      return "mul";
    case k::Binary::first:
      return "first";
    case k::Binary::div:
      return "div";
  }
  return "";
}

RowFlow all_by_row(const Shape& s, unsigned inputs, unsigned zero) {
  if (!has_rows(s)) return {};
  return {RowFlow::by_row, inputs, zero, false, 1, 0};
}

struct UnaryGrad final : Op {
  explicit UnaryGrad(k::Unary function) : f(function) {}
  std::string_view kind() const override { return "unary_bwd"; }
  std::string detail() const override { return facts_of(f).name; }
  std::vector<Type> infer(std::span<const Type> in) const override { return {in[1]}; }
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override {
    on(s,
       [&](auto& q) { k::unary_bwd(q, f, in[0].in(), in[1].in(), in[0].count(), out[0].out()); });
  }
  RowFlow row_flow(std::span<const Type> in) const override {
    return all_by_row(in[0].shape, 3, 2);
  }
  int may_overwrite() const override { return 1; }
  k::Unary f;
};

// Inputs x, dy; behind the samples that dy has, x has their references.
struct UnaryRescale final : Op {
  UnaryRescale(k::Unary function, double e) : f(function), epsilon(e) {}
  std::string_view kind() const override { return "unary_rescale"; }
  std::string detail() const override { return facts_of(f).name; }
  std::vector<Type> infer(std::span<const Type> in) const override { return {in[1]}; }
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override {
    const References r(in[0], in[1]);
    on(s, [&](auto& q) {
      k::rescale(q, f, real(epsilon), in[0].in(), r.first,
                 r.count * in[0].shape().count(1, in[0].shape().rank()), in[1].in(), in[1].count(),
                 out[0].out());
    });
  }
  RowFlow row_flow(std::span<const Type> in) const override {
    return all_by_row(in[0].shape, 3, 2);
  }
  int may_overwrite() const override { return 1; }
  k::Unary f;
  double epsilon;
};

Shape broadcast_shape(std::string_view kind, const Shape& a, const Shape& b) {
  Shape out = a.rank() >= b.rank() ? a : b;
  for (int i = 1; i <= std::min(a.rank(), b.rank()); ++i) {
    if (a[-i] != b[-i] && a[-i] != 1 && b[-i] != 1)
      fail_shape("{}: shapes {} and {} do not broadcast", kind, to_string(a), to_string(b));
    out[out.rank() - i] = a[-i] == 1 ? b[-i] : a[-i];
  }
  return out;
}

}  // namespace

std::string_view UnaryOp::kind() const { return facts_of(f).name; }

Traits UnaryOp::traits() const {
  const k::Facts facts = facts_of(f);
  return {.activation = facts.activation,
          .rectifier = facts.rectifier,
          .non_negative = facts.non_negative ? Traits::always : Traits::unknown};
}

std::vector<Type> UnaryOp::infer(std::span<const Type> in) const {
  expect_real(kind(), in);
  return {in[0]};
}

void UnaryOp::run(Stream& s, std::span<const View> in, std::span<const View> out) const {
  on(s, [&](auto& q) { k::unary(q, f, in[0].in(), in[0].count(), out[0].out()); });
}

// A rectifier's derivative is the same function of the result and takes that, so that the argument
// need not stay: it may be summed, activated and stored in one step, or in place.
Values UnaryOp::vjp(const Emit& e, std::span<const Value> dy) const {
  return {emit<UnaryGrad>({facts_of(f).rectifier ? e.out() : e.in(0), dy[0]}, f)};
}

Values UnaryOp::vjp_by(const Emit& e, const GradientRule& rule, Value dy) const {
  const bool rectifier = facts_of(f).rectifier;
  if (std::holds_alternative<rule::Guided>(rule) && rectifier) return {relu(vjp(e, {&dy, 1})[0])};
  if (std::holds_alternative<rule::Deconvolution>(rule) && rectifier) return {relu(dy)};
  if (const auto* rescale = std::get_if<rule::Rescale>(&rule))
    return {emit<UnaryRescale>({e.whole(0), dy}, f, rescale->epsilon)};
  return Op::vjp_by(e, rule, dy);
}

std::string AffineOp::detail() const { return fmt::format("{} x + {}", factor, shift); }

std::vector<Type> AffineOp::infer(std::span<const Type> in) const {
  expect_real(kind(), in);
  return {in[0]};
}

void AffineOp::run(Stream& s, std::span<const View> in, std::span<const View> out) const {
  on(s, [&](auto& q) { k::affine(q, in[0].in(), factor, shift, in[0].count(), out[0].out()); });
}

Values AffineOp::vjp(const Emit&, std::span<const Value> dy) const {
  return {emit<AffineOp>({dy[0]}, factor, real(0))};
}

RowFlow AffineOp::row_flow(std::span<const Type> in) const {
  return all_by_row(in[0].shape, 1, shift == 0 ? 1 : 0);
}

RowFlow UnaryOp::row_flow(std::span<const Type> in) const {
  return all_by_row(in[0].shape, 1, facts_of(f).keeps_zero ? 1 : 0);
}

namespace {

k::Broadcast broadcast(std::span<const View> in, const Shape& y) {
  k::Broadcast space;
  const auto steps = [](const Shape& x, std::array<int64_t, 5>& step) {
    int64_t stride = 1;
    for (int i = 1; i <= x.rank(); ++i) {
      if (x[-i] != 1) step[size_t(5 - i)] = stride;
      stride *= x[-i];
    }
  };
  for (int i = 1; i <= y.rank(); ++i) space.size[size_t(5 - i)] = y[-i];
  steps(in[0].shape(), space.a);
  steps(in[1].shape(), space.b);
  return space;
}

// Which rows of a pair's result need which rows of the operands.
RowFlow pair_flow(std::span<const Type> in) {
  const Shape y = broadcast_shape("", in[0].shape, in[1].shape);
  if (!has_rows(y)) return {};
  RowFlow flow{RowFlow::by_row, 0, 0, false, 1, 0};
  for (unsigned i = 0; i < 2; ++i) {
    const Shape& x = in[i].shape;
    const int axis = 1 - (y.rank() - x.rank());  // of x, where y has its rows
    if (axis == 1 && x[1] == y[1]) flow.rows |= 1u << i;
    if (axis == 0 && x[0] != 1)
      return {};  // rows that lie on another axis cannot be cut along with y's
  }
  return flow.rows ? flow : RowFlow{};
}

struct Divide final : Op {
  explicit Divide(Stabiliser s) : by(s) {}
  std::string_view kind() const override { return "divide"; }
  std::string detail() const override {
    return fmt::format("{} {}", division_names[by.kind], by.epsilon);
  }
  std::vector<Type> infer(std::span<const Type> in) const override {
    expect_real(kind(), in);
    return {Type{broadcast_shape(kind(), in[0].shape, in[1].shape)}};
  }
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override {
    const k::Broadcast space = broadcast(in, out[0].shape());
    on(s, [&](auto& q) {
      k::divide(q, k::Division(by.kind), real(by.epsilon), in[0].in(), in[1].in(), space,
                out[0].out());
    });
  }
  RowFlow row_flow(std::span<const Type> in) const override {
    RowFlow flow = pair_flow(in);
    flow.any_zero = true;
    flow.zero = by.kind == Stabiliser::guarded ? flow.rows : flow.rows & 1;
    return flow;
  }
  int may_overwrite() const override { return 0; }
  Stabiliser by;
};
static_assert(int(k::Division::guarded) == Stabiliser::guarded &&
              int(k::Division::away) == Stabiliser::away &&
              int(k::Division::shifted) == Stabiliser::shifted);

}  // namespace

std::string_view BinaryOp::kind() const { return name_of(f); }

Traits BinaryOp::traits() const {
  return {.non_negative = f == k::Binary::add ? Traits::if_inputs_are : Traits::unknown};
}

std::vector<Type> BinaryOp::infer(std::span<const Type> in) const {
  expect_real(kind(), in);
  return {Type{broadcast_shape(kind(), in[0].shape, in[1].shape)}};
}

void BinaryOp::run(Stream& s, std::span<const View> in, std::span<const View> out) const {
  const k::Broadcast space = broadcast(in, out[0].shape());
  on(s, [&](auto& q) { k::binary(q, f, in[0].in(), in[1].in(), space, out[0].out()); });
}

Values BinaryOp::vjp(const Emit& e, std::span<const Value> dy) const {
  if (f == k::Binary::div) {  // d(a/b) = da/b - (a/b) db/b
    const Value da = div(dy[0], e.in(1));
    return {da, e.wants(1) ? scale(mul(da, e.out()), -1) : Value{}};
  }
  if (f != k::Binary::mul)
    return {dy[0], f == k::Binary::add ? dy[0] : e.wants(1) ? scale(dy[0], -1) : Value{}};
  return {e.wants(0) ? mul(dy[0], e.in(1)) : Value{}, e.wants(1) ? mul(dy[0], e.in(0)) : Value{}};
}

namespace {

// [B, 1, 1, ...]: the sum of a sample.
Value total(Value x) {
  std::vector<int> axes;
  Shape ones = x.shape();
  for (int i = 1; i < x.shape().rank(); ++i) {
    axes.push_back(i);
    ones[i] = 1;
  }
  return axes.empty() ? x : reshape(sum(x, axes), ones);
}

}  // namespace

// part_i = x_i * (r / y), scaled by (|t_i| / (|t_0| + |t_1|) t) / t_i with t_i the sample's
// total of part_i and t that of r.
Values BinaryOp::relprop(const RelevanceEmit& e, const RelevanceRule& rule, Value r) const {
  if (!std::holds_alternative<rule::ByMass>(rule) || f != k::Binary::add)
    return Op::relprop(e, rule, r);
  constexpr Stabiliser by{Stabiliser::guarded, 1e-9};
  const Value share = divide(r, e.out(), by);
  const Value parts[] = {mul(e.in(0), share), mul(e.in(1), share)};
  const Value totals[] = {total(parts[0]), total(parts[1])};
  const Value mass[] = {abs(totals[0]), abs(totals[1])};
  const Value whole = total(r), both = add(mass[0], mass[1]);
  Values all(2);
  for (size_t i = 0; i < 2; ++i)
    if (e.wanted[i])
      all[i] = mul(parts[i], divide(mul(divide(mass[i], both, by), whole), totals[i], by));
  return all;
}

// A product is zero where one factor is; a sum of two rowed operands where both are.
RowFlow BinaryOp::row_flow(std::span<const Type> in) const {
  RowFlow flow = pair_flow(in);
  flow.any_zero = f == k::Binary::mul;
  if (f == k::Binary::mul || (flow.rows == 3 && f != k::Binary::div)) flow.zero = flow.rows;
  return flow;
}

Value unary(std::string_view function, Value x) {
  for (const k::Unary f : k::every_unary)
    if (facts_of(f).name == function) return emit<UnaryOp>({x}, f);
  fail(ErrorCode::usage, "there is no function of one element called '{}'", printable(function));
}
Value relu(Value x) { return emit<UnaryOp>({x}, k::Relu{}); }
Value relu6(Value x) { return emit<UnaryOp>({x}, k::Relu6{}); }
Value gelu(Value x) { return emit<UnaryOp>({x}, k::Gelu{}); }
Value gelu_tanh(Value x) { return emit<UnaryOp>({x}, k::GeluTanh{}); }
Value gelu_quick(Value x) { return emit<UnaryOp>({x}, k::GeluQuick{}); }
Value tanh(Value x) { return emit<UnaryOp>({x}, k::Tanh{}); }
Value abs(Value x) { return emit<UnaryOp>({x}, k::Abs{}); }
Value affine(Value x, real factor, real shift) { return emit<AffineOp>({x}, factor, shift); }
Value add(Value a, Value b) { return emit<BinaryOp>({a, b}, k::Binary::add); }
Value sub(Value a, Value b) { return emit<BinaryOp>({a, b}, k::Binary::sub); }
Value mul(Value a, Value b) { return emit<BinaryOp>({a, b}, k::Binary::mul); }
Value div(Value a, Value b) { return emit<BinaryOp>({a, b}, k::Binary::div); }
Value divide(Value a, Value b, Stabiliser by) { return emit<Divide>({a, b}, by); }
Value where_positive(Value x, Value y) { return emit<UnaryGrad>({x, y}, k::Relu{}); }

}  // namespace whence
