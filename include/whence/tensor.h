// Tensor: memory that exists, on the host or on a device. Dense, row-major, shared by value:
// copying a Tensor copies a handle.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>

#include "whence/device.h"
#include "whence/real.h"

namespace whence {

// Graphs compute with reals and 32-bit integers. Bytes and 64-bit integers are what pictures and
// token ids come in as: tensors may hold them, and Plan::set converts them.
enum class Dtype : uint8_t {
  floating,  // `real`
  i32,
  u8,
  i64,
};
constexpr size_t size_of(Dtype d) {
  constexpr size_t sizes[] = {sizeof(real), sizeof(int32_t), sizeof(uint8_t), sizeof(int64_t)};
  return sizes[size_t(d)];
}
std::string to_string(Dtype d);  // "reals", "integers", "bytes", "64-bit integers"
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
template <>
constexpr Dtype dtype_of<uint8_t>() {
  return Dtype::u8;
}
template <>
constexpr Dtype dtype_of<int64_t>() {
  return Dtype::i64;
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
  explicit Tensor(Type type);  // zeros, on the host
  // Memory that exists already, on any device: shared, not copied. Its owner's deleter runs when
  // the last tensor on it goes, so memory of another library becomes a tensor with
  // std::shared_ptr<void>(address, [=](void*) { what its owner wants called }).
  Tensor(Type type, std::shared_ptr<void> memory, Device device = {})
      : type_(type), device_(device), memory_(std::move(memory)) {}
  static Tensor of(Shape shape, std::span<const real> values);
  static Tensor of(Shape shape, std::initializer_list<real> values);
  static Tensor of(Shape shape, std::span<const int32_t> values);
  static Tensor of(Shape shape, std::span<const uint8_t> values);
  static Tensor of(Shape shape, std::span<const int64_t> values);

  explicit operator bool() const { return memory_ != nullptr; }
  const Type& type() const { return type_; }
  const Shape& shape() const { return type_.shape; }
  Device device() const { return device_; }
  bool on_host() const { return device_.kind == Device::cpu; }
  // An address on device(): on another than the host, only that device may follow it.
  const void* data() const { return memory_.get(); }
  void* data() { return memory_.get(); }
  const std::shared_ptr<void>& share() const { return memory_; }  // keeps the memory alive
  // Elements on the host. Throws dtype for another element type, and for memory on a device: to()
  // brings it here.
  template <class T>
  std::span<T> values() {
    expect(dtype_of<T>());
    return {static_cast<T*>(memory_.get()), size_t(shape().count())};
  }
  template <class T>
  std::span<const T> values() const {
    expect(dtype_of<T>());
    return {static_cast<const T*>(memory_.get()), size_t(shape().count())};
  }
  std::span<real> reals() { return values<real>(); }
  std::span<const real> reals() const { return values<real>(); }
  std::span<int32_t> ints() { return values<int32_t>(); }
  std::span<const int32_t> ints() const { return values<int32_t>(); }
  // On `device`: this tensor itself, sharing its memory, if it is there already, else a copy that
  // is complete when the call returns. What was queued to write the memory must be done before.
  Tensor to(Device device) const;
  Tensor clone() const;                            // a copy of the memory, on the same device
  Tensor slice(int64_t begin, int64_t end) const;  // of the outermost axis; shares the memory
  Tensor reshaped(Shape shape) const;              // same count; shares the memory

 private:
  void expect(Dtype wanted) const;  // elements of this type, on the host
  Type type_;
  Device device_;
  std::shared_ptr<void> memory_;
};

}  // namespace whence
