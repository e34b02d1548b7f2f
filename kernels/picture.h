// Pictures of maps: the channels of a map become a plane from 0 to 1, and its colours are laid over
// an image. Whoever compiles the formulas below for a kernel forbids the compiler to fuse any, so a
// picture has the same bytes wherever it is drawn.
#pragma once

#include <array>

#include "kernels/kernel.h"

namespace whence::k {

// A picture to be drawn; the memory is that of the processor that draws.
struct Picture {
  const real* map = nullptr;       // [channels, map_height, map_width]
  real* plane = nullptr;           // [map_height, map_width]: 0 to 1, zeros if the map is flat
  real* range = nullptr;           // the least and the largest value before that; NaN where there
                                   // is none, or one that is not finite
  const uint8_t* image = nullptr;  // [height, width, 3]
  uint8_t* drawn = nullptr;        // likewise; may be `image`
  int64_t channels = 1;
  bool absolute = false;  // sum the channels' absolute values; else there is one, taken as it is
  int64_t map_height = 0, map_width = 0, height = 0, width = 0;
  int64_t left = 0, top = 0, right = 0, bottom = 0;  // pixels that the map explains
  // Where the map begins, in pixels, and its cells a pixel.
  double map_left = 0, map_top = 0, x_scale = 1, y_scale = 1;
  double opacity = 0.5;
};

// JET colours of an index 0 .. 255: each colour rises by 4 an entry, stays, and falls; one entry of
// the classical table keeps a blue of 1.
WHENCE_HD inline std::array<uint8_t, 3> jet_colour(int i) {
  const auto ramp = [](int up, int down) {
    const int v = up < down ? up : down;
    return uint8_t(v < 0 ? 0 : v > 255 ? 255 : v);
  };
  return {ramp(4 * i - 382, 1148 - 4 * i), ramp(4 * i - 128, 892 - 4 * i),
          i == 159 ? uint8_t(1) : ramp(4 * i + 128, 638 - 4 * i)};
}

// From a map's range to [0, 1].
struct MapScale {
  bool flat;  // or not finite: nothing to show
  real unit, minimum, range;
  WHENCE_HD MapScale(real low, real high) {
    const real difference = high - low;
    flat = !(high > low);
    // Halved where the difference of the extremes is beyond the largest number.
    unit = difference - difference == 0 ? real(1) : real(0.5);
    minimum = low * unit;
    range = high * unit - minimum;
  }
  WHENCE_HD real operator()(real value) const { return (value * unit - minimum) / range; }
};

// Where a map of `cells` is read along one axis: between the centres of two cells, which lie at
// halves, and at the outermost ones beyond them.
struct Between {
  int64_t first, second;
  real part;  // of the second
  WHENCE_HD Between(double at, int64_t cells) {
    const double most = double(cells - 1), centred = at - 0.5;
    const double u = centred < 0 ? 0 : most < centred ? most : centred;
    first = int64_t(u);
    second = first + 1 < cells ? first + 1 : cells - 1;
    part = real(u - double(first));
  }
};
WHENCE_HD inline Between across_map(const Picture& p, int64_t x) {
  return {(double(x) + 0.5 - p.map_left) * p.x_scale, p.map_width};
}
WHENCE_HD inline Between down_map(const Picture& p, int64_t y) {
  return {(double(y) + 0.5 - p.map_top) * p.y_scale, p.map_height};
}

// A pixel under a map's colour: the plane read bilinearly, and the mixture of two bytes, rounded
// half up.
WHENCE_HD inline void draw_over(const Picture& p, double opacity, const Between& x,
                                const Between& y, const uint8_t* from, uint8_t* to) {
  const real *upper = p.plane + y.first * p.map_width, *lower = p.plane + y.second * p.map_width;
  const real above = upper[x.first] * (1 - x.part) + upper[x.second] * x.part;
  const real below = lower[x.first] * (1 - x.part) + lower[x.second] * x.part;
  const real value = above * (1 - y.part) + below * y.part;
  const std::array<uint8_t, 3> colour = jet_colour(uint8_t(255 * value));
  for (size_t c = 0; c < 3; ++c) {
    const double mixed = opacity * colour[c] + (1 - opacity) * from[c];
    const int whole = int(mixed);
    to[c] = uint8_t(mixed - whole >= 0.5 ? whole + 1 : whole);
  }
}
// A pixel that the model did not see: half as bright, half as colourful.
WHENCE_HD inline void draw_dim(const uint8_t* from, uint8_t* to) {
  const int grey = (77 * from[0] + 150 * from[1] + 29 * from[2]) >> 8;
  for (int c = 0; c < 3; ++c) to[c] = uint8_t((from[c] + grey) / 4);
}
WHENCE_HD inline bool is_seen(const Picture& p, int64_t x, int64_t y) {
  return y >= p.top && y < p.bottom && x >= p.left && x < p.right;
}

// Makes the plane and the range of each of `count` maps.
WHENCE_KERNEL(scale_maps, const Picture* pictures, int64_t count);
// Draws them, given those; no picture has more than `most_pixels`.
WHENCE_KERNEL(draw_maps, const Picture* pictures, int64_t count, int64_t most_pixels);

}  // namespace whence::k
