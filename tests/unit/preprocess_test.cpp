#include <gtest/gtest.h>

#include <cmath>

#include "tests/unit/io_cases.h"
#include "whence/image.h"

namespace whence::test {
namespace {

// Every pixel holds its own position.
Image coordinates(int width, int height) {
  Image image{width, height, {}};
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      image.rgb.insert(image.rgb.end(), {uint8_t(x), uint8_t(y), uint8_t(200)});
  return image;
}

Preprocess crop_only(int width, int height, Preprocess::CropRounding rounding) {
  Preprocess p;
  p.fit = Preprocess::Fit::none;
  p.crop_width = width;
  p.crop_height = height;
  p.crop_rounding = rounding;
  return p;
}

TEST(PreprocessImage, normalises_in_the_stated_rounding_order) {
  const nlohmann::json cases = golden("io_interpreters.json")["preprocess"];
  const Image image{3, 2, cases["u8"]["data"].get<Bytes>()};
  const Tensor x = Preprocess{}.normalise(image);
  ASSERT_EQ(x.shape(), (Shape{3, 2, 3}));
  for (size_t i = 0; i < 18; ++i) {
    const double expected = cases["float"]["data"][i];
    if (sizeof(real) == sizeof(float)) {
      EXPECT_EQ(float(x.reals()[i]), float(expected)) << i;
    } else {
      EXPECT_NEAR(x.reals()[i], expected, 4e-7) << i;  // rounding of the expected floats
    }
  }
}

// All 256 values of a byte: each step rounded on its own, not once at the end.
TEST(PreprocessImage, every_byte_value) {
  Image image{256, 1, {}};
  for (int v = 0; v < 256; ++v) image.rgb.insert(image.rgb.end(), 3, uint8_t(v));
  Preprocess p;
  p.mean = {0.48145466, 0.4578275, 0.40821073};
  p.std = {0.26862954, 0.26130258, 0.27577711};
  const Tensor x = p.normalise(image);
  for (size_t c = 0; c < 3; ++c)
    for (size_t v = 0; v < 256; ++v) {
      const real unit = real(v) / real(255);
      const real centred = real(double(unit) - p.mean[c]);
      ASSERT_EQ(x.reals()[c * 256 + v], real(double(centred) / p.std[c])) << c << " " << v;
    }
}

TEST(PreprocessImage, crop_offsets_of_both_conventions) {
  // (size, crop) -> offset half to even, offset rounded down.
  const int cases[][4] = {{259, 224, 18, 17}, {257, 224, 16, 16}, {299, 224, 38, 37},
                          {256, 224, 16, 16}, {225, 224, 0, 0},   {227, 224, 2, 1},
                          {224, 224, 0, 0}};
  for (const auto& [size, crop, even, floor] : cases) {
    const Image wide = coordinates(std::min(size, 250), 3);
    for (const bool rounds_even : {true, false}) {
      Preprocess p = crop_only(
          crop, 1,
          rounds_even ? Preprocess::CropRounding::half_even : Preprocess::CropRounding::floor);
      const Image tall{3, size, Bytes(size_t(size) * 9)};
      EXPECT_EQ(p.region(Image{size, 3, Bytes(size_t(size) * 9)}).left, rounds_even ? even : floor)
          << size;
      std::swap(p.crop_width, p.crop_height);
      EXPECT_EQ(p.region(tall).top, rounds_even ? even : floor) << size;
    }
  }
}

TEST(PreprocessImage, cropped_pixels_come_from_the_offsets) {
  const Image image = coordinates(9, 8);
  const Image even = crop_only(4, 5, Preprocess::CropRounding::half_even).pixels(image);
  const Image floor = crop_only(4, 5, Preprocess::CropRounding::floor).pixels(image);
  EXPECT_EQ(even.width, 4);
  EXPECT_EQ(even.height, 5);
  EXPECT_EQ(even.rgb[0], 2);  // 2.5 to even
  EXPECT_EQ(even.rgb[1], 2);  // 1.5 to even
  EXPECT_EQ(floor.rgb[0], 2);
  EXPECT_EQ(floor.rgb[1], 1);
  const size_t last = (5 * 4 - 1) * 3;
  EXPECT_EQ(floor.rgb[last], 5);
  EXPECT_EQ(floor.rgb[last + 1], 5);
}

TEST(PreprocessImage, images_smaller_than_the_crop_are_padded_with_zeros) {
  const Image image = coordinates(2, 9);
  const Image even = crop_only(5, 5, Preprocess::CropRounding::half_even).pixels(image);
  const Image floor = crop_only(5, 5, Preprocess::CropRounding::floor).pixels(image);
  const auto blue = [](const Image& i, int y) {
    Bytes row;
    for (int x = 0; x < 5; ++x) row.push_back(i.rgb[size_t(y * 5 + x) * 3 + 2]);
    return row;
  };
  for (int y = 0; y < 5; ++y) {
    EXPECT_EQ(blue(even, y), (Bytes{0, 200, 200, 0, 0}));   // the smaller half in front
    EXPECT_EQ(blue(floor, y), (Bytes{0, 0, 200, 200, 0}));  // the larger half in front
    EXPECT_EQ(even.rgb[size_t(y * 5 + 1) * 3 + 1], y + 2);
  }
  EXPECT_EQ(crop_only(5, 5, Preprocess::CropRounding::floor).region(image).left, -2);
}

TEST(PreprocessImage, short_side_keeps_the_aspect_and_truncates) {
  Preprocess p;
  p.crop = false;
  for (const auto& [size, longer] : {std::pair{256, 341}, {248, 330}, {224, 298}}) {
    p.resize_height = size;
    const Image wide = p.pixels(Image{500, 375, Bytes(500 * 375 * 3)});
    EXPECT_EQ(wide.width, longer);
    EXPECT_EQ(wide.height, size);
    const Image tall = p.pixels(Image{375, 500, Bytes(500 * 375 * 3)});
    EXPECT_EQ(tall.width, size);
    EXPECT_EQ(tall.height, longer);
  }
}

TEST(PreprocessImage, whole_pipeline_equals_its_parts) {
  const Image image = noise_image(75, 50, 9);
  Preprocess p;
  p.resize_height = 40;
  p.crop_width = p.crop_height = 32;
  p.filter = Resample::bicubic;
  const Image expected =
      crop_only(32, 32, p.crop_rounding).pixels(resize(image, 60, 40, Resample::bicubic));
  EXPECT_EQ(p.pixels(image).rgb, expected.rgb);
  const Tensor x = p(image), y = p.normalise(expected);
  EXPECT_TRUE(std::equal(x.reals().begin(), x.reals().end(), y.reals().begin()));

  p.fit = Preprocess::Fit::exact;
  p.resize_width = 33;
  p.crop = false;
  EXPECT_EQ(p.pixels(image).rgb, resize(image, 33, 40, Resample::bicubic).rgb);
}

TEST(PreprocessImage, region_is_the_crop_in_original_pixels) {
  Preprocess p;  // short side 256, crop 224
  const auto region = p.region(Image{512, 1024, {}});
  EXPECT_DOUBLE_EQ(region.left, 32);  // (256 - 224) / 2 times 2
  EXPECT_DOUBLE_EQ(region.top, 288);  // (512 - 224) / 2 times 2
  EXPECT_DOUBLE_EQ(region.width, 448);
  EXPECT_DOUBLE_EQ(region.height, 448);
  p.crop = false;
  EXPECT_DOUBLE_EQ(p.region(Image{512, 1024, {}}).height, 1024);
}

TEST(PreprocessImage, impossible_settings_are_refused) {
  Preprocess p;
  EXPECT_EQ(thrown_by([&] {
              p.pixels(Image{1, 16384, Bytes(16384 * 3)});
            }).message,
            "an image of 1 x 16384 pixels would become 4194304 pixels on one side, 1 to 1048576 "
            "are possible");
  p.std[1] = 0;
  EXPECT_EQ(thrown_by([&] { p.normalise(noise_image(2, 2, 1)); }).message,
            "the standard deviation of channel 1 is 0");
  p.crop_width = 0;
  EXPECT_EQ(thrown_by([&] { p.pixels(noise_image(2, 2, 1)); }).message,
            "an image cannot be cropped to 0 x 224 pixels");
  EXPECT_EQ(thrown_by([&] { p.pixels(Image{}); }).message,
            "an image of 0 x 0 pixels cannot be prepared");
}

}  // namespace
}  // namespace whence::test
