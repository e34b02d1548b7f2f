// JPEG files that a decoder must not see, or must not finish silently.
#include <gtest/gtest.h>

#include <string>

#include "io/codecs.h"
#include "tests/unit/io_cases.h"

namespace whence::test {
namespace {

struct Case {
  const char* name;
  std::function<void(JpegParts&)> spoil;
  const char* message;  // behind "bad: "
  ErrorCode code = ErrorCode::format;
};

template <size_t N>
void expect_refused(const Case (&cases)[N]) {
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    JpegParts parts;
    c.spoil(parts);
    const Bytes file = parts.file();
    const Thrown thrown = thrown_by([&] { check_jpeg(file, "bad", {}); });
    EXPECT_EQ(thrown.message, std::string("bad: ") + c.message);
    EXPECT_EQ(thrown.code, c.code);
    EXPECT_EQ(thrown.kind,
              c.code == ErrorCode::unsupported ? ErrorKind::unsupported : ErrorKind::file);
  }
}

using P = JpegParts;
Bytes scan_of(const Bytes& body) { return jpeg_segment(0xDA, body); }
// Progressive: the mean of every block in one scan, then what `more` adds.
void progressive(P& p, const Bytes& more) {
  p.frame = jpeg_frame(0xC2, 8, 16, 16, {1, 0x11, 0});
  p.scan = scan_of({1, 1, 0, 0, 0, 0});
  append(p.data, more);
}

TEST(HostileJpeg, structure) {
  const Case cases[] = {
      {"nothing behind the start",
       [](P& p) {
         p = P{{0xFF, 0xD8, 0xFF}, {}, {}, {}, {}, {}, {}, {}};
       },
       "JPEG data ends after 3 bytes without its end marker; the file is incomplete"},
      {"end marker missing", [](P& p) { p.end = {}; },
       "JPEG data ends after 139 bytes without its end marker; the file is incomplete"},
      {"segment over the end",
       [](P& p) {
         p = P{{0xFF, 0xD8, 0xFF, 0xE1, 0xFF, 0xFF, 'E'}, {}, {}, {}, {}, {}, {}, {}};
       },
       "JPEG segment at byte 4 claims 65535 bytes but only 3 follow"},
      {"segment of length 1",
       [](P& p) {
         append(p.start, {0xFF, 0xE1, 0, 1});
       },
       "JPEG segment at byte 4 claims 1 bytes but only 141 follow"},
      {"rubbish between segments",
       [](P& p) {
         append(p.quantiser, {0x17, 0x18});
       },
       "JPEG marker expected at byte 71, found 0x17"},
      {"second start",
       [](P& p) {
         append(p.start, {0xFF, 0xD8});
       },
       "JPEG marker 0xd8 at byte 3 is out of place"},
      {"reserved marker",
       [](P& p) {
         append(p.start, {0xFF, 0x02});
       },
       "JPEG marker 0x02 at byte 3 is out of place"},
      {"no frame",
       [](P& p) {
         p = P{{0xFF, 0xD8}, {}, {}, {}, {}, {}, {}, {0xFF, 0xD9}};
       },
       "JPEG has no frame"},
      {"no scan", [](P& p) { p.scan = p.data = {}; }, "JPEG component 1 is in no scan"},
      {"two frames", [](P& p) { append(p.frame, p.frame); }, "JPEG has two frames"},
      {"scan before the frame",
       [](P& p) {
         std::swap(p.frame, p.end);
         p.frame = {};
       },
       "JPEG scan comes before its frame"},
  };
  expect_refused(cases);
}

TEST(HostileJpeg, frames) {
  const auto frame = [](int marker, int precision, int height, int width, Bytes components) {
    return [=](P& p) { p.frame = jpeg_frame(marker, precision, height, width, components); };
  };
  const Bytes grey{1, 0x11, 0};
  const Case cases[] = {
      {"12 bits", frame(0xC1, 12, 16, 16, grey), "JPEG with 12 bits a sample, only 8 are read",
       ErrorCode::unsupported},
      {"lossless", frame(0xC3, 8, 16, 16, grey),
       "JPEG of a rare kind (marker 0xc3) is not read; convert it", ErrorCode::unsupported},
      {"arithmetic", frame(0xC9, 8, 16, 16, grey),
       "JPEG of a rare kind (marker 0xc9) is not read; convert it", ErrorCode::unsupported},
      {"height 0", frame(0xC0, 8, 0, 16, grey), "image of 16 x 0 pixels"},
      {"height behind the data",
       [](P& p) {
         append(p.frame, jpeg_segment(0xDC, {0, 16}));
       },
       "JPEG whose height follows its data is not read", ErrorCode::unsupported},
      {"65535 a side", frame(0xC0, 8, 65535, 65535, grey),
       "65535 x 65535 pixels, the limit is 16384 a side", ErrorCode::limit},
      {"over 100 megapixels", frame(0xC2, 8, 16384, 16384, grey),
       "16384 x 16384 pixels, the limit is 100 megapixels", ErrorCode::limit},
      {"100 megapixels from a byte", frame(0xC0, 8, 10000, 10000, grey),
       "JPEG has 1 bytes of image data, 10000 x 10000 pixels need at least 390625"},
      {"two components", frame(0xC0, 8, 16, 16, {1, 0x11, 0, 2, 0x11, 0}),
       "JPEG with 2 components, 1, 3 or 4 expected"},
      {"same component twice", frame(0xC0, 8, 16, 16, {1, 0x11, 0, 2, 0x11, 0, 1, 0x11, 0}),
       "JPEG has two components 1"},
      {"sampling 0", frame(0xC0, 8, 16, 16, {1, 0x01, 0}),
       "JPEG component 1 has sampling 0 x 1, only 1, 2 and 4 are read"},
      {"sampling 3", frame(0xC0, 8, 16, 16, {1, 0x13, 0}),
       "JPEG component 1 has sampling 1 x 3, only 1, 2 and 4 are read"},
      {"quantiser 4", frame(0xC0, 8, 16, 16, {1, 0x11, 4}), "JPEG component 1 has quantiser 4"},
      {"frame cut off",
       [](P& p) {
         p.frame = jpeg_segment(0xC0, {8, 0, 16, 0, 16});
       },
       "JPEG frame header of 5 bytes"},
      {"components cut off",
       [](P& p) {
         p.frame = jpeg_segment(0xC0, {8, 0, 16, 0, 16, 3, 1, 0x11, 0});
       },
       "JPEG frame header has 3 bytes for 3 components"},
  };
  expect_refused(cases);
}

TEST(HostileJpeg, tables) {
  const Case cases[] = {
      // 257 codes cannot be a prefix code of 8 bits; at 16 bits they could, and used to overrun
      // decoders.
      {"257 codes",
       [](P& p) {
         p.tables =
             jpeg_table(0x10, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 255}, Bytes(257));
       },
       "JPEG Huffman table has 257 codes, at most 256 fit"},
      {"too many short codes",
       [](P& p) {
         p.tables = jpeg_table(0x10, {0, 4}, Bytes(4));
       },
       "JPEG Huffman table has too many codes of 2 bits"},
      {"code of only ones", [](P& p) { p.tables = jpeg_table(0x10, {2}, Bytes(2)); },
       "JPEG Huffman table has too many codes of 1 bits"},
      {"DC symbol 12", [](P& p) { p.tables = jpeg_table(0x00, {1}, {12}); },
       "JPEG Huffman table has DC symbol 12, at most 11 exist"},
      {"table number 4", [](P& p) { p.tables = jpeg_table(0x14, {1}, {0}); },
       "JPEG Huffman table 0x14 is not known"},
      {"table cut off", [](P& p) { p.tables = jpeg_segment(0xC4, Bytes(16)); },
       "JPEG Huffman table is cut off"},
      {"symbols missing",
       [](P& p) {
         p.tables = jpeg_table(0x10, {0, 3}, Bytes(2));
       },
       "JPEG Huffman table claims 3 codes but only 2 bytes follow"},
      {"quantiser cut off", [](P& p) { p.quantiser = jpeg_segment(0xDB, Bytes(64)); },
       "JPEG quantiser is cut off"},
      {"quantiser number 4",
       [](P& p) {
         p.quantiser = jpeg_segment(0xDB, joined({Bytes{4}, Bytes(64, 1)}));
       },
       "JPEG quantiser 0x04 is not known"},
      {"restart interval of 3 bytes",
       [](P& p) {
         p.restart = jpeg_segment(0xDD, {0, 0, 1});
       },
       "JPEG restart interval of 3 bytes"},
  };
  expect_refused(cases);
}

