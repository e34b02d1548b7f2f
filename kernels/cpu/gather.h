// What convolutions share: walking over result pixels and the taps that reach the image, and
// storing finished sums.
#pragma once

#include "kernels/conv.h"
#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/scratch.h"

namespace whence::cpu {
inline namespace WHENCE_ISA {

using k::Gather;
using k::Reach;

// The taps of a Reach whose source positions, from `at` on, lie inside an axis of `size`.
struct Inside {
  int64_t begin, end;
};
inline Inside inside(const Reach& r, int64_t at, int64_t size) {
  const bool adjacent = r.hop == 1;  // a division would take longer than the gathering
  const int64_t begin = at >= 0 ? 0 : adjacent ? -at : (-at + r.hop - 1) / r.hop;
  const int64_t end = at >= size ? 0 : adjacent ? size - at : (size - 1 - at) / r.hop + 1;
  const int64_t stop = std::min(end, r.taps);
  return {std::min(begin, stop), stop};
}

// A result pixel and the source pixel of its first tap.
struct Pixel {
  int64_t b, u, v, y, x;
};
inline Pixel pixel_of(const Gather& g, int64_t row) {
  Pixel p{};
  p.v = row % g.across.count;
  p.u = row / g.across.count % g.down.count;
  p.b = row / g.across.count / g.down.count;
  p.y = p.u * g.down.stride + g.down.offset;
  p.x = p.v * g.across.stride + g.across.offset;
  return p;
}

// The next row, row by row and sample by sample.
inline void to_next(const Gather& g, Pixel& p) {
  if (++p.v == g.across.count) {
    p.v = 0;
    if (++p.u == g.down.count) p.u = 0, ++p.b;
    p.y = p.u * g.down.stride + g.down.offset;
  }
  p.x = p.v * g.across.stride + g.across.offset;
}

// Stores tile rows [row, row + count) of a gather: runs of result pixels that lie evenly apart.
inline void store_rows(const Gather& g, Finish store, const real* sums, int64_t stride, int64_t row,
                       int64_t count, int64_t width, const k::Epilogue& e, int64_t column,
                       real* c) {
  const int64_t channels = g.groups * g.to;
  const bool dense = g.across.step == 1 && g.down.step == 1;
  while (count > 0) {
    const Pixel p = pixel_of(g, row);
    const int64_t run = dense ? count : std::min(count, g.across.count - p.v);
    const int64_t y = g.down.first + p.u * g.down.step, x = g.across.first + p.v * g.across.step;
    const int64_t at = ((p.b * g.result_height + y) * g.result_width + x) * channels;
    k::Epilogue here = e;
    if (here.residual) here.residual += at;
    store(sums, stride, run, width, here, column, c + at, g.across.step * channels);
    sums += run * stride;
    row += run;
    count -= run;
  }
}

// A convolution whose groups have one channel, with weights [taps][channels] of each phase, and its
// gradient by the weights.
void depthwise(const Stream& s, const Gather& g, const real* source, const real* weights,
               const k::Epilogue& epilogue, real* result);
void depthwise_bwd_weight(const Stream& s, const real* x, const real* dy, const k::ConvSize& z,
                          real* dweight);

}  // namespace WHENCE_ISA
}  // namespace whence::cpu
