// Inputs for the tests of files, images and arrays: golden data, and files put together byte by
// byte.
#pragma once

#include <zlib.h>

#include <cstdint>
#include <fstream>
#include <functional>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "whence/error.h"
#include "whence/image.h"

namespace whence::test {

using Bytes = std::vector<uint8_t>;

inline std::string data_path(const std::string& name) { return WHENCE_TEST_DATA "/golden/" + name; }
inline nlohmann::json golden(const std::string& name) {
  std::ifstream in(data_path(name));
  return nlohmann::json::parse(in);
}

inline uint32_t crc(const Bytes& bytes) {
  return uint32_t(crc32(0, bytes.data(), uInt(bytes.size())));
}

// The same generator as in tests/golden/make_io.py.
inline Image noise_image(int width, int height, uint32_t seed) {
  Image image{width, height, Bytes(size_t(width) * size_t(height) * 3)};
  for (uint8_t& byte : image.rgb) {
    seed = seed * 1664525u + 1013904223u;
    byte = uint8_t(seed >> 24);
  }
  return image;
}

// What an action threw: kind, code and message, or "nothing".
struct Thrown {
  std::string message = "nothing was thrown";
  ErrorKind kind = ErrorKind::internal;
  ErrorCode code = ErrorCode::internal;
};
inline Thrown thrown_by(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& e) {
    return {e.what(), e.kind(), e.code()};
  }
  return {};
}

inline Bytes bytes_of(std::string_view text) { return {text.begin(), text.end()}; }
inline void append(Bytes& to, const Bytes& more) { to.insert(to.end(), more.begin(), more.end()); }
inline void append_be(Bytes& to, uint64_t value, int bytes) {
  for (int i = bytes; i-- > 0;) to.push_back(uint8_t(value >> (8 * i)));
}
inline void append_le(Bytes& to, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) to.push_back(uint8_t(value >> (8 * i)));
}
inline Bytes joined(std::initializer_list<Bytes> parts) {
  Bytes all;
  for (const Bytes& part : parts) append(all, part);
  return all;
}

// --- PNG
// -------------------------------------------------------------------------------------------

inline const Bytes png_signature{0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
inline Bytes png_chunk(const std::string& type, const Bytes& body, uint32_t spoil = 0) {
  Bytes out;
  append_be(out, body.size(), 4);
  Bytes covered = bytes_of(type);
  append(covered, body);
  append(out, covered);
  append_be(out, crc(covered) ^ spoil, 4);
  return out;
}
inline Bytes png_header(uint32_t width, uint32_t height, int depth, int colour, int interlace = 0) {
  Bytes body;
  append_be(body, width, 4);
  append_be(body, height, 4);
  append(body, {uint8_t(depth), uint8_t(colour), 0, 0, uint8_t(interlace)});
  return png_chunk("IHDR", body);
}
inline Bytes deflated(const Bytes& raw) {
  uLongf size = compressBound(uLong(raw.size()));
  Bytes out(size);
  compress(out.data(), &size, raw.data(), uLong(raw.size()));
  out.resize(size);
  return out;
}
inline const Bytes png_end = png_chunk("IEND", {});
// A complete file of 8-bit samples that are all zero.
inline Bytes png_file(const Bytes& header, const Bytes& data) {
  return joined({png_signature, header, png_chunk("IDAT", data), png_end});
}

// --- BMP
// -------------------------------------------------------------------------------------------

struct BmpFields {
  int64_t width = 2, height = 2;
  int planes = 1, bits = 24, compression = 0, colours = 0;
  uint32_t header = 40, offset = 54;
  Bytes rest = Bytes(16);  // behind the header
};
inline Bytes bmp_file(const BmpFields& f) {
  Bytes out = bytes_of("BM");
  append_le(out, 54 + f.rest.size(), 4);
  append_le(out, 0, 4);
  append_le(out, f.offset, 4);
  append_le(out, f.header, 4);
  append_le(out, uint64_t(f.width), 4);
  append_le(out, uint64_t(f.height), 4);
  append_le(out, uint64_t(f.planes), 2);
  append_le(out, uint64_t(f.bits), 2);
  append_le(out, uint64_t(f.compression), 4);
  append(out, Bytes(12));
  append_le(out, uint64_t(f.colours), 4);
  append_le(out, 0, 4);
  append(out, f.rest);
  return out;
}

// --- JPEG
// ------------------------------------------------------------------------------------------

inline Bytes jpeg_segment(int marker, const Bytes& body) {
  Bytes out{0xFF, uint8_t(marker)};
  append_be(out, body.size() + 2, 2);
  append(out, body);
  return out;
}
inline Bytes jpeg_table(int where, const Bytes& counts, const Bytes& symbols) {
  Bytes body{uint8_t(where)};
  append(body, counts);
  body.resize(17);
  append(body, symbols);
  return jpeg_segment(0xC4, body);
}
inline Bytes jpeg_frame(int marker, int precision, int height, int width, const Bytes& components) {
  Bytes body{uint8_t(precision)};
  append_be(body, uint64_t(height), 2);
  append_be(body, uint64_t(width), 2);
  body.push_back(uint8_t(components.size() / 3));
  append(body, components);
  return jpeg_segment(marker, body);
}
// A grey image of blocks that are all 128. Both Huffman tables have one code, of one bit: a block
// is the two bits 00, and a byte of data holds four of them. Parts can be replaced to spoil it.
struct JpegParts {
  Bytes start{0xFF, 0xD8};
  Bytes quantiser = jpeg_segment(0xDB, joined({Bytes{0}, Bytes(64, 1)}));
  Bytes frame = jpeg_frame(0xC0, 8, 16, 16, {1, 0x11, 0});
  Bytes tables = joined({jpeg_table(0x00, {1}, {0}), jpeg_table(0x10, {1}, {0})});
  Bytes restart;
  Bytes scan = jpeg_segment(0xDA, {1, 1, 0, 0, 63, 0});
  Bytes data{0x00};
  Bytes end{0xFF, 0xD9};
  Bytes file() const { return joined({start, quantiser, frame, tables, restart, scan, data, end}); }
};

}  // namespace whence::test
