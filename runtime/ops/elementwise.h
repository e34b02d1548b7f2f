// The elementwise ops that plan passes recognise.
#pragma once

#include "kernels/elementwise.h"
#include "runtime/ops/op_common.h"

namespace whence {

// The references behind the samples of a value with Rescale, and the cotangent of those samples.
struct References {
  int64_t count;  // of samples: as many as the cotangent has, or 1
  const real* first;
  References(const View& x, const View& dy)
      : count(x.shape()[0] - dy.shape()[0]),
        first(x.in() + dy.shape()[0] * x.shape().count(1, x.shape().rank())) {}
};

struct UnaryOp final : Op {
  explicit UnaryOp(k::Unary function) : f(function) {}
  std::string_view kind() const override;
  Traits traits() const override;
  std::vector<Type> infer(std::span<const Type> in) const override;
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override;
  Values vjp(const Emit& e, std::span<const Value> dy) const override;
  Values vjp_by(const Emit& e, const GradientRule& rule, Value dy) const override;
  RowFlow row_flow(std::span<const Type> in) const override;
  int may_overwrite() const override { return 0; }
  double flops(std::span<const Type>, std::span<const Type> out) const override {
    return double(out[0].shape.count());
  }
  k::Unary f;
};

// y = factor * x + shift
struct AffineOp final : Op {
  AffineOp(real scale, real offset) : factor(scale), shift(offset) {}
  std::string_view kind() const override { return "affine"; }
  std::string detail() const override;
  std::vector<Type> infer(std::span<const Type> in) const override;
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override;
  Values vjp(const Emit& e, std::span<const Value> dy) const override;
  RowFlow row_flow(std::span<const Type> in) const override;
  int may_overwrite() const override { return 0; }
  real factor, shift;
};

struct BinaryOp final : Op {
  explicit BinaryOp(k::Binary function) : f(function) {}
  std::string_view kind() const override;
  Traits traits() const override;
  std::vector<Type> infer(std::span<const Type> in) const override;
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override;
  Values vjp(const Emit& e, std::span<const Value> dy) const override;
  Values relprop(const RelevanceEmit& e, const RelevanceRule& rule, Value r) const override;
  RowFlow row_flow(std::span<const Type> in) const override;
  int may_overwrite() const override { return 0; }
  k::Binary f;
};

}  // namespace whence
