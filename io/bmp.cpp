// Windows and OS/2 bitmaps without compression: 1, 4 or 8 bits with a palette, 16, 24 or 32 bits.
#include <bit>
#include <cstring>

#include "io/bytes.h"
#include "io/codecs.h"

namespace whence {
namespace {

// One colour of 16- and 32-bit pixels: `bits` bits from bit `shift` on.
struct Field {
  int shift = 0, bits = 0;
  uint8_t value(uint32_t pixel) const {
    if (bits == 0) return 0;
    const uint32_t most = bits == 32 ? ~0u : (1u << bits) - 1;
    return uint8_t(uint64_t(pixel >> shift & most) * 255 / most);
  }
};

struct BmpHeader {
  int64_t width = 0, height = 0;
  bool top_down = false;
  int bits = 0;
  std::array<Field, 3> fields;  // of red, green and blue
  std::span<const uint8_t> palette;
  size_t palette_entry = 4;
  size_t data = 0;  // offset of the pixels
};

Field field_of(uint32_t mask, int bits, const std::string& name) {
  if (mask == 0) return {};
  const int shift = std::countr_zero(mask), length = std::popcount(mask);
  const bool contiguous = std::countr_one(mask >> shift) == length;
  if (!contiguous || shift + length > bits)
    fail_format(name, "BMP colour mask {:#x} is not one run of bits within {}", mask, bits);
  return {shift, length};
}

void parse_masks(BmpHeader& h, ByteReader& reader, uint32_t compression, const std::string& name) {
  std::array<uint32_t, 3> masks{0x7C00, 0x3E0, 0x1F};
  if (h.bits != 16) masks = {0xFF0000, 0xFF00, 0xFF};
  if (compression == 3) {
    // In the 40-byte header the masks follow it, in longer ones they are its next fields.
    if (!reader.has(12)) fail_format(name, "BMP ends inside its colour masks");
    for (uint32_t& mask : masks) mask = reader.le32();
  }
  for (size_t c = 0; c < 3; ++c) h.fields[c] = field_of(masks[c], h.bits, name);
}

// The 40-byte header and its longer descendants.
uint32_t parse_info(BmpHeader& h, ByteReader& reader, const std::string& name) {
  h.width = int32_t(reader.le32());
  h.height = int32_t(reader.le32());
  h.top_down = h.height < 0;
  if (h.top_down) h.height = -h.height;
  const uint32_t planes = reader.le16();
  if (planes != 1) fail_format(name, "BMP with {} planes, 1 expected", planes);
  h.bits = int(reader.le16());
  const uint32_t compression = reader.le32();
  reader.skip(12);  // size of the pixels (often 0), resolution
  const uint32_t colours = reader.le32();
  reader.skip(4);
  const bool masked = compression == 3 && (h.bits == 16 || h.bits == 32);
  if (compression != 0 && !masked)
    fail_unsupported(name,
                     "BMP with compression {} and {} bits a pixel; save it without compression",
                     compression, h.bits);
  if (h.bits == 16 || h.bits == 32) parse_masks(h, reader, compression, name);
  return colours;
}

BmpHeader parse(std::span<const uint8_t> bytes, const std::string& name,
                const ImageLimits& limits) {
  ByteReader reader(bytes);
  if (!reader.has(18)) fail_format(name, "BMP of {} bytes ends inside its header", bytes.size());
  reader.skip(10);
  BmpHeader h;
  h.data = reader.le32();
  const uint32_t size = reader.le32();
  const bool known =
      size == 12 || size == 40 || size == 52 || size == 56 || size == 108 || size == 124;
  if (!known) fail_format(name, "BMP header of {} bytes is not known", size);
  if (!reader.has(size - 4))
    fail_format(name, "BMP of {} bytes ends inside its header", bytes.size());
  uint64_t colours = 0;
  if (size == 12) {
    h.width = reader.le16();
    h.height = reader.le16();
    const uint32_t planes = reader.le16();
    if (planes != 1) fail_format(name, "BMP with {} planes, 1 expected", planes);
    h.bits = int(reader.le16());
    h.palette_entry = 3;
  } else {
    colours = parse_info(h, reader, name);
  }
  check_image_size(h.width, h.height, name, limits);
  const bool indexed = h.bits == 1 || h.bits == 4 || h.bits == 8;
  if (!indexed && h.bits != 24 && (size == 12 || (h.bits != 16 && h.bits != 32)))
    fail_format(name, "BMP with {} bits a pixel", h.bits);
  if (indexed) {
    const uint64_t most = uint64_t(1) << h.bits;
    if (colours == 0) colours = most;
    if (colours > most)
      fail_format(name, "BMP palette of {} colours, at most {} expected", colours, most);
    const uint64_t start = 14 + uint64_t(size), length = colours * h.palette_entry;
    if (start + length > bytes.size()) fail_format(name, "BMP ends inside its palette");
    h.palette = bytes.subspan(size_t(start), size_t(length));
  }
  if (h.data < 14 + uint64_t(size) + h.palette.size())
    fail_format(name, "BMP pixels begin at byte {}, inside the header", h.data);
  return h;
}

void convert_row(const BmpHeader& h, const uint8_t* row, uint8_t* out, const std::string& name) {
  if (h.bits <= 8) {
    const unsigned mask = (1u << h.bits) - 1;
    for (int64_t x = 0; x < h.width; ++x, out += 3) {
      const int64_t bit = x * h.bits;
      const size_t value = unsigned(row[bit >> 3]) >> (8 - h.bits - (bit & 7)) & mask;
      if (value >= h.palette.size() / h.palette_entry)
        fail_format(name, "BMP pixel has colour {} of a palette of {}", value,
                    h.palette.size() / h.palette_entry);
      const uint8_t* entry = h.palette.data() + value * h.palette_entry;
      out[0] = entry[2], out[1] = entry[1], out[2] = entry[0];
    }
  } else if (h.bits == 24) {
    for (int64_t x = 0; x < h.width; ++x, out += 3, row += 3)
      out[0] = row[2], out[1] = row[1], out[2] = row[0];
  } else {
    const size_t step = size_t(h.bits) / 8;
    for (int64_t x = 0; x < h.width; ++x, out += 3, row += step) {
      uint32_t pixel = 0;
      for (size_t i = step; i-- > 0;) pixel = pixel << 8 | row[i];
      for (size_t c = 0; c < 3; ++c) out[c] = h.fields[c].value(pixel);
    }
  }
}

}  // namespace

Image decode_bmp(std::span<const uint8_t> bytes, const std::string& name,
                 const ImageLimits& limits) {
  const BmpHeader h = parse(bytes, name, limits);
  const uint64_t row = uint64_t(h.width * h.bits + 31) / 32 * 4;  // rows are padded to 4 bytes
  const uint64_t available = h.data < bytes.size() ? bytes.size() - h.data : 0;
  if (available / row < uint64_t(h.height))
    fail_format(name, "BMP data ends after {} of {} rows", available / row, h.height);
  Image image = blank_image(h.width, h.height);
  for (int64_t y = 0; y < h.height; ++y) {
    const int64_t line = h.top_down ? y : h.height - 1 - y;
    convert_row(h, bytes.data() + h.data + uint64_t(y) * row,
                image.rgb.data() + size_t(line) * size_t(h.width) * 3, name);
  }
  return image;
}

}  // namespace whence
