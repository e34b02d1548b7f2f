#include "whence/tensor.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <new>

#include "runtime/check.h"
#include "runtime/stream.h"

namespace whence {
namespace {

constexpr std::align_val_t alignment{64};  // one cache line, one AVX-512 register

std::shared_ptr<void> host_memory(size_t bytes) {
  void* p = ::operator new(std::max<size_t>(bytes, 1), alignment, std::nothrow);
  if (!p) fail(ErrorCode::no_memory, "out of memory: {} bytes could not be allocated", bytes);
  return {p, [](void* q) { ::operator delete(q, alignment); }};
}

template <class T>
Tensor filled(const Shape& shape, const T* values, size_t count) {
  if (shape.count() != int64_t(count))
    fail_shape("a tensor of shape {} needs {} values, {} given", to_string(shape), shape.count(),
               count);
  Tensor t(Type{shape, dtype_of<T>()});
  if (count > 0) std::memcpy(t.data(), values, count * sizeof(T));
  return t;
}

// By way of the host between two devices.
Tensor copied(const Tensor& t, Device to) {
  const size_t bytes = t.type().bytes();
  if (!t.on_host() && to.kind != Device::cpu && t.device() != to) return copied(copied(t, {}), to);
  if (t.on_host() && to.kind == Device::cpu) {
    Tensor copy(t.type());
    if (bytes > 0) std::memcpy(copy.data(), t.data(), bytes);
    return copy;
  }
  Stream s = make_stream(t.on_host() ? to : t.device(), 1);
  Tensor copy =
      to.kind == Device::cpu ? Tensor(t.type()) : Tensor(t.type(), allocate(s, bytes), to);
  copy_between(s, copy.data(), to, t.data(), t.device(), bytes);
  wait(s);
  return copy;
}

}  // namespace

Shape::Shape(std::initializer_list<int64_t> sizes)
    : Shape(std::span<const int64_t>(sizes.begin(), sizes.size())) {}

Shape::Shape(std::span<const int64_t> sizes) {
  if (sizes.size() > max_rank)
    fail_shape("{} axes given, at most {} are supported", sizes.size(), int(max_rank));
  for (int64_t size : sizes) {
    if (size < 0) fail_shape("a size of {} was given, sizes are at least 0", size);
    sizes_[size_t(rank_++)] = size;
  }
  unsigned __int128 product = 1;  // checked after each factor, so it never wraps
  for (int64_t size : sizes) {
    product *= uint64_t(std::max<int64_t>(size, 1));
    if (product > uint64_t(std::numeric_limits<int64_t>::max()) / sizeof(double))
      fail_shape("shape {} is too large to exist", to_string(*this));
  }
}

int64_t Shape::count() const { return count(0, rank_); }

int64_t Shape::count(int from, int to) const {
  int64_t n = 1;
  for (int i = from; i < to; ++i) n *= sizes_[size_t(i)];
  return n;
}

Shape Shape::with(int axis, int64_t size) const {
  Shape s = *this;
  s[axis] = size;
  return s;
}

std::string to_string(Dtype d) {
  constexpr const char* names[] = {"reals", "integers", "bytes", "64-bit integers"};
  return names[size_t(d)];
}

std::string to_string(const Shape& s) {
  std::string text = "[";
  for (int i = 0; i < s.rank(); ++i) text += fmt::format("{}{}", i ? ", " : "", s[i]);
  return text + "]";
}

Tensor::Tensor(Type type) : type_(type), memory_(host_memory(type.bytes())) {
  std::memset(memory_.get(), 0, type.bytes());
}

Tensor Tensor::of(Shape shape, std::span<const real> values) {
  return filled(shape, values.data(), values.size());
}
Tensor Tensor::of(Shape shape, std::initializer_list<real> values) {
  return filled(shape, values.begin(), values.size());
}
Tensor Tensor::of(Shape shape, std::span<const int32_t> values) {
  return filled(shape, values.data(), values.size());
}

Tensor Tensor::of(Shape shape, std::span<const uint8_t> values) {
  return filled(shape, values.data(), values.size());
}
Tensor Tensor::of(Shape shape, std::span<const int64_t> values) {
  return filled(shape, values.data(), values.size());
}

void Tensor::expect(Dtype wanted) const {
  if (!*this) fail_shape("an empty tensor was read");
  if (type_.dtype != wanted)
    fail(ErrorCode::dtype, "a tensor of {} was read as {}", to_string(type_.dtype),
         to_string(wanted));
  if (!on_host())
    fail(ErrorCode::dtype, "a tensor on {} was read on the host; bring it there with to()",
         to_string(device_));
}

Tensor Tensor::to(Device device) const {
  return !*this || device == device_ ? *this : copied(*this, device);
}

Tensor Tensor::clone() const { return *this ? copied(*this, device_) : Tensor(); }

Tensor Tensor::slice(int64_t begin, int64_t end) const {
  if (shape().rank() == 0 || begin < 0 || end < begin || end > shape()[0])
    fail_shape("slice {}..{} of a tensor of shape {}", begin, end, to_string(shape()));
  const size_t step = size_t(shape().count(1, shape().rank())) * size_of(type_.dtype);
  char* start = static_cast<char*>(memory_.get()) + size_t(begin) * step;
  return Tensor(Type{shape().with(0, end - begin), type_.dtype},
                std::shared_ptr<void>(memory_, start), device_);
}

Tensor Tensor::reshaped(Shape to) const {
  if (to.count() != shape().count())
    fail_shape("shape {} cannot become {}", to_string(shape()), to_string(to));
  return Tensor(Type{to, type_.dtype}, memory_, device_);
}

}  // namespace whence
