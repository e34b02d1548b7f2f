// Pictures of maps.
//
// A thread makes a map's plane: one pass over each channel, one for the range, one that scales; it
// reads 4 bytes per element of the map and is bound by memory. Rows of pixels go to threads; a
// pixel costs four reads of the plane and about 40 operations, a third of them in double.
#include "kernels/picture.h"

#include <algorithm>
#include <limits>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vec.h"

namespace whence::k {
namespace {

using namespace cpu;

// plane = the map, or the sum over its channels of the absolute values in ascending order.
void make_plane(const Picture& p, int64_t cells) {
  if (!p.absolute) {
    std::copy_n(p.map, cells, p.plane);
    return;
  }
  std::fill_n(p.plane, cells, real(0));
  for (int64_t c = 0; c < p.channels; ++c)
    each_vec(cells, [&](int64_t i, auto n) {
      store(p.plane + i, load(p.plane + i, n) + abs(load(p.map + c * cells + i, n)), n);
    });
}

// The first of the least values and the last of the largest (zeros have signs), or NaN.
void find_range(const real* plane, int64_t cells, real* range) {
  constexpr real endless = std::numeric_limits<real>::infinity();
  Vec low = splat(endless), high = splat(-endless), off = splat(0);
  each_vec(cells, [&](int64_t i, auto n) {
    const Vec v = load(plane + i, n, plane[0]);
    low = smaller(v, low);
    high = larger(v, high);
    off = off + (v - v);  // 0, or NaN from the first value on that is not finite
  });
  range[0] = range[1] = sum_lanes(off);
  if (!(range[0] == 0)) return;
  const real least = join_lanes<lanes / 2>(low, [](Vec a, Vec b) { return smaller(a, b); })[0];
  const real largest = max_lanes(high);
  range[0] = *std::find(plane, plane + cells, least);
  range[1] = *std::find(std::make_reverse_iterator(plane + cells),
                        std::make_reverse_iterator(plane), largest);
}

void scale_plane(real* plane, int64_t cells, const MapScale& scale) {
  if (scale.flat) {
    std::fill_n(plane, cells, real(0));
    return;
  }
  each_vec(cells, [&](int64_t i, auto n) {
    const Vec v = load(plane + i, n) * splat(scale.unit) - splat(scale.minimum);
    store(plane + i, v / splat(scale.range), n);
  });
}

void draw_rows(const Picture& p, int64_t begin, int64_t end) {
  const double opacity = MapScale(p.range[0], p.range[1]).flat ? 0 : p.opacity;
  for (int64_t y = begin; y < end; ++y) {
    const Between down = down_map(p, y);
    const uint8_t* from = p.image + 3 * y * p.width;
    uint8_t* to = p.drawn + 3 * y * p.width;
    for (int64_t x = 0; x < p.width; ++x, from += 3, to += 3)
      if (is_seen(p, x, y))
        draw_over(p, opacity, across_map(p, x), down, from, to);
      else
        draw_dim(from, to);
  }
}

}  // namespace

void scale_maps(Stream& s, const Picture* pictures, int64_t count) {
  parallel_items(s, count, [&](int64_t i) {
    const Picture& p = pictures[i];
    const int64_t cells = p.map_height * p.map_width;
    p.range[0] = p.range[1] = std::numeric_limits<real>::quiet_NaN();
    if (cells <= 0) return;
    make_plane(p, cells);
    find_range(p.plane, cells, p.range);
    scale_plane(p.plane, cells, MapScale(p.range[0], p.range[1]));
  });
}

void draw_maps(Stream& s, const Picture* pictures, int64_t count, int64_t) {
  constexpr int64_t work_per_pixel = 8;  // in elements of memory traffic
  for (int64_t i = 0; i < count; ++i)
    parallel_ranges(s, pictures[i].height, row_grain(pictures[i].width * work_per_pixel),
                    [&](int64_t begin, int64_t end) { draw_rows(pictures[i], begin, end); });
}

}  // namespace whence::k
