#include "runtime/ops/shape.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/elementwise.h"

namespace whence {
namespace {

int normal_axis(std::string_view kind, const Shape& s, int axis) {
  const int a = axis < 0 ? axis + s.rank() : axis;
  if (a < 0 || a >= s.rank()) fail_shape("{}: axis {} of shape {}", kind, axis, to_string(s));
  return a;
}

struct Reshape final : Op {
  explicit Reshape(Shape to) : shape(to) {}
  Traits traits() const override { return {.move = true}; }
  std::string_view kind() const override { return "reshape"; }
  std::vector<Type> infer(std::span<const Type> in) const override {
    if (in[0].shape.count() != shape.count())
      fail_shape("reshape: {} has {} elements, {} has {}", to_string(in[0].shape),
                 in[0].shape.count(), to_string(shape), shape.count());
    return {Type{shape, in[0].dtype}};
  }
  void run(Stream&, std::span<const View>, std::span<const View>) const override {}  // an alias
  Values vjp(const Emit& e, std::span<const Value> dy) const override {
    return {reshape(dy[0], e.in(0).shape())};
  }
  int64_t alias_offset(std::span<const Type>) const override { return 0; }
  Shape shape;
};

struct Concat final : Op {
  Traits traits() const override { return {.move = true}; }
  explicit Concat(int axis_) : axis(axis_) {}
  std::string_view kind() const override { return "concat"; }
  std::string detail() const override { return fmt::format("axis={}", axis); }
  std::vector<Type> infer(std::span<const Type> in) const override {
    expect_real(kind(), in);
    Shape out = in[0].shape;
    for (size_t i = 1; i < in.size(); ++i) {
      const Shape& s = in[i].shape;
      if (s.rank() != out.rank() || s.with(axis, 0) != out.with(axis, 0))
        fail_shape("concat: {} and {} differ besides axis {}", to_string(out), to_string(s), axis);
      out[axis] += s[axis];
    }
    return {Type{out}};
  }
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override {
    const Shape& y = out[0].shape();
    const int64_t step = y.count(axis, y.rank());
    real* to = out[0].out();
    for (const View& part : in) {
      const int64_t inner = part.shape().count(axis, y.rank());
      on(s,
         [&](auto& q) { k::copy_blocks(q, part.in(), inner, y.count(0, axis), inner, to, step); });
      to += inner;
    }
  }
  Values vjp(const Emit& e, std::span<const Value> dy) const override {
    Values d;
    int64_t begin = 0;
    for (size_t i = 0; i < e.wanted.size(); ++i) {
      const int64_t size = e.in(int(i)).shape()[axis];
      d.push_back(e.wants(int(i)) ? slice(dy[0], axis, begin, begin + size) : Value{});
      begin += size;
    }
    return d;
  }
  int axis;
};

// Repeats axes of size 1 up to the sizes of `shape`.
struct Expand final : Op {
  explicit Expand(Shape to) : shape(to) {}
  std::string_view kind() const override { return "expand"; }
  std::vector<Type> infer(std::span<const Type> in) const override {
    expect_real(kind(), in);
    const Shape& x = in[0].shape;
    bool fits = x.rank() == shape.rank();
    for (int i = 0; fits && i < shape.rank(); ++i) fits = x[i] == shape[i] || x[i] == 1;
    if (!fits) fail_shape("expand: {} does not repeat to {}", to_string(x), to_string(shape));
    return {Type{shape}};
  }
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override {
    k::Broadcast space;
    const Shape& x = in[0].shape();
    for (int i = 1; i <= shape.rank(); ++i) {
      space.size[size_t(5 - i)] = shape[-i];
      if (x[-i] != 1) space.a[size_t(5 - i)] = x.count(x.rank() - i + 1, x.rank());
    }
    space.b = space.a;
    on(s, [&](auto& q) {
      k::binary(q, k::Binary::first, in[0].in(), in[0].in(), space, out[0].out());
    });
  }
  Values vjp(const Emit&, std::span<const Value> dy) const override { return {dy[0]}; }
  Shape shape;
};

struct Reduce final : Op {
  Reduce(std::vector<int> axes_, bool average_, real factor_)
      : axes(std::move(axes_)), average(average_), factor(factor_) {}
  std::string_view kind() const override { return average ? "mean" : "sum"; }
  Traits traits() const override { return {.non_negative = Traits::if_inputs_are}; }
  std::string detail() const override { return fmt::format("axes={}", fmt::join(axes, ",")); }
  std::vector<Type> infer(std::span<const Type> in) const override {
    expect_real(kind(), in);
    std::vector<int64_t> kept;
    for (int i = 0; i < in[0].shape.rank(); ++i)
      if (std::find(axes.begin(), axes.end(), i) == axes.end()) kept.push_back(in[0].shape[i]);
    return {Type{Shape(kept)}};
  }
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override {
    std::array<int64_t, 5> size{1, 1, 1, 1, 1};
    std::array<bool, 5> kept{true, true, true, true, true};
    const Shape& x = in[0].shape();
    for (int i = 0; i < x.rank(); ++i) size[size_t(5 - x.rank() + i)] = x[i];
    for (int a : axes) kept[size_t(5 - x.rank() + a)] = false;
    on(s, [&](auto& q) { k::reduce_sum(q, in[0].in(), size, kept, factor, out[0].out()); });
  }
  // Every summed element has the cotangent of its sum: repeat it along the axes that disappeared.
  Values vjp(const Emit& e, std::span<const Value> dy) const override {
    Shape with_ones = e.in(0).shape();
    for (int a : axes) with_ones[a] = 1;
    const Value d = factor == 1 ? dy[0] : scale(dy[0], factor);
    return {expand(reshape(d, with_ones), e.in(0).shape())};
  }
  std::vector<int> axes;
  bool average;
  real factor;  // 1 in a sum, one over the number of elements in an average
};

Value reduce(Value x, std::vector<int> axes, bool average) {
  int64_t n = 1;
  for (int& a : axes) {
    a = normal_axis("sum", x.shape(), a);
    n *= x.shape()[a];
  }
  return emit<Reduce>({x}, std::move(axes), average,
                      average ? real(1) / real(std::max<int64_t>(n, 1)) : real(1));
}

}  // namespace

std::vector<Type> Slice::infer(std::span<const Type> in) const {
  expect_real(kind(), in);
  if (begin < 0 || end <= begin || end > in[0].shape[axis])
    fail_shape("slice: {}..{} of axis {} of {}", begin, end, axis, to_string(in[0].shape));
  return {Type{in[0].shape.with(axis, end - begin)}};
}

void Slice::run(Stream& s, std::span<const View> in, std::span<const View> out) const {
  const Shape& x = in[0].shape();
  const int64_t step = x.count(axis, x.rank()), inner = out[0].shape().count(axis, x.rank());
  const real* from = in[0].in() + begin * x.count(axis + 1, x.rank());
  on(s,
     [&](auto& q) { k::copy_blocks(q, from, step, x.count(0, axis), inner, out[0].out(), inner); });
}

Values Slice::vjp(const Emit& e, std::span<const Value> dy) const {
  return {pad(dy[0], axis, begin, e.in(0).shape()[axis])};
}

// A slice whose outer axes all have size 1 is a stretch of its input's memory.
int64_t Slice::alias_offset(std::span<const Type> in) const {
  const Shape& x = in[0].shape;
  return x.count(0, axis) == 1 ? begin * x.count(axis + 1, x.rank()) : -1;
}

std::vector<Type> Pad::infer(std::span<const Type> in) const {
  expect_real(kind(), in);
  if (begin < 0 || begin + in[0].shape[axis] > size)
    fail_shape("pad: {} from {} does not fit into {}", to_string(in[0].shape), begin, size);
  return {Type{in[0].shape.with(axis, size)}};
}

void Pad::run(Stream& s, std::span<const View> in, std::span<const View> out) const {
  const Shape &x = in[0].shape(), &y = out[0].shape();
  const int64_t step = y.count(axis, y.rank()), inner = x.count(axis, x.rank());
  on(s, [&](auto& q) {
    k::fill(q, real(0), out[0].count(), 1, out[0].out());
    k::copy_blocks(q, in[0].in(), inner, x.count(0, axis), inner,
                   out[0].out() + begin * y.count(axis + 1, y.rank()), step);
  });
}

Values Pad::vjp(const Emit& e, std::span<const Value> dy) const {
  return {slice(dy[0], axis, begin, begin + e.in(0).shape()[axis])};
}

void UnitRow::run(Stream& s, std::span<const View>, std::span<const View> out) const {
  on(s, [&](auto& q) {
    k::fill(q, 0, out[0].count(), 1, out[0].out());
    k::fill(q, 1, batch, size, out[0].out() + index);
  });
}

std::string Constant::detail() const { return fmt::format("{}", fmt::join(values, ",")); }
void Constant::run(Stream& s, std::span<const View>, std::span<const View> out) const {
  const int64_t step = int64_t(values.size());
  on(s, [&](auto& q) {
    for (int64_t i = 0; i < step; ++i)
      k::fill(q, values[size_t(i)], out[0].count() / step, step, out[0].out() + i);
  });
}

Value reshape(Value x, Shape shape) {
  if (x && x.shape() == shape) return x;
  return emit<Reshape>({x}, shape);
}
Value slice(Value x, int axis, int64_t begin, int64_t end) {
  axis = normal_axis("slice", x.shape(), axis);
  if (begin == 0 && end == x.shape()[axis]) return x;
  return emit<Slice>({x}, axis, begin, end);
}
Value pad(Value x, int axis, int64_t begin, int64_t size) {
  return emit<Pad>({x}, normal_axis("pad", x.shape(), axis), begin, size);
}
Value concat(const Values& parts, int axis) {
  if (parts.size() == 1) return parts[0];
  if (parts.empty()) fail_shape("concat of nothing");
  return emit<Concat>(parts, normal_axis("concat", parts[0].shape(), axis));
}
Value expand(Value x, Shape shape) { return emit<Expand>({x}, shape); }
Value row(Value x, int64_t index) {
  const Shape& s = x.shape();
  if (s.rank() != 3) fail_shape("row: {} is not [B, N, C]", to_string(s));
  return reshape(slice(x, 1, index, index + 1), {s[0], s[2]});
}
Value sum(Value x, const std::vector<int>& axes) { return reduce(x, axes, false); }
Value mean(Value x, const std::vector<int>& axes) { return reduce(x, axes, true); }
Value unit_row(Graph& graph, int64_t batch, int64_t size, int64_t index) {
  if (index < 0 || index >= size) fail_shape("unit_row: column {} of {}", index, size);
  return graph.add(std::make_shared<UnitRow>(batch, size, index), {});
}
Value constant(Graph& graph, Shape shape, const std::vector<double>& values) {
  if (values.empty() || last(shape) % int64_t(values.size()) != 0)
    fail_shape("constant: {} values do not repeat along the last axis of {}", values.size(),
               to_string(shape));
  return graph.add(
      std::make_shared<Constant>(shape, std::vector<real>(values.begin(), values.end())), {});
}

}  // namespace whence
