#include <algorithm>
#include <cmath>
#include <cstring>

#include "runtime/check.h"
#include "whence/image.h"

namespace whence {
namespace {

struct Size {
  int64_t width, height;
};

Size resized(const Preprocess& p, const Image& image) {
  const int64_t w = image.width, h = image.height;
  if (w < 1 || h < 1) fail_usage("an image of {} x {} pixels cannot be prepared", w, h);
  switch (p.fit) {
    case Preprocess::Fit::none:
      break;
    case Preprocess::Fit::exact:
      return {p.resize_width, p.resize_height};
    case Preprocess::Fit::short_side: {
      const int64_t side = p.resize_height;
      if (w <= h) return {side, side * h / w};
      return {side * w / h, side};
    }
  }
  return {w, h};
}

// Where the crop begins on one axis of the resized image; negative where zeros come first.
int64_t crop_begin(int64_t size, int64_t crop, Preprocess::CropRounding rounding) {
  const int64_t spare = size - crop;
  const bool even = rounding == Preprocess::CropRounding::half_even;
  // A crop that does not fit is padded: the smaller half in front (torchvision) or the larger
  // (Hugging Face).
  if (spare < 0) return even ? -(-spare / 2) : -((-spare + 1) / 2);
  const int64_t half = spare / 2;
  return spare % 2 == 1 && even && half % 2 == 1 ? half + 1 : half;
}

int to_side(int64_t size, const Image& image) {
  constexpr int64_t most = int64_t(1) << 20;
  if (size < 1 || size > most)
    fail(ErrorCode::item,
         "an image of {} x {} pixels would become {} pixels on one side, 1 to {} are possible",
         image.width, image.height, size, most);
  return int(size);
}

Image crop(const Image& image, int64_t left, int64_t top, int width, int height) {
  Image out{width, height, std::vector<uint8_t>(size_t(width) * size_t(height) * 3)};
  const int64_t from_x = std::max<int64_t>(left, 0);
  const int64_t to_x = std::min<int64_t>(left + width, image.width);
  for (int64_t y = std::max<int64_t>(top, 0); y < std::min<int64_t>(top + height, image.height);
       ++y)
    if (to_x > from_x)
      std::memcpy(&out.rgb[size_t((y - top) * width + from_x - left) * 3],
                  &image.rgb[size_t(y * image.width + from_x) * 3], size_t(to_x - from_x) * 3);
  return out;
}

}  // namespace

Image Preprocess::pixels(const Image& image) const {
  const Size size = resized(*this, image);
  Image scaled = fit == Fit::none ? image
                                  : resize(image, to_side(size.width, image),
                                           to_side(size.height, image), filter);
  if (!crop) return scaled;
  if (crop_width < 1 || crop_height < 1)
    fail_usage("an image cannot be cropped to {} x {} pixels", crop_width, crop_height);
  return whence::crop(scaled, crop_begin(size.width, crop_width, crop_rounding),
                      crop_begin(size.height, crop_height, crop_rounding), crop_width, crop_height);
}

Tensor Preprocess::normalise(const Image& pixels) const {
  const int64_t plane = int64_t(pixels.width) * pixels.height;
  if (plane < 1 || int64_t(pixels.rgb.size()) != plane * 3)
    fail_usage("an image of {} x {} pixels with {} bytes cannot be normalised", pixels.width,
               pixels.height, pixels.rgb.size());
  Tensor out(Type{Shape{3, pixels.height, pixels.width}});
  for (size_t c = 0; c < 3; ++c) {
    if (!(std[c] > 0)) fail_usage("the standard deviation of channel {} is {}", c, std[c]);
    // A byte has 256 values: the steps, each rounded as in training pipelines, are done once for
    // each.
    std::array<real, 256> table;
    for (size_t v = 0; v < table.size(); ++v) {
      const real unit = real(v) / real(255);
      const real centred = real(double(unit) - mean[c]);
      table[v] = real(double(centred) / std[c]);
    }
    real* to = out.reals().data() + int64_t(c) * plane;
    const uint8_t* from = pixels.rgb.data() + c;
    for (int64_t i = 0; i < plane; ++i, from += 3) to[i] = table[*from];
  }
  return out;
}

Preprocess::Region Preprocess::region(const Image& image) const {
  const Size size = resized(*this, image);
  if (!crop) return {0, 0, double(image.width), double(image.height)};
  const double x = double(image.width) / double(size.width);
  const double y = double(image.height) / double(size.height);
  return {double(crop_begin(size.width, crop_width, crop_rounding)) * x,
          double(crop_begin(size.height, crop_height, crop_rounding)) * y, crop_width * x,
          crop_height * y};
}

}  // namespace whence
