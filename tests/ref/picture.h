// A map laid over its image, pixel by pixel, as it is defined.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>

#include "tests/ref/arrays.h"

namespace whence::ref {

using Bytes = std::vector<uint8_t>;

struct Overlay {
  Reals map;         // [channels, map_height, map_width]
  int channels = 0;  // 0: a plane, taken as it is
  int map_height = 1, map_width = 1;
  Bytes image;
  int height = 1, width = 1;
  double left = 0, top = 0, across = 1, down = 1;  // the region, in pixels
  double opacity = 0.5;

  bool flat() const { return !(highest() > lowest()); }
  real lowest() const { return std::ranges::min(plane()); }
  real highest() const { return std::ranges::max(plane()); }
  Reals plane() const {
    if (channels == 0) return map;
    Reals sum(size_t(map_height * map_width));
    for (int c = 0; c < channels; ++c)
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += std::abs(map[size_t(c) * sum.size() + i]);
    return sum;
  }
  // To [0, 1]; by halves where the range is beyond the largest number.
  Reals scaled() const {
    Reals out = plane();
    const real low = lowest(), high = highest(), half = std::isfinite(high - low) ? 1 : real(0.5);
    const real range = high * half - low * half;
    for (real& v : out) v = flat() ? 0 : (v * half - low * half) / range;
    return out;
  }
};

// The classical table as its pieces.
inline std::array<int, 3> jet_pieces(int i) {
  return {i < 96    ? 0
          : i < 160 ? 2 + 4 * (i - 96)
          : i < 224 ? 255
                    : 252 - 4 * (i - 224),
          i <= 32   ? 0
          : i < 96  ? 4 * (i - 32)
          : i < 160 ? 255
                    : std::max(0, 252 - 4 * (i - 160)),
          i < 32     ? 128 + 4 * i
          : i < 96   ? 255
          : i <= 158 ? 254 - 4 * (i - 96)
          : i == 159 ? 1
                     : 0};
}

inline Bytes draw(const Overlay& o) {
  const Reals map = o.scaled();
  const auto cell = [&](int64_t row, int64_t col) {
    return map[size_t(std::min<int64_t>(row, o.map_height - 1) * o.map_width +
                      std::min<int64_t>(col, o.map_width - 1))];
  };
  const auto pixels = [](double v) { return std::round(v); };
  const double opacity = o.flat() ? 0 : o.opacity;
  Bytes out;
  for (int y = 0; y < o.height; ++y)
    for (int x = 0; x < o.width; ++x) {
      const uint8_t* p = &o.image[size_t(3 * (y * o.width + x))];
      if (y < pixels(o.top) || y >= pixels(o.top + o.down) || x < pixels(o.left) ||
          x >= pixels(o.left + o.across)) {
        const int grey = (77 * p[0] + 150 * p[1] + 29 * p[2]) / 256;
        for (int c = 0; c < 3; ++c) out.push_back(uint8_t((p[c] + grey) / 4));
        continue;
      }
      const double u = std::clamp((x + 0.5 - o.left) * (double(o.map_width) / o.across) - 0.5, 0.0,
                                  double(o.map_width - 1));
      const double v = std::clamp((y + 0.5 - o.top) * (double(o.map_height) / o.down) - 0.5, 0.0,
                                  double(o.map_height - 1));
      const auto col = int64_t(u), row = int64_t(v);
      const real right = real(u - double(col)), low = real(v - double(row));
      const real above = cell(row, col) * (1 - right) + cell(row, col + 1) * right;
      const real below = cell(row + 1, col) * (1 - right) + cell(row + 1, col + 1) * right;
      const auto colour = jet_pieces(int(255 * (above * (1 - low) + below * low)));
      for (size_t c = 0; c < 3; ++c)
        out.push_back(uint8_t(std::lround(opacity * colour[c] + (1 - opacity) * p[c])));
    }
  return out;
}

inline Bytes noise_bytes(int64_t count, uint64_t seed) {
  Bytes out;
  for (const real x : noise(count, seed)) out.push_back(uint8_t(double(x) * 127.9 + 128));
  return out;
}

// Sizes, channels and regions of many kinds: boxes partly outside, one cell, flat maps, extremes.
inline std::vector<Overlay> overlays() {
  const real most = std::numeric_limits<real>::max();
  const auto made = [](int channels, int mh, int mw, int h, int w, std::array<double, 4> region,
                       double opacity) {
    const auto seed = uint64_t(31 * w + h);
    return Overlay{noise(int64_t{std::max(channels, 1)} * mh * mw, seed, 3),
                   channels,
                   mh,
                   mw,
                   noise_bytes(int64_t{3} * h * w, seed + 1),
                   h,
                   w,
                   region[0],
                   region[1],
                   region[2],
                   region[3],
                   opacity};
  };
  std::vector<Overlay> all{made(3, 9, 7, 17, 23, {2.4, 1.6, 15.3, 14.1}, 0.5),
                           made(0, 4, 5, 31, 9, {-3.2, -4.7, 20, 30.5}, 0.55),
                           made(2, 1, 1, 12, 14, {1, 2, 9, 6}, 0.3),
                           made(0, 25, 40, 8, 11, {3, 2, 30, 20}, 1),
                           made(0, 1, 1, 5, 6, {0, 0, 6, 5}, 0.5),
                           made(0, 2, 3, 6, 5, {-1, 1, 4.5, 2.2}, 0),
                           made(0, 2, 3, 9, 33, {0, 0, 33, 9}, 0.75),
                           made(1, 3, 2, 7, 4, {0.4, 0.4, 3, 6}, 0.5),
                           made(0, 1, 1, 1, 1, {0, 0, 1, 1}, 0.5)};
  all[5].map.assign(6, real(-1.5));                              // flat
  all[6].map = {-most, 0, most, real(0.5) * most, -most, most};  // beyond the largest number
  all[8].map = {most};
  return all;
}

}  // namespace whence::ref
