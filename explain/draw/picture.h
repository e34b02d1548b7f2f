// What the files that draw maps share.
#pragma once

#include "whence/tensor.h"

namespace whence {

// Throws where a plane of this shape cannot be drawn.
void check_plane(const Shape& plane);
[[noreturn]] void fail_not_finite();

}  // namespace whence
