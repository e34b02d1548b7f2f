// The elementwise ops that plan passes recognise.
#pragma once

#include "kernels/elementwise.h"
#include "runtime/ops/op_common.h"

namespace whence {

struct UnaryOp final : Op {
  explicit UnaryOp(k::Unary function) : f(function) {}
  std::string_view kind() const override;
  std::vector<Type> infer(std::span<const Type> in) const override;
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override;
  Values vjp(const Emit& e, std::span<const Value> dy) const override;
  RowFlow row_flow(std::span<const Type> in) const override;
  int may_overwrite() const override { return 0; }
  double flops(std::span<const Type>, std::span<const Type> out) const override {
    return double(out[0].shape.count());
  }
  k::Unary f;
};

struct BinaryOp final : Op {
  explicit BinaryOp(k::Binary function) : f(function) {}
  std::string_view kind() const override;
  std::vector<Type> infer(std::span<const Type> in) const override;
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override;
  Values vjp(const Emit& e, std::span<const Value> dy) const override;
  Values relprop(const Emit& e, const Rule& rule, Value r) const override;
  RowFlow row_flow(std::span<const Type> in) const override;
  int may_overwrite() const override { return 0; }
  k::Binary f;
};

}  // namespace whence
