// Pooling of channels-last images: x [batch, height, width, channels] to y [batch, out_height,
// out_width, channels], windows of size x size elements, `stride` apart, the first one `pad`
// elements outside the image.
#pragma once

#include <algorithm>

#include "kernels/kernel.h"

namespace whence::k {

struct PoolSize {
  int64_t batch, height, width, channels, out_height, out_width, size, stride, pad;
};

// The elements [begin, end) of window `o` that lie inside an axis of `count`.
struct Span {
  int64_t begin, end;
};
WHENCE_HD inline Span window_span(const PoolSize& z, int64_t o, int64_t count) {
  const int64_t first = o * z.stride - z.pad;
  return {first > 0 ? first : 0, first + z.size < count ? first + z.size : count};
}
// The windows [begin, end) of `windows` that element `i` of an axis lies in.
WHENCE_HD inline Span windows_of(const PoolSize& z, int64_t i, int64_t windows) {
  const int64_t past = i + z.pad - z.size;  // the last element of windows that end before i
  const int64_t begin = past < 0 ? 0 : past / z.stride + 1, end = (i + z.pad) / z.stride + 1;
  return {begin, end < windows ? end : windows};
}
// What the sum over window `o` of an axis is divided by: elements inside the image, and inside the
// padding where that counts.
WHENCE_HD inline int64_t window_count(const PoolSize& z, int64_t o, int64_t count,
                                      bool count_padding) {
  const Span inside = window_span(z, o, count);
  if (!count_padding) return inside.end - inside.begin;
  const int64_t first = o * z.stride - z.pad, room = count + z.pad - first;
  return z.size < room ? z.size : room;
}

// y = the largest element of each window inside the image; NaN wins.
WHENCE_KERNEL(max_pool, const real* x, const PoolSize& size, real* y);
// dx = sum of dy over the windows whose first maximum (in row-major order; the last NaN where
// there is one) the element is.
WHENCE_KERNEL(max_pool_bwd, const real* x, const real* dy, const PoolSize& size, real* dx);
// dx where every sample of x has a reference: one of its own among the `references` samples x0, or
// the only one (DeepLIFT's Rescale rule, Shrikumar et al. 2017, arXiv 1704.02685). A window whose
// maximum is y, and y0 in the reference, hands dy * (max(y, y0) - y0) to the place of y and dy * (y
// - max(y, y0)) to the place of y0. dx = what comes to an element / (x - x0), and the ordinary
// gradient where those differ by less than epsilon.
WHENCE_KERNEL(max_pool_rescale, real epsilon, const real* x, const real* x0, int64_t references,
              const real* dy, const PoolSize& size, real* dx);
// y = sum of each window inside the image / its count.
WHENCE_KERNEL(average_pool, const real* x, const PoolSize& size, bool count_padding, real* y);
// dx = sum of dy / count over the windows that the element lies in.
WHENCE_KERNEL(average_pool_bwd, const real* dy, const PoolSize& size, bool count_padding, real* dx);

}  // namespace whence::k
