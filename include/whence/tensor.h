// Tensor: memory that exists. Dense, row-major, shared by value: copying a Tensor copies a handle.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>

#include "whence/real.h"

namespace whence {

enum class Dtype : uint8_t { floating, i32 };  // floating: `real`
inline size_t size_of(Dtype d) { return d == Dtype::floating ? sizeof(real) : sizeof(int32_t); }
template <class T>
constexpr Dtype dtype_of();
template <>
constexpr Dtype dtype_of<real>() {
  return Dtype::floating;
}
template <>
constexpr Dtype dtype_of<int32_t>() {
  return Dtype::i32;
}

// Up to five sizes, outermost first. A size may be 0; the rank may be 0 (a scalar).
class Shape {
 public:
  static constexpr int max_rank = 5;
  Shape() = default;
  Shape(std::initializer_list<int64_t> sizes);
  explicit Shape(std::span<const int64_t> sizes);  // throws shape for a rank over five
  int rank() const { return rank_; }
  int64_t operator[](int axis) const { return sizes_[size_t(axis < 0 ? axis + rank_ : axis)]; }
  int64_t& operator[](int axis) { return sizes_[size_t(axis < 0 ? axis + rank_ : axis)]; }
  int64_t count() const;                  // product of all sizes
  int64_t count(int from, int to) const;  // product of the sizes of axes [from, to)
  Shape with(int axis, int64_t size) const;
  const int64_t* begin() const { return sizes_.data(); }
  const int64_t* end() const { return sizes_.data() + rank_; }
  bool operator==(const Shape&) const = default;

 private:
  int rank_ = 0;
  std::array<int64_t, max_rank> sizes_{};
};
std::string to_string(const Shape&);  // "[2, 197, 768]"

struct Type {
  Shape shape;
  Dtype dtype = Dtype::floating;
  size_t bytes() const { return size_t(shape.count()) * size_of(dtype); }
  bool operator==(const Type&) const = default;
};

class Tensor {
 public:
  Tensor() = default;          // empty handle
  explicit Tensor(Type type);  // zeros
  Tensor(Type type, std::shared_ptr<void> memory) : type_(type), memory_(std::move(memory)) {}
  static Tensor of(Shape shape, std::span<const real> values);
  static Tensor of(Shape shape, std::initializer_list<real> values);
  static Tensor of(Shape shape, std::span<const int32_t> values);

  explicit operator bool() const { return memory_ != nullptr; }
  const Type& type() const { return type_; }
  const Shape& shape() const { return type_.shape; }
  const void* data() const { return memory_.get(); }
  void* data() { return memory_.get(); }
  const std::shared_ptr<void>& share() const { return memory_; }  // keeps the memory alive
  std::span<real> reals();  // throws dtype for another element type
  std::span<const real> reals() const;
  std::span<int32_t> ints();
  std::span<const int32_t> ints() const;
  Tensor clone() const;                            // a copy of the memory
  Tensor slice(int64_t begin, int64_t end) const;  // of the outermost axis; shares the memory
  Tensor reshaped(Shape shape) const;              // same count; shares the memory

 private:
  Type type_;
  std::shared_ptr<void> memory_;
};

}  // namespace whence
