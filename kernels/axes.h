// How index spaces of up to five axes fold into fewer, for the kernels that walk them.
#pragma once

#include <array>

#include "kernels/elementwise.h"

namespace whence::k {

// Drops axes of size 1 and merges neighbours that all operands step through as one. The axes in use
// come last.
inline Broadcast merged(const Broadcast& in) {
  Broadcast out;
  size_t first = 5;  // axes [first, 5) of `out` are in use
  for (size_t i = 5; i-- > 0;) {
    if (in.size[i] == 1) continue;
    if (first < 5 && in.a[i] == out.a[first] * out.size[first] &&
        in.b[i] == out.b[first] * out.size[first]) {
      out.size[first] *= in.size[i];
      continue;
    }
    --first;
    out.size[first] = in.size[i];
    out.a[first] = in.a[i];
    out.b[first] = in.b[i];
  }
  return out;
}

// Axes of one kind, outermost first, unused ones of size 1: two are enough, as neighbours of one
// kind are merged and the innermost axis stands apart.
struct AxisPair {
  int count = 0;
  std::array<int64_t, 2> size{1, 1}, step{};
  void push(int64_t n, int64_t by) {
    size[size_t(count)] = n;
    step[size_t(count)] = by;
    ++count;
  }
  WHENCE_HD int64_t total() const { return size[0] * size[1]; }
  // Offset of the index `i` counted row-major over these axes.
  WHENCE_HD int64_t offset(int64_t i) const {
    return i / size[1] * step[0] + i % size[1] * step[1];
  }
};

// The axes of a sum by kind, and the innermost one, which is dense.
struct SumLayout {
  AxisPair kept, summed;
  int64_t inner = 1;
  bool inner_kept = true;
};

inline SumLayout sum_layout(const std::array<int64_t, 5>& size, const std::array<bool, 5>& kept) {
  std::array<int64_t, 5> merged_size{};
  std::array<bool, 5> merged_kept{};
  size_t count = 0;
  for (size_t i = 0; i < 5; ++i) {
    if (size[i] == 1) continue;
    if (count > 0 && merged_kept[count - 1] == kept[i]) {
      merged_size[count - 1] *= size[i];
    } else {
      merged_size[count] = size[i];
      merged_kept[count] = kept[i];
      ++count;
    }
  }
  SumLayout out;
  if (count == 0) return out;
  out.inner = merged_size[count - 1];
  out.inner_kept = merged_kept[count - 1];
  std::array<int64_t, 5> step{};
  int64_t below = out.inner;
  for (size_t i = count - 1; i-- > 0;) {
    step[i] = below;
    below *= merged_size[i];
  }
  for (size_t i = 0; i + 1 < count; ++i)
    (merged_kept[i] ? out.kept : out.summed).push(merged_size[i], step[i]);
  return out;
}

}  // namespace whence::k
