// Decoded pixels against Pillow's, for every kind of file that it is meant to read.
#include "whence/image.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "io/codecs.h"
#include "io/files.h"
#include "tests/unit/io_cases.h"

namespace whence::test {
namespace {

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// Largest and mean difference.
std::pair<int, double> difference(const Image& a, const Image& b) {
  if (a.width != b.width || a.height != b.height || a.rgb.size() != b.rgb.size()) return {256, 256};
  int most = 0;
  double sum = 0;
  for (size_t i = 0; i < a.rgb.size(); ++i) {
    const int d = std::abs(a.rgb[i] - b.rgb[i]);
    most = std::max(most, d);
    sum += d;
  }
  return {most, sum / double(a.rgb.size())};
}

std::string reference_of(const std::string& jpeg) {
  return data_path("images/" + jpeg.substr(0, jpeg.size() - 4) + ".reference.png");
}

TEST(Image, pixels_equal_pillows) {
  int compared = 0;
  const nlohmann::json all = golden("io_pillow.json");
  for (const nlohmann::json& row : all["decoded"]) {
    const std::string file = row["file"];
    SCOPED_TRACE(file);
    // Pillow turns 16-bit grey into 8 bits in another way, so no such file is in the list.
    const Image image = read_image(data_path("images/" + file));
    EXPECT_EQ(image.width, row["size"][0].get<int>());
    EXPECT_EQ(image.height, row["size"][1].get<int>());
    ASSERT_EQ(image.rgb.size(), size_t(image.width) * size_t(image.height) * 3);
    if (ends_with(file, ".jpg") && !has_jpeg_turbo()) continue;  // see the next test
    EXPECT_EQ(crc(image.rgb), row["crc"].get<uint32_t>());
    ++compared;
  }
  EXPECT_EQ(compared, has_jpeg_turbo() ? 36 : 25);
}

// stb_image rounds its transform and its chroma interpolation in another way: measured on these
// files, the largest difference is 9 levels (chroma at half resolution) and the mean 0.3.
TEST(Image, second_jpeg_decoder_is_close_to_pillow) {
  int compared = 0;
  const nlohmann::json all = golden("io_pillow.json");
  for (const nlohmann::json& row : all["decoded"]) {
    const std::string file = row["file"];
    if (!ends_with(file, ".jpg")) continue;
    SCOPED_TRACE(file);
    const Bytes bytes = read_file(data_path("images/" + file), 1 << 20);
    const Image expected = read_image(reference_of(file));
    const auto [most, mean] =
        difference(decode_jpeg_stb(bytes, check_jpeg(bytes, file, {}), file), expected);
    EXPECT_LE(most, 10);
    EXPECT_LE(mean, 0.5);
    ++compared;
  }
  EXPECT_EQ(compared, 11);
}

TEST(Image, samples_of_16_bits_keep_their_top_byte) {
  const Bytes raw{0, 0x12, 0xFF, 0x80, 0x00, 0, 0xFE, 0x01, 0x00, 0xFF};
  const Image image = decode_image(png_file(png_header(2, 2, 16, 0), deflated(raw)), "grey16.png");
  EXPECT_EQ(image.rgb,
            (Bytes{0x12, 0x12, 0x12, 0x80, 0x80, 0x80, 0xFE, 0xFE, 0xFE, 0x00, 0x00, 0x00}));
}

TEST(Image, jpeg_put_together_by_hand_is_flat_grey) {
  JpegParts parts;
  parts.restart = jpeg_segment(0xDD, {0, 1});
  parts.data = {0x3F, 0xFF, 0xD0, 0x3F, 0xFF, 0xD1, 0x3F, 0xFF, 0xD2, 0x3F};
  for (const JpegParts& p : {JpegParts{}, parts}) {
    const Image image = decode_image(p.file(), "grey.jpg");
    EXPECT_EQ(image.width, 16);
    EXPECT_EQ(image.height, 16);
    EXPECT_EQ(image.rgb, Bytes(16 * 16 * 3, 128));
    const Bytes file = p.file();
    EXPECT_EQ(decode_jpeg_stb(file, check_jpeg(file, "x", {}), "x").rgb, Bytes(16 * 16 * 3, 128));
  }
}

// Restarts in a scan of three components count units of all three, here two across and two down.
TEST(Image, restarts_of_interleaved_components) {
  JpegParts p;
  p.frame = jpeg_frame(0xC0, 8, 9, 31, {1, 0x21, 0, 2, 0x11, 0, 3, 0x11, 0});
  p.scan = jpeg_segment(0xDA, {3, 1, 0, 2, 0, 3, 0, 0, 63, 0});
  p.restart = jpeg_segment(0xDD, {0, 2});
  p.data = {0x00, 0x00, 0xFF, 0xD0, 0x00, 0x00};  // four blocks of two bits a unit
  const Image image = decode_image(p.file(), "colour.jpg");
  EXPECT_EQ(image.width, 31);
  EXPECT_EQ(image.height, 9);
  EXPECT_EQ(image.rgb, Bytes(31 * 9 * 3, 128));
  append(p.data, {0xFF, 0xD1});  // one at the very end is common
  EXPECT_EQ(check_jpeg(p.file(), "x", {}).width, 31);
  append(p.data, {0xFF, 0xD2});
  EXPECT_EQ(thrown_by([&] { check_jpeg(p.file(), "x", {}); }).message,
            "x: JPEG scan 1 has 3 restart markers, 1 expected");
}

TEST(Image, limits_can_be_lowered) {
  const Bytes png = encode_png(noise_image(30, 20, 1));
  ImageLimits limits;
  limits.pixels = 599;
  const Thrown thrown = thrown_by([&] { decode_image(png, "x", limits); });
  EXPECT_EQ(thrown.message, "x: 30 x 20 pixels, the limit is 599 pixels");
  EXPECT_EQ(thrown.code, ErrorCode::limit);
  limits.pixels = 600;
  limits.side = 29;
  EXPECT_EQ(thrown_by([&] { decode_image(png, "x", limits); }).message,
            "x: 30 x 20 pixels, the limit is 29 a side");
  limits.side = 30;
  limits.file_bytes = int64_t(png.size()) - 1;
  EXPECT_EQ(thrown_by([&] { decode_image(png, "x", limits); }).message,
            "x: " + std::to_string(png.size()) + " bytes, the limit is " +
                std::to_string(png.size() - 1));
  limits.file_bytes = int64_t(png.size());
  EXPECT_EQ(decode_image(png, "x", limits).width, 30);
}

TEST(Image, kind_is_decided_by_content) {
  const Bytes png = encode_png(noise_image(3, 2, 1));
  EXPECT_EQ(decode_image(png, "called.jpg").rgb, noise_image(3, 2, 1).rgb);
}

TEST(Image, written_png_reads_back_the_same) {
  for (const auto& [width, height] : {std::pair{1, 1}, {7, 5}, {64, 33}, {1, 300}, {300, 1}}) {
    const Image noise = noise_image(width, height, 3);
    Image smooth = noise;
    for (size_t i = 0; i < smooth.rgb.size(); ++i) smooth.rgb[i] = uint8_t(i / 3);
    for (const Image& image : {noise, smooth}) {
      const Image back = decode_image(encode_png(image), "written.png");
      EXPECT_EQ(back.width, width);
      EXPECT_EQ(back.height, height);
      EXPECT_EQ(back.rgb, image.rgb);
    }
    if (width == 64) {
      EXPECT_LT(encode_png(smooth).size(), smooth.rgb.size() / 8);
    }
  }
}

TEST(Image, what_cannot_be_written_is_refused) {
  EXPECT_EQ(thrown_by([] {
              encode_png(Image{2, 2, Bytes(11)});
            }).message,
            "an image of 2 x 2 pixels with 11 bytes cannot be written");
  EXPECT_EQ(thrown_by([] { encode_png(Image{}); }).kind, ErrorKind::usage);
}

// A file cut anywhere must never give a picture, whichever byte is the last.
TEST(Image, every_truncation_is_refused) {
  const nlohmann::json all = golden("io_pillow.json");
  for (const nlohmann::json& row : all["decoded"]) {
    const std::string file = row["file"];
    if (file == "trailing.jpg") continue;
    SCOPED_TRACE(file);
    const Bytes bytes = read_file(data_path("images/" + file), 1 << 20);
    const Thrown whole = thrown_by([&] { decode_image(bytes, file); });
    EXPECT_EQ(whole.message, "nothing was thrown");
    for (size_t size = 0; size < bytes.size(); size += 1 + bytes.size() / 400) {
      const Thrown thrown = thrown_by([&] { decode_image(std::span(bytes).first(size), file); });
      ASSERT_EQ(thrown.kind, ErrorKind::file) << size << ": " << thrown.message;
      ASSERT_EQ(thrown.message.rfind(file + ": ", 0), 0u) << thrown.message;
    }
  }
}

// PNG has a checksum over everything: no single flipped bit may pass unnoticed.
TEST(Image, every_flipped_bit_of_a_png_is_noticed) {
  const Bytes bytes = read_file(data_path("images/rgba16.png"), 1 << 20);
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    Bytes spoilt = bytes;
    spoilt[bit / 8] = uint8_t(spoilt[bit / 8] ^ (1 << bit % 8));
    ASSERT_NE(thrown_by([&] { decode_image(spoilt, "x"); }).message, "nothing was thrown") << bit;
  }
}

// JPEG has none: a flipped bit may give other pixels, but then all of them and of the same size, or
// the sizes that the changed header states.
TEST(Image, flipped_bits_of_a_jpeg_end_in_an_image_or_an_error) {
  for (const char* file : {"420.jpg", "444_progressive.jpg", "cmyk.jpg"}) {
    const Bytes bytes = read_file(data_path(std::string("images/") + file), 1 << 20);
    int refused = 0, read = 0;
    for (size_t bit = 0; bit < bytes.size() * 8; bit += 7) {
      Bytes spoilt = bytes;
      spoilt[bit / 8] = uint8_t(spoilt[bit / 8] ^ (1 << bit % 8));
      ImageLimits limits;
      limits.pixels = 1'000'000;
      try {
        const Image image = decode_image(spoilt, "x", limits);
        ASSERT_EQ(image.rgb.size(), size_t(image.width) * size_t(image.height) * 3);
        ++read;
      } catch (const Error& e) {
        ASSERT_TRUE(e.kind() == ErrorKind::file || e.kind() == ErrorKind::unsupported) << e.what();
        ++refused;
      }
    }
    EXPECT_GT(refused, 0);
    EXPECT_GT(read, 0);
  }
}

}  // namespace
}  // namespace whence::test
