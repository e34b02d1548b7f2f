// The ops behind linear(): as written in a graph, and as a plan runs them.
#pragma once

#include "kernels/product.h"
#include "runtime/ops/op_common.h"

namespace whence {

// y[..., o] = sum_c x[..., c] w[o, c] + bias[o]. Inputs x, w, and bias where there is one.
struct Linear final : Op {
  std::string_view kind() const override { return "linear"; }
  Traits traits() const override { return {.product = true}; }
  std::vector<Type> infer(std::span<const Type> in) const override;
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override;
  Values vjp(const Emit& e, std::span<const Value> dy) const override;
  Values relprop(const RelevanceEmit& e, const RelevanceRule& rule, Value r) const override;
  RowFlow row_flow(std::span<const Type> in) const override;
};

// dx[..., c] = sum_o dy[..., o] w[o, c]. Inputs dy, w.
struct LinearGrad final : Op {
  std::string_view kind() const override { return "linear_bwd"; }
  std::vector<Type> infer(std::span<const Type> in) const override;
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override;
  RowFlow row_flow(std::span<const Type> in) const override;
};

// max(w, 0) or min(w, 0) of a weight; PackedProduct reads it off the weight itself.
struct WeightPart final : Op {
  explicit WeightPart(k::Part of) : part(of) {}
  std::string_view kind() const override {
    return part == k::Part::positive ? "positive_part" : "negative_part";
  }
  std::vector<Type> infer(std::span<const Type> in) const override;
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override;
  int may_overwrite() const override { return 0; }
  k::Part part;
};

// A weight [O, C] in the panels that PackedProduct reads; `transposed`: summed over O instead of C.
struct Pack final : Op {
  explicit Pack(bool over_outputs) : transposed(over_outputs) {}
  std::string_view kind() const override { return "pack"; }
  std::string detail() const override { return transposed ? "transposed" : ""; }
  std::vector<Type> infer(std::span<const Type> in) const override;
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override;
  bool transposed;
};

// y = activation(x packed^T + bias) + residual, with a part of the packed weight. Inputs x, packed,
// then bias and residual where present.
struct PackedProduct final : Op {
  PackedProduct(std::string_view origin, int64_t outputs) : origin_kind(origin), n(outputs) {}
  std::string_view kind() const override { return origin_kind; }
  std::string detail() const override;
  std::vector<Type> infer(std::span<const Type> in) const override;
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override;
  double flops(std::span<const Type> in, std::span<const Type> out) const override;
  int may_overwrite() const override { return residual ? 2 + bias : -1; }
  std::string_view origin_kind;  // "linear" or "linear_bwd"
  int64_t n;                     // columns of y
  k::Part part = k::Part::all;
  bool bias = false, residual = false, residual_first = false;
  k::Unary activation = k::Identity{};
};

}  // namespace whence
