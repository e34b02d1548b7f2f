// The elementwise ops that plan passes recognise.
#pragma once

#include "kernels/elementwise.h"
#include "runtime/ops/op_common.h"

namespace whence {

// What Rescale takes: a batch whose second half are the references of its first.
inline void expect_pairs(std::string_view kind, const Type& x) {
  if (x.shape.rank() < 1 || x.shape[0] % 2 != 0)
    fail_shape("{}: the samples of {} are not inputs and as many references", kind,
               to_string(x.shape));
}

struct UnaryOp final : Op {
  explicit UnaryOp(k::Unary function) : f(function) {}
  std::string_view kind() const override;
  std::vector<Type> infer(std::span<const Type> in) const override;
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override;
  Values vjp(const Emit& e, std::span<const Value> dy) const override;
  Values relprop(const Emit& e, const Rule& rule, Value r) const override;
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
