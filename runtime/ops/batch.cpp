// Sums over a batch that live longer than a run, and random numbers by key.
#include "kernels/elementwise.h"
#include "kernels/random.h"
#include "runtime/ops/op_common.h"

namespace whence {
namespace {

void expect_ints(std::string_view kind, const Type& type, const Shape& shape) {
  if (type.dtype != Dtype::i32 || type.shape != shape)
    fail_shape("{}: whole numbers of shape {} are needed, {} {} given", kind, to_string(shape),
               type.dtype == Dtype::i32 ? "whole numbers of shape" : "reals of shape",
               to_string(type.shape));
}

struct Accumulate final : Op {
  std::string_view kind() const override { return "accumulate"; }
  std::vector<Type> infer(std::span<const Type> in) const override {
    expect_real(kind(), in.first(3));
    const Shape &state = in[0].shape, &x = in[1].shape;
    if (state.rank() < 1 || x.rank() != state.rank() ||
        !std::equal(state.begin() + 1, state.end(), x.begin() + 1))
      fail_shape("accumulate: rows of {} do not fit a state of {}", to_string(x), to_string(state));
    if (in[2].shape != Shape{x[0]})
      fail_shape("accumulate: the weights have shape {}, [{}] is needed", to_string(in[2].shape),
                 x[0]);
    expect_ints(kind(), in[3], {x[0]});
    return {in[0]};
  }
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override {
    const Shape& x = in[1].shape();
    on(s, [&](auto& q) {
      if (out[0].data != in[0].data)
        k::copy_blocks(q, in[0].in(), in[0].count(), 1, in[0].count(), out[0].out(), in[0].count());
      k::accumulate(q, in[1].in(), in[2].in(), static_cast<const int32_t*>(in[3].data), x[0],
                    x.count(1, x.rank()), out[0].out());
    });
  }
  int may_overwrite() const override { return 0; }
};

struct RandomNormal final : Op {
  explicit RandomNormal(Shape shape_) : shape(shape_) {}
  std::string_view kind() const override { return "random_normal"; }
  std::vector<Type> infer(std::span<const Type> in) const override {
    if (shape.rank() < 1) fail_shape("random_normal: a scalar has no rows");
    expect_ints(kind(), in[0], {shape[0], 4});
    return {Type{shape}};
  }
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override {
    on(s, [&](auto& q) {
      k::random_normal_rows(q, static_cast<const int32_t*>(in[0].data), shape[0],
                            shape.count(1, shape.rank()), out[0].out());
    });
  }
  Values vjp(const Emit&, std::span<const Value>) const override { return {Value{}}; }
  Shape shape;
};

}  // namespace

Value accumulate(Value state, Value x, Value weight, Value slot) {
  return emit<Accumulate>({state, x, weight, slot});
}
Value random_normal(Value keys, Shape shape) { return emit<RandomNormal>({keys}, shape); }

}  // namespace whence
