// Ops that make and cut images; the patch pass knows them by type.
#pragma once

#include "runtime/ops/op_common.h"

namespace whence {

struct Patchify final : Op {
  Patchify(int64_t p, bool inverse_, Shape image_) : patch(p), inverse(inverse_), image(image_) {}
  Traits traits() const override { return {.move = true}; }
  std::string_view kind() const override { return inverse ? "unpatchify" : "patchify"; }
  std::vector<Type> infer(std::span<const Type> in) const override;
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override;
  Values vjp(const Emit& e, std::span<const Value> dy) const override;
  int64_t patch;
  bool inverse;
  Shape image;
};

// Operands: to, item, and where there is a second term from and the other tensor or its keys. With
// a `patch`, the result is cut as by patchify: plans make that one, after all gradients.
struct Interpolate final : Op {
  explicit Interpolate(int64_t p = 0) : patch(p) {}
  std::string_view kind() const override { return "interpolate"; }
  std::string detail() const override { return patch ? fmt::format("patch={}", patch) : ""; }
  std::vector<Type> infer(std::span<const Type> in) const override;
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override;
  Values vjp(const Emit& e, std::span<const Value> dy) const override;
  int64_t patch;
};

}  // namespace whence
