// Points between an item and another tensor, or noise, in one pass: the inputs that methods average
// over.
#pragma once

#include "kernels/elementwise.h"
#include "kernels/random.h"

namespace whence::k {

// Row r of the result is to[r] item[r] + from[r] other[r], each product and the sum rounded, or
// to[r] item[r] alone. The other tensor is given, or its row r is that of random_normal_rows with
// the key keys[4 r ..].
struct PointTerms {
  enum Other : uint8_t { none, given, normal } kind = none;
  const real *to = nullptr, *item = nullptr;     // [rows], [rows, count]
  const real *from = nullptr, *other = nullptr;  // [rows], [rows, count]
  const int32_t* keys = nullptr;                 // [rows, 4]
};

// y [B, C, H, W], or, where size.patch > 0, what patchify makes of it, which is never stored.
WHENCE_KERNEL(interpolate, const PointTerms& terms, const PatchSize& size, real* y);

}  // namespace whence::k
