#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "tests/unit/io_cases.h"
#include "whence/image.h"

namespace whence::test {
namespace {

// Grey 7 x 5 image with p[y][x] = 37 * (7y + x) mod 256.
Image grey_ramp() {
  Image image{7, 5, {}};
  for (int i = 0; i < 35; ++i) image.rgb.insert(image.rgb.end(), 3, uint8_t(37 * i % 256));
  return image;
}

Bytes green_row(const Image& image, int y) {
  Bytes row;
  for (int x = 0; x < image.width; ++x)
    row.push_back(image.rgb[size_t(y * image.width + x) * 3 + 1]);
  return row;
}

TEST(Resample, known_pixels) {
  const Image small = resize(grey_ramp(), 4, 3, Resample::bicubic);
  EXPECT_EQ(green_row(small, 0), (Bytes{16, 78, 146, 208}));
  EXPECT_EQ(green_row(small, 1), (Bytes{21, 83, 151, 213}));
  EXPECT_EQ(green_row(small, 2), (Bytes{26, 88, 156, 218}));
  const Image linear = resize(grey_ramp(), 4, 3, Resample::bilinear);
  EXPECT_EQ(green_row(linear, 0), (Bytes{20, 78, 146, 204}));
  EXPECT_EQ(green_row(linear, 2), (Bytes{30, 88, 156, 214}));
  const Image large = resize(grey_ramp(), 10, 6, Resample::bicubic);
  EXPECT_EQ(green_row(large, 0), (Bytes{0, 17, 46, 72, 98, 124, 150, 176, 205, 224}));
  EXPECT_EQ(green_row(large, 5), (Bytes{10, 29, 58, 84, 110, 136, 162, 188, 217, 236}));
  const Image wide = resize(grey_ramp(), 10, 6, Resample::bilinear);
  EXPECT_EQ(green_row(wide, 0), (Bytes{0, 20, 46, 72, 98, 124, 150, 176, 202, 222}));
  EXPECT_EQ(green_row(wide, 5), (Bytes{12, 32, 58, 84, 110, 136, 162, 188, 214, 234}));
}

TEST(Resample, every_byte_equals_pillows) {
  const std::map<std::string, Resample> filters{
      {"nearest", Resample::nearest},   {"box", Resample::box},
      {"bilinear", Resample::bilinear}, {"bicubic", Resample::bicubic},
      {"lanczos", Resample::lanczos},   {"hamming", Resample::hamming}};
  std::map<std::string, int> compared;
  const nlohmann::json all = golden("io_pillow.json");
  for (const nlohmann::json& row : all["resize"]) {
    const std::string filter = row["filter"];
    SCOPED_TRACE(row.dump());
    const Image image = noise_image(row["from"][0], row["from"][1], row["seed"].get<uint32_t>());
    const Image result = resize(image, row["to"][0], row["to"][1], filters.at(filter));
    ASSERT_EQ(result.width, row["to"][0].get<int>());
    ASSERT_EQ(result.height, row["to"][1].get<int>());
    EXPECT_EQ(crc(result.rgb), row["crc"].get<uint32_t>());
    ++compared[filter];
  }
  EXPECT_EQ(compared.size(), 6u);
  for (const auto& [filter, count] : compared) EXPECT_GE(count, 7) << filter;
}

TEST(Resample, sizes_that_cannot_be_are_refused) {
  const Image image = grey_ramp();
  EXPECT_EQ(thrown_by([&] { resize(image, 0, 3, Resample::box); }).message,
            "an image cannot become 0 x 3 pixels");
  EXPECT_EQ(thrown_by([&] { resize(image, 20000, 20000, Resample::box); }).message,
            "an image of 7 x 5 pixels would become 20000 x 20000, the limit is 100 megapixels");
  EXPECT_EQ(thrown_by([&] {
              resize(Image{2, 2, Bytes(3)}, 1, 1, Resample::box);
            }).message,
            "an image of 2 x 2 pixels with 3 bytes cannot be resized");
}

Tensor tensor_of(const nlohmann::json& array) {
  std::vector<int64_t> sizes = array["shape"];
  std::vector<real> values;
  for (const auto& v : array["data"]) values.push_back(v.get<real>());
  return Tensor::of(Shape(sizes), values);
}

TEST(Resample, half_pixel_bilinear_of_floats) {
  const nlohmann::json cases = golden("io_interpreters.json")["resize_bilinear"];
  const Tensor x = tensor_of(cases["f32_in"]);
  for (const char* name : {"f32_out_7x8", "f32_out_2x3"}) {
    const Tensor expected = tensor_of(cases[name]);
    const Tensor y = resize_bilinear(x, expected.shape()[0], expected.shape()[1]);
    ASSERT_EQ(y.shape(), expected.shape());
    for (size_t i = 0; i < y.reals().size(); ++i)  // two roundings of numbers below 1
      ASSERT_NEAR(y.reals()[i], expected.reals()[i], 2e-7) << name << " at " << i;
  }
}

TEST(Resample, half_pixel_bilinear_of_a_constant_and_of_one_value) {
  const Tensor one = resize_bilinear(Tensor::of(Shape{1, 1}, {real(0.3)}), 3, 5);
  for (const real v : one.reals()) EXPECT_EQ(v, real(0.3));
  const Tensor x = Tensor::of(Shape{2, 2}, {0, 1, 2, 3});
  const Tensor y = resize_bilinear(x, 4, 4);
  const std::vector<real> row{real(0.5), real(0.75), real(1.25), real(1.5)};
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(y.reals()[4 + i], row[i]);
  EXPECT_EQ(thrown_by([&] { resize_bilinear(x, 0, 4); }).message,
            "a map of shape [2, 2] cannot become 0 x 4");
}

TEST(Resample, half_pixel_bilinear_of_bytes_within_one_level) {
  const nlohmann::json cases = golden("io_interpreters.json")["resize_bilinear"];
  const nlohmann::json& in = cases["u8_in"];
  const Image image{in["shape"][1], in["shape"][0], in["data"].get<Bytes>()};
  for (const char* name : {"u8_short_edge_9", "u8_short_edge_4"}) {
    const nlohmann::json& expected = cases[name];
    const Image y =
        resize_bilinear(image, expected["shape"][1].get<int>(), expected["shape"][0].get<int>());
    ASSERT_EQ(y.rgb.size(), expected["data"].size());
    for (size_t i = 0; i < y.rgb.size(); ++i)  // back ends round differently
      ASSERT_LE(std::abs(y.rgb[i] - expected["data"][i].get<int>()), 1) << name << " at " << i;
  }
  EXPECT_EQ(resize_bilinear(image, image.width, image.height).rgb, image.rgb);
}

}  // namespace
}  // namespace whence::test
