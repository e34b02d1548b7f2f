// Images: decoding, resampling equal to Pillow's, and what a model's preprocessing does to them.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "whence/tensor.h"

namespace whence {

// 8-bit RGB, rows from the top, three bytes a pixel.
struct Image {
  int width = 0, height = 0;
  std::vector<uint8_t> rgb;
};

struct ImageLimits {
  int64_t file_bytes = int64_t(256) << 20;
  int64_t pixels = 100'000'000;
  int side = 16384;
};

// PNG, JPEG or BMP, told apart by their first bytes. Alpha is dropped, 16-bit samples keep their
// top byte, grey, palette and CMYK become RGB, EXIF orientation is ignored: as in common training
// pipelines. Throws file errors (code format or limit) that name `name`; a truncated or corrupt
// image is never returned half-read.
Image decode_image(std::span<const uint8_t> bytes, const std::string& name,
                   const ImageLimits& = {});
Image read_image(const std::filesystem::path& path, const ImageLimits& = {});
std::vector<uint8_t> encode_png(const Image& image);

enum class Resample : uint8_t { nearest, box, bilinear, bicubic, lanczos, hamming };
const char* name_of(Resample filter);  // "bilinear"
// Pillow's resampling, bit for bit: two passes with antialiasing, 8-bit between the passes.
Image resize(const Image& image, int width, int height, Resample filter);
// Half-pixel centres, edges clamped, no antialiasing (OpenCV's and torch's `align_corners=False`):
// x is [H, W], the result [height, width].
Tensor resize_bilinear(const Tensor& x, int64_t height, int64_t width);
// The same convention on 8-bit pixels (within one level of OpenCV).
Image resize_bilinear(const Image& image, int width, int height);

// From pixels to a model's input.
struct Preprocess {
  enum class Fit : uint8_t {
    none,        // pixels as they are
    exact,       // both sides to resize_height x resize_width
    short_side,  // the shorter side to resize_height, the other truncated, aspect kept
  };
  Fit fit = Fit::short_side;
  int resize_height = 256, resize_width = 256;
  Resample filter = Resample::bilinear;
  bool crop = true;
  int crop_height = 224, crop_width = 224;
  // Offset of a centred crop: half to even (torchvision, timm) or rounded down (Hugging Face).
  enum class CropRounding : uint8_t { half_even, floor } crop_rounding = CropRounding::half_even;
  std::array<double, 3> mean{0.485, 0.456, 0.406}, std{0.229, 0.224, 0.225};

  // Pixels the model sees: resized, then cropped (padded with zeros where smaller than the crop).
  Image pixels(const Image& image) const;
  // (pixels / 255 - mean) / std as [3, H, W], rounded to float after each step.
  Tensor normalise(const Image& pixels) const;
  Tensor operator()(const Image& image) const { return normalise(pixels(image)); }

  // Where the model's view lies in the original image, in pixels of it (for pictures).
  struct Region {
    double left = 0, top = 0, width = 0, height = 0;
  };
  Region region(const Image& image) const;
};

}  // namespace whence
