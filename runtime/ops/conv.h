// The ops behind conv2d() and batch_norm(): as written in a graph, and as a plan runs them.
#pragma once

#include "kernels/conv.h"
#include "runtime/ops/op_common.h"

namespace whence {

// The sizes of a convolution of an x of this shape; batch 0 etc. are allowed.
k::ConvSize conv_size(const Shape& x, const Shape& weight, const Window& window);

// Inputs x, weight, and bias where there is one.
struct Conv final : Op {
  explicit Conv(Window w) : window(w) {}
  std::string_view kind() const override { return "conv2d"; }
  Traits traits() const override { return {.product = true}; }
  std::string detail() const override;
  std::vector<Type> infer(std::span<const Type> in) const override;
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override;
  Values vjp(const Emit& e, std::span<const Value> dy) const override;
  Values relprop(const RelevanceEmit& e, const RelevanceRule& rule, Value r) const override;
  Window window;
};

// Gradient by x, of shape `image`. Inputs dy, weight.
struct ConvGrad final : Op {
  ConvGrad(Window w, Shape x) : window(w), image(x) {}
  std::string_view kind() const override { return "conv2d_bwd"; }
  std::vector<Type> infer(std::span<const Type> in) const override;
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override;
  Window window;
  Shape image;
};

// A weight as the kernels of one direction read it. Sizes besides those of the weight and the
// window do not matter.
struct ConvPack final : Op {
  ConvPack(const k::ConvSize& size_, bool backward_) : size(size_), backward(backward_) {}
  std::string_view kind() const override { return "conv2d_pack"; }
  std::string detail() const override;
  std::vector<Type> infer(std::span<const Type> in) const override;
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override;
  k::ConvSize size;
  bool backward;
};

// y = epilogue(convolution of x, or its gradient by x). Inputs x (or dy), packed, then bias and
// residual where present.
struct PackedConv final : Op {
  PackedConv(const k::ConvSize& size_, bool backward_) : size(size_), backward(backward_) {}
  std::string_view kind() const override { return backward ? "conv2d_bwd" : "conv2d"; }
  std::string detail() const override;
  std::vector<Type> infer(std::span<const Type> in) const override;
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override;
  double flops(std::span<const Type> in, std::span<const Type> out) const override;
  int may_overwrite() const override { return residual ? 2 + bias : -1; }
  k::ConvSize size;
  bool backward, bias = false, residual = false, residual_first = false;
  k::Unary activation = k::Identity{};
};

// Inputs x, weight, bias, mean, variance.
struct BatchNorm final : Op {
  explicit BatchNorm(real epsilon) : eps(epsilon) {}
  std::string_view kind() const override { return "batch_norm"; }
  std::string detail() const override { return fmt::format("eps={}", eps); }
  std::vector<Type> infer(std::span<const Type> in) const override;
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override;
  Values vjp(const Emit& e, std::span<const Value> dy) const override;
  Values relprop(const RelevanceEmit& e, const RelevanceRule& rule, Value r) const override;
  int may_overwrite() const override { return 0; }
  real eps;
};

// dy times the scale of each channel. Inputs dy, weight, variance.
struct BatchNormGrad final : Op {
  explicit BatchNormGrad(real epsilon) : eps(epsilon) {}
  std::string_view kind() const override { return "batch_norm_bwd"; }
  std::string detail() const override { return fmt::format("eps={}", eps); }
  std::vector<Type> infer(std::span<const Type> in) const override { return {in[0]}; }
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override;
  int may_overwrite() const override { return 0; }
  real eps;
};

// weight / sqrt(variance + eps). Inputs weight, variance.
struct NormScale final : Op {
  explicit NormScale(real epsilon) : eps(epsilon) {}
  std::string_view kind() const override { return "norm_scale"; }
  std::string detail() const override { return fmt::format("eps={}", eps); }
  std::vector<Type> infer(std::span<const Type> in) const override { return {in[0]}; }
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override;
  real eps;
};

}  // namespace whence
