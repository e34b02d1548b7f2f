// Ops that move or repeat elements; the row pass knows slices and pads along axis 1 by type.
#pragma once

#include "runtime/ops/op_common.h"

namespace whence {

struct Slice final : Op {
  Slice(int axis_, int64_t begin_, int64_t end_) : axis(axis_), begin(begin_), end(end_) {}
  std::string_view kind() const override { return "slice"; }
  Traits traits() const override { return {.move = true}; }
  std::string detail() const override { return fmt::format("axis={} {}..{}", axis, begin, end); }
  std::vector<Type> infer(std::span<const Type> in) const override;
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override;
  Values vjp(const Emit& e, std::span<const Value> dy) const override;
  int64_t alias_offset(std::span<const Type> in) const override;
  int axis;
  int64_t begin, end;
};

// Zeros around the input along one axis: element `begin` of the result is element 0 of the input.
struct Pad final : Op {
  Pad(int axis_, int64_t begin_, int64_t size_) : axis(axis_), begin(begin_), size(size_) {}
  std::string_view kind() const override { return "pad"; }
  std::string detail() const override {
    return fmt::format("axis={} from {} to {}", axis, begin, size);
  }
  std::vector<Type> infer(std::span<const Type> in) const override;
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override;
  Values vjp(const Emit& e, std::span<const Value> dy) const override;
  int axis;
  int64_t begin, size;
};

// [batch, size] with ones in column `index`. No inputs besides one that gives it its graph and
// stage.
struct UnitRow final : Op {
  UnitRow(int64_t batch_, int64_t size_, int64_t index_)
      : batch(batch_), size(size_), index(index_) {}
  std::string_view kind() const override { return "unit_row"; }
  std::string detail() const override { return fmt::format("column {} of {}", index, size); }
  std::vector<Type> infer(std::span<const Type>) const override { return {Type{{batch, size}}}; }
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override;
  int64_t batch, size, index;
};

// `values`, again and again along the last axis. No inputs.
struct Constant final : Op {
  Constant(Shape s, std::vector<real> v) : shape(s), values(std::move(v)) {}
  std::string_view kind() const override { return "constant"; }
  std::string detail() const override;
  std::vector<Type> infer(std::span<const Type>) const override { return {Type{shape}}; }
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override;
  Shape shape;
  std::vector<real> values;
};

}  // namespace whence