TEST(HostileJpeg, scans) {
  const auto scan = [](Bytes body) { return [body](P& p) { p.scan = scan_of(body); }; };
  const auto three = [](Bytes components, Bytes body) {
    return [=](P& p) {
      p.frame = jpeg_frame(0xC0, 8, 16, 16, components);
      p.scan = scan_of(body);
    };
  };
  const Case cases[] = {
      {"no component", scan({0, 0, 63, 0}), "JPEG scan header of 3 bytes for 0 components"},
      {"component that is not there", scan({1, 7, 0, 0, 63, 0}),
       "JPEG scan names component 7, which is not there"},
      {"component twice", three({1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0}, {2, 1, 0, 1, 0, 0, 63, 0}),
       "JPEG scan names component 1 twice"},
      {"quantiser missing", [](P& p) { p.quantiser = {}; },
       "JPEG component 1 needs quantiser 0, which is not there"},
      {"18 blocks a unit",
       three({1, 0x44, 0, 2, 0x11, 0, 3, 0x11, 0}, {3, 1, 0, 2, 0, 3, 0, 0, 63, 0}),
       "JPEG scan has 18 blocks a unit, at most 10 expected"},
      {"tables missing", [](P& p) { p.tables = {}; },
       "JPEG scan 1 needs Huffman tables 0 and 0, which are not all there"},
      {"part of the coefficients", scan({1, 1, 0, 0, 31, 0}),
       "JPEG scan of coefficients 0 to 31 with precision 0 and 0"},
      {"mean and rest in one progressive scan",
       [](P& p) {
         progressive(p, {});
         p.scan = scan_of({1, 1, 0, 0, 63, 0});
       },
       "JPEG scan of coefficients 0 to 63 with precision 0 and 0"},
      {"rest before the mean",
       [](P& p) {
         progressive(p, {});
         p.scan = scan_of({1, 1, 0, 1, 5, 0});
       },
       "JPEG scan 1 sends component 1 out of order"},
      {"refined before sent",
       [](P& p) {
         progressive(p, {});
         p.scan = scan_of({1, 1, 0, 0, 0, 0x10});
       },
       "JPEG scan 1 sends component 1 out of order"},
      {"sent twice",
       [](P& p) {
         progressive(p, joined({scan_of({1, 1, 0, 0, 0, 0}), Bytes{0}}));
       },
       "JPEG scan 2 sends component 1 out of order"},
      {"never refined",
       [](P& p) {
         progressive(p, {});
         p.scan = scan_of({1, 1, 0, 0, 0, 2});
       },
       "JPEG component 1 lacks its last 2 bits"},
      {"colours in no scan", three({1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0}, {1, 1, 0, 0, 63, 0}),
       "JPEG component 2 is in no scan"},
      {"restart without an interval",
       [](P& p) {
         p.data = {0x3F, 0xFF, 0xD0, 0x3F};
       },
       "JPEG has restart markers without an interval"},
      {"restarts out of order",
       [](P& p) {
         p.restart = jpeg_segment(0xDD, {0, 1});
         p.data = {0x3F, 0xFF, 0xD1, 0x3F};
       },
       "JPEG restart marker 1 where 0 was expected"},
      {"restarts missing",
       [](P& p) {
         p.restart = jpeg_segment(0xDD, {0, 1});
         p.data = {0x3F, 0xFF, 0xD0, 0x3F};
       },
       "JPEG scan 1 has 1 restart markers, 3 expected"},
      {"data cut inside a marker", [](P& p) { p.end = {0xFF}; },
       "JPEG data ends after 140 bytes without its end marker; the file is incomplete"},
  };
  expect_refused(cases);
}

