// Sizes of grids and blocks.
#pragma once

#include <cstdint>

namespace whence::k {

struct Dim {
  unsigned x = 1, y = 1, z = 1;
  Dim() = default;
  // One size converts: {rows, 128} is a launch of `rows` blocks of 128 threads.
  template <class I>
  Dim(I x_) : x(unsigned(x_)) {}  // NOLINT(google-explicit-constructor)
  template <class I, class J>
  Dim(I x_, J y_) : x(unsigned(x_)), y(unsigned(y_)) {}
  template <class I, class J, class K>
  Dim(I x_, J y_, K z_) : x(unsigned(x_)), y(unsigned(y_)), z(unsigned(z_)) {}
  uint64_t count() const { return uint64_t{x} * y * z; }
};

}  // namespace whence::k
