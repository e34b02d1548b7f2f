#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

#include "runtime/check.h"
#include "whence/image.h"

namespace whence {

const char* name_of(Resample filter) {
  constexpr const char* names[] = {"nearest", "box", "bilinear", "bicubic", "lanczos", "hamming"};
  return names[size_t(filter)];
}
namespace {

// Everything below is decided by reproducing Pillow's pixels exactly: weights in double, then as
// integers of 22 fractional bits; 8-bit pixels between the passes.
constexpr int fraction_bits = 22;

double box(double x) { return x > -0.5 && x <= 0.5 ? 1 : 0; }
double triangle(double x) { return std::max(0.0, 1 - std::abs(x)); }
double sinc(double x) {
  if (x == 0) return 1;
  const double angle = x * std::numbers::pi;
  return std::sin(angle) / angle;
}
double hamming(double x) {
  x = std::abs(x);
  if (x == 0) return 1;
  if (x >= 1) return 0;
  const double angle = x * std::numbers::pi;
  return std::sin(angle) / angle * (0.54 + 0.46 * std::cos(angle));
}
double cubic(double x) {  // Keys 1981 with a = -1/2
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}
double lanczos(double x) { return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0; }

struct Filter {
  double (*weight)(double);
  double radius;
};
Filter filter_of(Resample kind) {
  switch (kind) {
    case Resample::nearest:
      break;
    case Resample::box:
      return {box, 0.5};
    case Resample::bilinear:
      return {triangle, 1};
    case Resample::bicubic:
      return {cubic, 2};
    case Resample::lanczos:
      return {lanczos, 3};
    case Resample::hamming:
      return {hamming, 1};
  }
  fail_usage("resampling filter {} is not known", int(kind));
}

// Which input pixels, with which weights, make each output pixel.
struct Taps {
  struct Range {
    int begin, count;
  };
  std::vector<Range> ranges;
  std::vector<int32_t> weights;  // `stride` for each output pixel
  int stride = 0;
  const int32_t* of(int i) const { return weights.data() + size_t(i) * size_t(stride); }
};

Taps make_taps(int in, int out, const Filter& filter) {
  const double scale = double(in) / out;
  const double stretch = std::max(scale, 1.0);  // shrinking widens the filter: antialiasing
  const double support = filter.radius * stretch, shrink = 1 / stretch;
  Taps taps;
  taps.stride = int(std::ceil(support)) * 2 + 1;
  taps.ranges.resize(size_t(out));
  taps.weights.resize(size_t(out) * size_t(taps.stride));
  std::vector<double> weights(size_t(taps.stride));
  for (int i = 0; i < out; ++i) {
    const double centre = (i + 0.5) * scale;
    const int begin = std::max(0, int(centre - support + 0.5));
    const int count = std::min(in, int(centre + support + 0.5)) - begin;
    double sum = 0;
    for (int k = 0; k < count; ++k) {
      weights[size_t(k)] = filter.weight((k + begin - centre + 0.5) * shrink);
      sum += weights[size_t(k)];
    }
    taps.ranges[size_t(i)] = {begin, count};
    for (int k = 0; k < count; ++k) {
      const double w =
          (sum != 0 ? weights[size_t(k)] / sum : weights[size_t(k)]) * (1 << fraction_bits);
      taps.weights[size_t(i) * size_t(taps.stride) + size_t(k)] = int(w < 0 ? w - 0.5 : w + 0.5);
    }
  }
  return taps;
}

uint8_t to_pixel(int32_t sum) { return uint8_t(std::clamp(sum >> fraction_bits, 0, 255)); }

Image resize_columns(const Image& image, int width, const Filter& filter) {
  const Taps taps = make_taps(image.width, width, filter);
  Image out{width, image.height, std::vector<uint8_t>(size_t(width) * size_t(image.height) * 3)};
  uint8_t* to = out.rgb.data();
  for (int y = 0; y < image.height; ++y) {
    const uint8_t* row = image.rgb.data() + size_t(y) * size_t(image.width) * 3;
    for (int x = 0; x < width; ++x, to += 3) {
      const auto [begin, count] = taps.ranges[size_t(x)];
      const int32_t* k = taps.of(x);
      const uint8_t* from = row + size_t(begin) * 3;
      int32_t r = 1 << (fraction_bits - 1), g = r, b = r;
      for (int i = 0; i < count; ++i, from += 3) {
        r += from[0] * k[i];
        g += from[1] * k[i];
        b += from[2] * k[i];
      }
      to[0] = to_pixel(r), to[1] = to_pixel(g), to[2] = to_pixel(b);
    }
  }
  return out;
}

Image resize_rows(const Image& image, int height, const Filter& filter) {
  const Taps taps = make_taps(image.height, height, filter);
  const size_t bytes = size_t(image.width) * 3;
  Image out{image.width, height, std::vector<uint8_t>(bytes * size_t(height))};
  std::vector<int32_t> sums(bytes);
  for (int y = 0; y < height; ++y) {
    const auto [begin, count] = taps.ranges[size_t(y)];
    const int32_t* k = taps.of(y);
    std::fill(sums.begin(), sums.end(), 1 << (fraction_bits - 1));
    for (int i = 0; i < count; ++i) {
      const uint8_t* from = image.rgb.data() + size_t(begin + i) * bytes;
      for (size_t x = 0; x < bytes; ++x) sums[x] += from[x] * k[i];
    }
    uint8_t* to = out.rgb.data() + size_t(y) * bytes;
    for (size_t x = 0; x < bytes; ++x) to[x] = to_pixel(sums[x]);
  }
  return out;
}

std::vector<int> nearest_sources(int in, int out) {
  std::vector<int> sources(size_t(out), 0);
  const double scale = double(in) / out;
  double at = scale * 0.5;  // summed step by step, as Pillow does: the rounding decides ties
  for (int& source : sources) {
    source = std::min(int(at), in - 1);
    at += scale;
  }
  return sources;
}

Image resize_nearest(const Image& image, int width, int height) {
  const std::vector<int> columns = nearest_sources(image.width, width);
  const std::vector<int> rows = nearest_sources(image.height, height);
  Image out{width, height, std::vector<uint8_t>(size_t(width) * size_t(height) * 3)};
  uint8_t* to = out.rgb.data();
  for (const int y : rows)
    for (const int x : columns) {
      std::memcpy(to, &image.rgb[(size_t(y) * size_t(image.width) + size_t(x)) * 3], 3);
      to += 3;
    }
  return out;
}

void check_sizes(const Image& image, int64_t width, int64_t height) {
  constexpr int64_t most_pixels = 100'000'000, most_side = 1 << 20;
  if (image.width < 1 || image.height < 1 ||
      image.rgb.size() != size_t(image.width) * size_t(image.height) * 3)
    fail_usage("an image of {} x {} pixels with {} bytes cannot be resized", image.width,
               image.height, image.rgb.size());
  if (width < 1 || height < 1) fail_usage("an image cannot become {} x {} pixels", width, height);
  if (width > most_side || height > most_side || width * height > most_pixels)
    fail(ErrorCode::item,
         "an image of {} x {} pixels would become {} x {}, the limit is 100 megapixels",
         image.width, image.height, width, height);
}

// The two neighbours of every output position with half-pixel centres, edges clamped.
struct Neighbours {
  int64_t first, second;
  double weight;  // of the second
};
std::vector<Neighbours> neighbours(int64_t in, int64_t out) {
  std::vector<Neighbours> all(static_cast<size_t>(out));
  const double scale = double(in) / double(out);
  for (int64_t i = 0; i < out; ++i) {
    const double at = std::clamp((double(i) + 0.5) * scale - 0.5, 0.0, double(in - 1));
    const auto first = int64_t(at);
    all[size_t(i)] = {first, std::min(first + 1, in - 1), at - double(first)};
  }
  return all;
}

}  // namespace

Image resize(const Image& image, int width, int height, Resample kind) {
  check_sizes(image, width, height);
  if (width == image.width && height == image.height) return image;
  if (kind == Resample::nearest) return resize_nearest(image, width, height);
  const Filter filter = filter_of(kind);
  check_sizes(image, width, image.height);  // what lies between the passes
  if (width == image.width) return resize_rows(image, height, filter);
  Image narrow = resize_columns(image, width, filter);
  return height == image.height ? narrow : resize_rows(narrow, height, filter);
}

Tensor resize_bilinear(const Tensor& x, int64_t height, int64_t width) {
  const Shape& shape = x.shape();
  if (shape.rank() != 2 || shape.count() == 0 || height < 1 || width < 1)
    fail_shape("a map of shape {} cannot become {} x {}", to_string(shape), height, width);
  Tensor out(Type{Shape{height, width}});
  const auto rows = neighbours(shape[0], height), columns = neighbours(shape[1], width);
  const auto from = x.reals();
  auto to = out.reals().begin();
  for (const Neighbours& r : rows) {
    const real* upper = from.data() + r.first * shape[1];
    const real* lower = from.data() + r.second * shape[1];
    const real down = real(r.weight), up = 1 - down;
    for (const Neighbours& c : columns) {
      const real right = real(c.weight), left = 1 - right;
      const real above = upper[c.first] * left + upper[c.second] * right;
      const real below = lower[c.first] * left + lower[c.second] * right;
      *to++ = above * up + below * down;
    }
  }
  return out;
}

Image resize_bilinear(const Image& image, int width, int height) {
  check_sizes(image, width, height);
  constexpr int bits = 11, one = 1 << bits;  // weights as OpenCV holds them
  Image out{width, height, std::vector<uint8_t>(size_t(width) * size_t(height) * 3)};
  const auto rows = neighbours(image.height, height), columns = neighbours(image.width, width);
  uint8_t* to = out.rgb.data();
  for (const Neighbours& r : rows) {
    const uint8_t* upper = image.rgb.data() + size_t(r.first) * size_t(image.width) * 3;
    const uint8_t* lower = image.rgb.data() + size_t(r.second) * size_t(image.width) * 3;
    const int down = int(std::lrint(r.weight * one)), up = one - down;
    for (const Neighbours& c : columns) {
      const int right = int(std::lrint(c.weight * one)), left = one - right;
      const size_t a = size_t(c.first) * 3, b = size_t(c.second) * 3;
      for (size_t channel = 0; channel < 3; ++channel) {
        const int above = upper[a + channel] * left + upper[b + channel] * right;
        const int below = lower[a + channel] * left + lower[b + channel] * right;
        *to++ = uint8_t((above * up + below * down + (1 << (2 * bits - 1))) >> (2 * bits));
      }
    }
  }
  return out;
}

}  // namespace whence
