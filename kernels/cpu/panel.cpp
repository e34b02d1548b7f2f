// Packing of panels. Moves 8 bytes per element. Rows of b whose summed elements are adjacent are
// transposed in registers, lanes x lanes at a time, at about 4 elements a cycle.
#include "kernels/cpu/panel.h"

#include "kernels/cpu/transpose.h"

namespace whence::cpu {
inline namespace WHENCE_ISA {
namespace {

// `lanes` columns (fewer: the rest become zero) of b with adjacent summed elements.
void pack_transposed(const real* b, int64_t width, int64_t sums, int64_t stride_n, real* panel) {
  for (int64_t x = 0; x < sums; x += lanes) {
    const int64_t depth = std::min<int64_t>(lanes, sums - x);
    Vec t[lanes];
    if (width == lanes && depth == lanes) {
      for (int64_t j = 0; j < lanes; ++j) t[j] = load(b + j * stride_n + x);
    } else {
      for (int64_t j = 0; j < lanes; ++j) {
        t[j] = j < width ? load(b + j * stride_n + x, depth) : Vec{};
      }
    }
    transpose(t);
    for (int64_t i = 0; i < depth; ++i) store(panel + (x + i) * panel_width, t[i]);
  }
}

}  // namespace

void pack_panel(const real* b, int64_t width, int64_t sums, int64_t stride_n, int64_t stride_k,
                real* panel) {
  if (stride_n == 1 && width == panel_width) {
    for (int64_t x = 0; x < sums; ++x) {
      for (int v = 0; v < panel_vecs; ++v) {
        store(panel + x * panel_width + v * lanes, load(b + x * stride_k + v * lanes));
      }
    }
  } else if (stride_k == 1) {
    for (int v = 0; v < panel_vecs; ++v) {
      pack_transposed(b + v * lanes * stride_n, std::clamp<int64_t>(width - v * lanes, 0, lanes),
                      sums, stride_n, panel + v * lanes);
    }
  } else {
    for (int64_t x = 0; x < sums; ++x) {
      real* row = panel + x * panel_width;
      for (int64_t j = 0; j < width; ++j) row[j] = b[j * stride_n + x * stride_k];
      for (int64_t j = width; j < panel_width; ++j) row[j] = 0;
    }
  }
}

namespace {

// A tile whose last vector reaches beyond the columns of c goes through memory that has the room.
void ragged_tile(int64_t rows, int64_t width, const Left& a, const real* panel, int64_t sums,
                 real* c, int64_t c_stride, bool add) {
  alignas(vec_bytes) real whole[tile_rows * panel_width];
  const size_t bytes = size_t(width) * sizeof(real);
  for (int64_t i = 0; add && i < rows; ++i) {
    std::memcpy(whole + i * panel_width, c + i * c_stride, bytes);
  }
  tile(rows, width, a, panel, sums, whole, panel_width, add);
  for (int64_t i = 0; i < rows; ++i) {
    std::memcpy(c + i * c_stride, whole + i * panel_width, bytes);
  }
}

void tile_into(int64_t rows, int64_t width, const Left& a, const real* panel, int64_t sums, real* c,
               int64_t c_stride, bool add) {
  tile(rows, width, a, panel, sums, c, c_stride, add);
}

}  // namespace

void multiply(const Left& a, int64_t rows, const real* panels, int64_t n, int64_t sums, real* c,
              int64_t c_stride, bool add) {
  const Cuts cuts(rows, tile_rows);
  for (int64_t j = 0; j < n; j += panel_width) {
    const int64_t width = std::min<int64_t>(panel_width, n - j);
    const auto compute = width % lanes == 0 ? tile_into : ragged_tile;
    for (int64_t p = 0; p < cuts.pieces; ++p) {
      const int64_t i = cuts.cut(p);
      compute(cuts.cut(p + 1) - i, width, {a.at + i * a.row, a.row, a.sum}, panels + j * sums, sums,
              c + i * c_stride + j, c_stride, add);
    }
  }
}

}  // namespace WHENCE_ISA
}  // namespace whence::cpu