// A refinement for each of 13 bits over many bands makes more than 100 legal scans.
TEST(HostileJpeg, number_of_scans_is_limited) {
  JpegParts parts;
  progressive(parts, {});
  int scans = 1;
  for (int k = 1; k <= 63; ++k)
    for (const int precision : {0x01, 0x10}) {
      append(parts.data,
             joined({scan_of({1, 1, 0, uint8_t(k), uint8_t(k), uint8_t(precision)}), Bytes{0}}));
      ++scans;
    }
  ASSERT_GT(scans, 100);
  const Bytes file = parts.file();
  EXPECT_EQ(thrown_by([&] { check_jpeg(file, "bad", {}); }).message,
            "bad: JPEG has more than 100 scans");
}

// What only the decoder can notice: the data of a scan ends too soon, or does not fit its codes.
TEST(HostileJpeg, corrupt_data_is_refused_by_the_decoder) {
  if (!has_jpeg_turbo()) GTEST_SKIP() << "stb_image does not report corrupt data";
  struct {
    const char* name;
    std::function<void(JpegParts&)> spoil;
    const char* message;
  } cases[] = {
      {"data ends inside the picture",
       // 16 blocks of 1 + 2 bits, of which 4 bytes hold the first ten.
       [](P& p) {
         p.frame = jpeg_frame(0xC0, 8, 64, 16, {1, 0x11, 0});
         append(p.tables, jpeg_table(0x10, {0, 1}, {0}));
         p.data = Bytes(4);
       },
       "bad: JPEG data is corrupt after 40 of 64 rows: Corrupt JPEG data: premature end of data "
       "segment"},
      {"code that is not in the table", [](P& p) { p.data = Bytes(8, 0xFE); },
       "bad: JPEG data is corrupt after 0 of 16 rows: Corrupt JPEG data: bad Huffman code"},
      {"bytes behind the data", [](P& p) { p.data = Bytes(40); },
       "bad: JPEG data is corrupt after 16 of 16 rows: Corrupt JPEG data: "},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    JpegParts parts;
    c.spoil(parts);
    const Thrown thrown = thrown_by([&] { decode_image(parts.file(), "bad"); });
    // How many bytes are too many depends on the width of the decoder's bit buffer.
    EXPECT_EQ(thrown.message.rfind(c.message, 0), 0u) << thrown.message;
    EXPECT_EQ(thrown.code, ErrorCode::format);
  }
}

TEST(HostileJpeg, second_decoder_wants_to_know_whose_cmyk_it_is) {
  JpegParts parts;
  parts.frame = jpeg_frame(0xC0, 8, 8, 8, {1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0, 4, 0x11, 0});
  parts.scan = scan_of({4, 1, 0, 2, 0, 3, 0, 4, 0, 0, 63, 0});
  const Bytes file = parts.file();
  EXPECT_EQ(thrown_by([&] { decode_jpeg_stb(file, check_jpeg(file, "bad", {}), "bad"); }).message,
            "bad: CMYK JPEG without an Adobe segment is not read; convert it to RGB");
}

}  // namespace
}  // namespace whence::test
