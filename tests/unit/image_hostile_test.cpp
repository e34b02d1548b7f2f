// Files that are not what they claim to be. Each must be refused with its own sentence, before
// memory is taken for what it claims.
#include <gtest/gtest.h>

#include <string>

#include "io/codecs.h"
#include "tests/unit/io_cases.h"

namespace whence::test {
namespace {

struct Case {
  const char* name;
  std::function<Bytes()> make;
  ErrorCode code;
  const char* message;  // behind "bad: "
};

constexpr ErrorCode format = ErrorCode::format, limit = ErrorCode::limit,
                    unsupported = ErrorCode::unsupported;

// Offers every case under the name "bad" and compares kind, code and text.
template <size_t N>
void expect_refused(const Case (&cases)[N]) {
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const Bytes file = c.make();
    const Thrown thrown = thrown_by([&] { decode_image(file, "bad"); });
    EXPECT_EQ(thrown.message, std::string("bad: ") + c.message);
    EXPECT_EQ(thrown.code, c.code);
    EXPECT_EQ(thrown.kind, c.code == unsupported ? ErrorKind::unsupported : ErrorKind::file);
  }
}

Bytes text(std::string_view t) { return bytes_of(t); }

TEST(HostileImage, other_kinds_of_file) {
  const Case cases[] = {
      {"empty", [] { return Bytes{}; }, format,
       "this is an empty file, not a JPEG, PNG or BMP image"},
      {"text called .jpg", [] { return text("a cat, sitting"); }, format,
       "not a JPEG, PNG or BMP image"},
      {"web page", [] { return text("\n <!DOCTYPE html><html>"); }, format,
       "this is an HTML page, not a JPEG, PNG or BMP image"},
      {"pointer", [] { return text("version https://git-lfs.github.com/spec/v1\n"); }, format,
       "this is a git-lfs pointer, not a JPEG, PNG or BMP image"},
      {"gif", [] { return text("GIF89a\1\1\1\1\1\1"); }, format,
       "this is a GIF image, not JPEG, PNG or BMP; convert it first"},
      {"webp", [] { return text("RIFF1234WEBPVP8 "); }, format,
       "this is a WebP image, not JPEG, PNG or BMP; convert it first"},
      {"avif",
       [] {
         return joined({Bytes{0, 0, 0, 28}, text("ftypavif")});
       },
       format, "this is a HEIF or AVIF image, not JPEG, PNG or BMP; convert it first"},
      {"start marker alone",
       [] {
         return Bytes{0xFF, 0xD8};
       },
       format, "not a JPEG, PNG or BMP image"},
      {"half a PNG signature",
       [] {
         return Bytes{0x89, 'P', 'N', 'G'};
       },
       format, "not a JPEG, PNG or BMP image"},
  };
  expect_refused(cases);
}

// 2 x 2 pixels of 8-bit RGB: two rows of a filter byte and six samples.
const Bytes good_header = png_header(2, 2, 8, 2);
const Bytes good_raw(14);
Bytes spoilt_filter() {
  Bytes raw = good_raw;
  raw[7] = 5;
  return raw;
}
Bytes spoilt_stream_sum() {
  Bytes data = deflated(good_raw);
  data.back() ^= 1;
  return data;
}
Bytes palette_file(const Bytes& palette, const Bytes& raw, int depth = 8) {
  return joined({png_signature, png_header(2, 1, depth, 3), png_chunk("PLTE", palette),
                 png_chunk("IDAT", deflated(raw)), png_end});
}

TEST(HostileImage, png_structure) {
  const Bytes data = png_chunk("IDAT", deflated(good_raw));
  const Case cases[] = {
      {"signature alone", [] { return png_signature; }, format,
       "PNG ends at byte 8 without its end chunk"},
      {"no end chunk",
       [&] {
         return joined({png_signature, good_header, data});
       },
       format, "PNG ends at byte 56 without its end chunk"},
      {"chunk longer than the file",
       [] {
         return joined(
             {png_signature, good_header, Bytes{0x7F, 0xFF, 0xFF, 0xFF}, text("IDATxxxx")});
       },
       format, "PNG chunk IDAT at byte 33 claims 2147483647 bytes but only 0 follow"},
      {"no header",
       [&] {
         return joined({png_signature, data, good_header, png_end});
       },
       format, "PNG begins with chunk IDAT, not IHDR"},
      {"two headers",
       [&] {
         return joined({png_signature, good_header, good_header, data, png_end});
       },
       format, "PNG has two headers"},
      {"no data",
       [] {
         return joined({png_signature, good_header, png_end});
       },
       format, "PNG has no image data"},
      {"data in two places",
       [&] {
         return joined({png_signature, good_header, data, png_chunk("tEXt", {}), data, png_end});
       },
       format, "PNG image data is interrupted before byte 68"},
      {"unknown critical chunk",
       [&] {
         return joined({png_signature, good_header, png_chunk("EV\x1BL", {}), data, png_end});
       },
       format, "PNG has a critical chunk EV\\x1BL that is not known"},
      {"wrong checksum of data",
       [] {
         return joined(
             {png_signature, good_header, png_chunk("IDAT", deflated(good_raw), 1), png_end});
       },
       format, "PNG chunk IDAT at byte 33 has a wrong checksum"},
      {"wrong checksum of a comment",
       [&] {
         return joined({png_signature, good_header, png_chunk("tEXt", {65}, 8), data, png_end});
       },
       format, "PNG chunk tEXt at byte 33 has a wrong checksum"},
      {"end chunk with content",
       [&] {
         return joined({png_signature, good_header, data, png_chunk("IEND", {1})});
       },
       format, "PNG end chunk of 1 bytes, 0 expected"},
      {"short header",
       [&] {
         return joined({png_signature, png_chunk("IHDR", Bytes(12)), data, png_end});
       },
       format, "PNG header of 12 bytes, 13 expected"},
      {"two palettes",
       [&] {
         return joined({png_signature, good_header, png_chunk("PLTE", {1, 2, 3}),
                        png_chunk("PLTE", {1, 2, 3}), data, png_end});
       },
       format, "PNG has two palettes"},
      {"late palette",
       [&] {
         return joined({png_signature, good_header, data, png_chunk("PLTE", {1, 2, 3}), png_end});
       },
       format, "PNG palette follows the image data"},
      {"grey with a palette",
       [&] {
         return joined(
             {png_signature, png_header(2, 2, 8, 0), png_chunk("PLTE", {1, 2, 3}), data, png_end});
       },
       format, "grey PNG has a palette"},
      {"palette missing",
       [&] {
         return joined({png_signature, png_header(2, 2, 8, 3), data, png_end});
       },
       format, "PNG palette is missing"},
      {"palette of a third colour",
       [] {
         return palette_file({1, 2, 3, 4}, {0, 0, 0});
       },
       format, "PNG palette of 4 bytes, 3 to 768 in threes expected"},
      {"palette over its depth",
       [] {
         return palette_file(Bytes(9), {0, 0}, 1);
       },
       format, "PNG palette of 9 bytes, 3 to 6 in threes expected"},
      {"colour outside the palette",
       [] {
         return palette_file({1, 2, 3, 4, 5, 6}, {0, 1, 2});
       },
       format, "PNG pixel has colour 2 of a palette of 2"},
  };
  expect_refused(cases);
}

TEST(HostileImage, png_sizes_and_data) {
  const Case cases[] = {
      {"width 0", [] { return png_file(png_header(0, 2, 8, 2), deflated({})); }, format,
       "image of 0 x 2 pixels"},
      {"10 gigapixels", [] { return png_file(png_header(100000, 100000, 8, 2), deflated({})); },
       limit, "100000 x 100000 pixels, the limit is 16384 a side"},
      {"largest sizes there are", [] { return png_file(png_header(~0u, ~0u, 8, 2), deflated({})); },
       limit, "4294967295 x 4294967295 pixels, the limit is 16384 a side"},
      {"over 100 megapixels", [] { return png_file(png_header(16000, 16000, 8, 2), deflated({})); },
       limit, "16000 x 16000 pixels, the limit is 100 megapixels"},
      {"300 megabytes from 15 bytes",
       [] { return png_file(png_header(10000, 10000, 8, 2), Bytes(15)); }, format,
       "PNG has 15 bytes of image data, 10000 x 10000 pixels need at least 290707"},
      {"3 bits a sample", [] { return png_file(png_header(2, 2, 3, 0), deflated(good_raw)); },
       format, "PNG colour type 0 with 3 bits a sample"},
      {"16-bit palette", [] { return png_file(png_header(2, 2, 16, 3), deflated(good_raw)); },
       format, "PNG colour type 3 with 16 bits a sample"},
      {"colour type 5", [] { return png_file(png_header(2, 2, 8, 5), deflated(good_raw)); }, format,
       "PNG colour type 5 with 8 bits a sample"},
      {"interlace 2", [] { return png_file(png_header(2, 2, 8, 2, 2), deflated(good_raw)); },
       format, "PNG compression 0, filter 0, interlace 2: the format has 0, 0 and 0 or 1"},
      {"one byte too few", [] { return png_file(good_header, deflated(Bytes(13))); }, format,
       "PNG image data ends after 1 of 2 rows"},
      {"one byte too many", [] { return png_file(good_header, deflated(Bytes(15))); }, format,
       "PNG has more image data than pixels"},
      {"filter 5", [] { return png_file(good_header, deflated(spoilt_filter())); }, format,
       "PNG row 1 has filter 5, at most 4 expected"},
      {"not deflate", [] { return png_file(good_header, Bytes(40, 0x55)); }, format,
       "PNG image data is corrupt: incorrect header check"},
      {"wrong sum of the stream", [] { return png_file(good_header, spoilt_stream_sum()); }, format,
       "PNG image data is corrupt: incorrect data check"},
      {"stream cut off",
       [] {
         Bytes data = deflated(good_raw);
         data.erase(data.end() - 4, data.end());
         return png_file(good_header, data);
       },
       format, "PNG image data ends before its compressed stream does"},
      {"dictionary",
       [] {
         return png_file(good_header, {0x78, 0xBB, 0, 0, 0, 1, 0, 0, 0, 0});
       },
       format, "PNG image data is corrupt: a dictionary is needed"},
  };
  expect_refused(cases);
}

BmpFields bmp(const std::function<void(BmpFields&)>& change) {
  BmpFields f;
  change(f);
  return f;
}

TEST(HostileImage, bmp) {
  const Case cases[] = {
      {"letters alone", [] { return text("BM"); }, format, "BMP of 2 bytes ends inside its header"},
      {"width 0", [] { return bmp_file(bmp([](auto& f) { f.width = 0; })); }, format,
       "image of 0 x 2 pixels"},
      {"negative width", [] { return bmp_file(bmp([](auto& f) { f.width = -2; })); }, format,
       "image of -2 x 2 pixels"},
      {"smallest height", [] { return bmp_file(bmp([](auto& f) { f.height = INT32_MIN; })); },
       limit, "2 x 2147483648 pixels, the limit is 16384 a side"},
      {"rows missing", [] { return bmp_file(bmp([](auto& f) { f.rest = Bytes(15); })); }, format,
       "BMP data ends after 1 of 2 rows"},
      {"pixels behind the end",
       [] { return bmp_file(bmp([](auto& f) { f.offset = 4'000'000'000; })); }, format,
       "BMP data ends after 0 of 2 rows"},
      {"pixels in the header", [] { return bmp_file(bmp([](auto& f) { f.offset = 20; })); }, format,
       "BMP pixels begin at byte 20, inside the header"},
      {"compressed", [] { return bmp_file(bmp([](auto& f) { f.compression = 1, f.bits = 8; })); },
       unsupported, "BMP with compression 1 and 8 bits a pixel; save it without compression"},
      {"7 bits", [] { return bmp_file(bmp([](auto& f) { f.bits = 7; })); }, format,
       "BMP with 7 bits a pixel"},
      {"two planes", [] { return bmp_file(bmp([](auto& f) { f.planes = 2; })); }, format,
       "BMP with 2 planes, 1 expected"},
      {"unknown header", [] { return bmp_file(bmp([](auto& f) { f.header = 41; })); }, format,
       "BMP header of 41 bytes is not known"},
      {"header over the end", [] { return bmp_file(bmp([](auto& f) { f.header = 124; })); }, format,
       "BMP of 70 bytes ends inside its header"},
      {"palette over the end", [] { return bmp_file(bmp([](auto& f) { f.bits = 8; })); }, format,
       "BMP ends inside its palette"},
      {"300 colours of 8 bits",
       [] { return bmp_file(bmp([](auto& f) { f.bits = 8, f.colours = 300; })); }, format,
       "BMP palette of 300 colours, at most 256 expected"},
      {"colour outside the palette",
       [] {
         return bmp_file(bmp([](auto& f) {
           f.bits = 8, f.colours = 2, f.offset = 62;
           f.rest = Bytes(16);
           f.rest[8] = 2;
         }));
       },
       format, "BMP pixel has colour 2 of a palette of 2"},
      {"masks missing",
       [] {
         return bmp_file(bmp([](auto& f) { f.bits = 16, f.compression = 3, f.rest = Bytes(11); }));
       },
       format, "BMP ends inside its colour masks"},
      {"mask with a hole",
       [] {
         return bmp_file(bmp([](auto& f) {
           f.bits = 16, f.compression = 3, f.offset = 66;
           f.rest = Bytes(40);
           f.rest[0] = 5;
         }));
       },
       format, "BMP colour mask 0x5 is not one run of bits within 16"},
      {"mask over the pixel",
       [] {
         return bmp_file(bmp([](auto& f) {
           f.bits = 16, f.compression = 3, f.offset = 66;
           f.rest = Bytes(40);
           f.rest[2] = 1;
         }));
       },
       format, "BMP colour mask 0x10000 is not one run of bits within 16"},
  };
  expect_refused(cases);
}

}  // namespace
}  // namespace whence::test
