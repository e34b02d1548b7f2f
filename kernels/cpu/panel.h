// Panels: columns of a right operand side by side, as tiles read them.
#pragma once

#include <algorithm>

#include "kernels/cpu/tile.h"

namespace whence::cpu {
inline namespace WHENCE_ISA {

// panel[x * panel_width + j] = b[j * stride_n + x * stride_k] for j < width, x < sums; columns from
// `width` to panel_width are zero.
void pack_panel(const real* b, int64_t width, int64_t sums, int64_t stride_n, int64_t stride_k,
                real* panel);

// Reals in the panels of n columns; panel p starts at p * panel_width * sums.
inline int64_t panels_count(int64_t n, int64_t sums) {
  return (n + panel_width - 1) / panel_width * panel_width * sums;
}
inline void pack_panels(const real* b, int64_t n, int64_t sums, int64_t stride_n, int64_t stride_k,
                        real* panels) {
  for (int64_t j = 0; j < n; j += panel_width) {
    pack_panel(b + j * stride_n, std::min<int64_t>(panel_width, n - j), sums, stride_n, stride_k,
               panels + j * sums);
  }
}

// c [rows, n] (+)= a * panels, in tiles. Nothing beyond column n is written.
void multiply(const Left& a, int64_t rows, const real* panels, int64_t n, int64_t sums, real* c,
              int64_t c_stride, bool add);

}  // namespace WHENCE_ISA
}  // namespace whence::cpu
