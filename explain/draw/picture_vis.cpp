// The pictures of InterpretDL's explanation_to_vis.
#include <algorithm>
#include <cmath>

#include "explain/draw/picture.h"
#include "runtime/check.h"
#include "whence/picture.h"

namespace whence {
namespace {

void check_map(const Tensor& map) {
  check_plane(map.shape());
  for (const real value : map.reals())
    if (!std::isfinite(value)) fail_not_finite();
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

}  // namespace

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
