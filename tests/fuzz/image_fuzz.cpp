// Images: any bytes end in a complete image or an error of the right kind, from both JPEG decoders,
// and what was read survives being written and read again.
#include <zlib.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "io/codecs.h"
#include "io/files.h"
#include "whence/error.h"

namespace {

using whence::Image;
using Bytes = std::vector<uint8_t>;

whence::ImageLimits limits() {
  whence::ImageLimits l;
  l.pixels = 1 << 18;  // one execution stays fast
  return l;
}

void require(bool condition) {
  if (!condition) std::abort();
}

void check(const Image& image) {
  require(image.width >= 1 && image.height >= 1);
  require(int64_t(image.width) * image.height <= limits().pixels);
  require(image.rgb.size() == size_t(image.width) * size_t(image.height) * 3);
}

template <class F>
void run(const F& decode) {
  try {
    check(decode());
  } catch (const whence::Error& e) {
    const bool expected =
        e.kind() == whence::ErrorKind::file || e.kind() == whence::ErrorKind::unsupported;
    require(expected && *e.what() != 0);
  }
}

void decode_and_rewrite(std::span<const uint8_t> bytes) {
  run([&] {
    const Image image = whence::decode_image(bytes, "fuzz", limits());
    if (image.rgb.size() < 4096)
      require(whence::decode_image(whence::encode_png(image), "again").rgb == image.rgb);
    return image;
  });
  if (whence::file_kind(bytes) != whence::FileKind::jpeg) return;
  run([&] {
    const whence::JpegHeader header = whence::check_jpeg(bytes, "fuzz", limits());
    const Image image = whence::decode_jpeg_stb(bytes, header, "fuzz");
    require(image.width == header.width && image.height == header.height);
    return image;
  });
}

void append_be32(Bytes& to, uint32_t v) {
  for (int shift = 24; shift >= 0; shift -= 8) to.push_back(uint8_t(v >> shift));
}
void append_chunk(Bytes& to, const char* type, const Bytes& body) {
  append_be32(to, uint32_t(body.size()));
  const size_t covered = to.size();
  to.insert(to.end(), type, type + 4);
  to.insert(to.end(), body.begin(), body.end());
  append_be32(to, uint32_t(crc32(0, to.data() + covered, uInt(to.size() - covered))));
}

// Gives every chunk of a PNG its right checksum, which mutation would never find.
Bytes with_right_checksums(std::span<const uint8_t> bytes) {
  Bytes out(bytes.begin(), bytes.end());
  for (size_t at = 8; at + 12 <= out.size();) {
    const uint32_t length = uint32_t(out[at]) << 24 | uint32_t(out[at + 1]) << 16 |
                            uint32_t(out[at + 2]) << 8 | out[at + 3];
    if (length > out.size() - at - 12) break;
    const uint32_t sum = uint32_t(crc32(0, &out[at + 4], length + 4));
    for (size_t i = 0; i < 4; ++i) out[at + 8 + length + i] = uint8_t(sum >> (24 - 8 * i));
    at += size_t(length) + 12;
  }
  return out;
}

// Input read as the parts of a PNG, so that mutation reaches what compression would hide from it.
void decode_parts(std::span<const uint8_t> in) {
  if (in.size() < 6) return;
  Bytes header;
  append_be32(header, in[0]);
  append_be32(header, in[1]);
  header.insert(header.end(), {in[2], in[3], 0, 0, uint8_t(in[4] & 1)});
  Bytes file{0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
  append_chunk(file, "IHDR", header);
  const size_t colours = std::min<size_t>(in[5], (in.size() - 6) / 3);
  if (colours > 0)
    append_chunk(file, "PLTE", Bytes(in.begin() + 6, in.begin() + 6 + int64_t(colours) * 3));
  const Bytes raw(in.begin() + 6 + int64_t(colours) * 3, in.end());
  uLongf size = compressBound(uLong(raw.size()));
  Bytes packed(size);
  require(compress2(packed.data(), &size, raw.data(), uLong(raw.size()), 0) == Z_OK);
  packed.resize(size);
  append_chunk(file, "IDAT", packed);
  append_chunk(file, "IEND", {});
  decode_and_rewrite(file);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const uint8_t> bytes(data, size);
  if (size > 0 && data[0] == 'p') {
    decode_parts(bytes.subspan(1));
    return 0;
  }
  decode_and_rewrite(bytes);
  if (whence::file_kind(bytes) == whence::FileKind::png)
    decode_and_rewrite(with_right_checksums(bytes));
  return 0;
}
