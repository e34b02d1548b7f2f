// Colours for maps, and the map laid over its image.
#include <algorithm>
#include <cmath>
#include <utility>

#include "io/legend.h"
#include "runtime/check.h"
#include "whence/image.h"

namespace whence {
namespace {

void check_map(const Tensor& map) {
  if (map.shape().rank() != 2 || map.shape().count() == 0)
    fail_shape("a map of shape {} cannot be drawn, [H, W] expected", to_string(map.shape()));
  for (const real value : map.reals())
    if (!std::isfinite(value))
      fail(ErrorKind::item, ErrorCode::nonfinite,
           "a map with values that are not finite cannot be drawn");
}

void check_same_size(const Image& image, int64_t height, int64_t width) {
  if (image.height != height || image.width != width)
    fail_shape("a map of {} x {} does not fit an image of {} x {} pixels", width, height,
               image.width, image.height);
}

// Element of rank q * (n - 1) in sorted order, linearly between its neighbours.
double percentile(std::vector<real> values, double q) {
  const double rank = q * double(values.size() - 1);
  const auto below = size_t(rank);
  std::nth_element(values.begin(), values.begin() + int64_t(below), values.end());
  const double a = values[below];
  if (below + 1 == values.size()) return a;
  const double b = *std::min_element(values.begin() + int64_t(below) + 1, values.end());
  const double t = rank - double(below);
  return t < 0.5 ? a + (b - a) * t : b - (b - a) * (1 - t);
}

// trunc(weight * layer + (1 - weight) * image) of every byte.
template <class Layer>
Image blend(const Image& image, double layer_weight, double image_weight, const Layer& layer) {
  Image out = image;
  for (size_t i = 0; i < out.rgb.size(); ++i)
    out.rgb[i] = uint8_t(layer_weight * layer(i) + image_weight * image.rgb[i]);
  return out;
}

// The sum over channels of the absolute values: one number a pixel.
Tensor without_channels(const Tensor& map) {
  const Shape& shape = map.shape();
  if (shape.rank() != 3) return map;
  const int64_t plane = shape[1] * shape[2];
  Tensor sum(Type{Shape{shape[1], shape[2]}});
  const auto from = map.reals();
  const auto to = sum.reals();
  for (int64_t c = 0; c < shape[0]; ++c)
    for (int64_t i = 0; i < plane; ++i) to[size_t(i)] += std::abs(from[size_t(c * plane + i)]);
  return sum;
}

struct Box {
  int left, top, right, bottom;
};

// What the region covers of the image, in whole pixels, and at least one of them.
Box box_of(const Preprocess::Region& region, const Image& image) {
  const auto within = [](double v, int most) {
    return int(std::clamp(std::round(v), 0.0, double(most)));
  };
  Box box{within(region.left, image.width), within(region.top, image.height),
          within(region.left + region.width, image.width),
          within(region.top + region.height, image.height)};
  if (!(region.width > 0 && region.height > 0) || box.left >= box.right || box.top >= box.bottom)
    fail_usage("the region {} x {} at {}, {} lies outside an image of {} x {} pixels", region.width,
               region.height, region.left, region.top, image.width, image.height);
  return box;
}

// A map whose cells are read between their centres, which lie at halves: bilinear, edges repeated.
struct Surface {
  std::span<const real> values;
  int64_t height, width;
  real at(int64_t row, int64_t column) const { return values[size_t(row * width + column)]; }
  real operator()(double x, double y) const;
};
real Surface::operator()(double x, double y) const {
  const double u = std::clamp(x - 0.5, 0.0, double(width - 1));
  const double v = std::clamp(y - 0.5, 0.0, double(height - 1));
  const auto x0 = int64_t(u), y0 = int64_t(v);
  const int64_t x1 = std::min(x0 + 1, width - 1), y1 = std::min(y0 + 1, height - 1);
  const real right = real(u - double(x0)), down = real(v - double(y0));
  const real above = at(y0, x0) * (1 - right) + at(y0, x1) * right;
  const real below = at(y1, x0) * (1 - right) + at(y1, x1) * right;
  return above * (1 - down) + below * down;
}

// Pixels that the model did not see: half as bright, half as colourful.
void dim(uint8_t* pixel) {
  const int grey = (77 * pixel[0] + 150 * pixel[1] + 29 * pixel[2]) >> 8;
  for (int c = 0; c < 3; ++c) pixel[c] = uint8_t((pixel[c] + grey) / 4);
}

}  // namespace

std::array<uint8_t, 3> jet(uint8_t index) {
  const int i = index;
  const auto ramp = [](int v) { return uint8_t(std::clamp(v, 0, 255)); };
  // Each colour rises by 4 an entry, stays, and falls; one entry of the classical table keeps a
  // blue of 1.
  return {ramp(std::min(4 * i - 382, 1148 - 4 * i)), ramp(std::min(4 * i - 128, 892 - 4 * i)),
          i == 159 ? uint8_t(1) : ramp(std::min(4 * i + 128, 638 - 4 * i))};
}

Tensor min_max(const Tensor& map, bool* flat) {
  const auto values = map.reals();
  Tensor out(Type{map.shape()});
  if (flat) *flat = true;
  if (values.empty()) return out;
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  if (!(*high > *low)) return out;
  if (flat) *flat = false;
  // Halved where the difference of the extremes is beyond the largest number.
  const real unit = std::isfinite(*high - *low) ? real(1) : real(0.5);
  const real minimum = *low * unit, range = *high * unit - minimum;
  const auto to = out.reals();
  for (size_t i = 0; i < values.size(); ++i) to[i] = (values[i] * unit - minimum) / range;
  return out;
}

Image overlay(const Image& image, const Tensor& map, const Preprocess::Region& region,
              const OverlayStyle& style) {
  const Tensor plane = without_channels(map);
  check_map(plane);
  if (image.width < 1 || image.height < 1 ||
      image.rgb.size() != size_t(image.width) * size_t(image.height) * 3)
    fail_usage("an image of {} x {} pixels with {} bytes cannot be drawn on", image.width,
               image.height, image.rgb.size());
  bool flat = false;
  const Tensor scaled = min_max(plane, &flat);
  const Surface surface{std::as_const(scaled).reals(), plane.shape()[0], plane.shape()[1]};
  const Box box = box_of(region, image);
  const double x_scale = double(plane.shape()[1]) / region.width;
  const double y_scale = double(plane.shape()[0]) / region.height;
  const double opacity = flat ? 0 : std::clamp(style.opacity, 0.0, 1.0);
  Image out = image;
  for (int y = 0; y < image.height; ++y)
    for (int x = 0; x < image.width; ++x) {
      uint8_t* pixel = &out.rgb[(size_t(y) * size_t(image.width) + size_t(x)) * 3];
      if (y < box.top || y >= box.bottom || x < box.left || x >= box.right) {
        dim(pixel);
        continue;
      }
      const real value =
          surface((x + 0.5 - region.left) * x_scale, (y + 0.5 - region.top) * y_scale);
      const auto colour = jet(uint8_t(255 * value));
      for (size_t c = 0; c < 3; ++c)
        pixel[c] = uint8_t(std::lround(opacity * colour[c] + (1 - opacity) * pixel[c]));
    }
  if (style.legend) {
    const auto values = plane.reals();
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    append_legend(out, double(*low), double(*high));
  }
  return out;
}

std::vector<uint8_t> vis_grayscale(const Tensor& map) {
  check_map(map);
  const auto values = map.reals();
  const double low = *std::min_element(values.begin(), values.end());
  const double high = percentile({values.begin(), values.end()}, 0.99);
  std::vector<uint8_t> out(values.size());
  if (!(high > low)) return out;
  const double unit = std::isfinite(high - low) ? 1 : 0.5;  // as in min_max
  const double range = high * unit - low * unit;
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = uint8_t(std::clamp((values[i] * unit - low * unit) / range, 0.0, 1.0) * 255);
  return out;
}

Image vis_overlay_grayscale(const Image& image, const Tensor& map) {
  const std::vector<uint8_t> green = vis_grayscale(map);
  check_same_size(image, map.shape()[0], map.shape()[1]);
  return blend(image, 0.4, 0.6, [&](size_t i) { return i % 3 == 1 ? int(green[i / 3]) : 0; });
}

Image vis_heatmap(const Tensor& map, int width, int height) {
  check_map(map);
  bool flat = false;
  const Tensor scaled = resize_bilinear(min_max(map, &flat), height, width);
  Image out{width, height, std::vector<uint8_t>(size_t(width) * size_t(height) * 3)};
  if (flat) return out;
  const auto values = scaled.reals();
  for (size_t i = 0; i < values.size(); ++i) {
    const auto colour = jet(uint8_t(255 * values[i]));
    std::copy(colour.begin(), colour.end(), &out.rgb[i * 3]);
  }
  return out;
}

Image vis_overlay_heatmap(const Image& image, const Tensor& map) {
  const Image colours = vis_heatmap(map, image.width, image.height);
  return blend(image, 0.4, 0.6, [&](size_t i) { return int(colours.rgb[i]); });
}

Image vis_overlay_threshold(const Image& image, const std::vector<uint8_t>& mask) {
  if (mask.size() * 3 != image.rgb.size())
    fail_shape("a mask of {} values does not fit an image of {} x {} pixels", mask.size(),
               image.width, image.height);
  return blend(image, 0.6, 0.4, [&](size_t i) { return i % 3 == 1 && mask[i / 3] ? 255 : 0; });
}

}  // namespace whence
