// PNG (ISO/IEC 15948), decoded a row at a time: besides the result only two rows are in memory, so
// the file cannot ask for more than its pixels. Every checksum, the order of the chunks and the
// exact amount of image data are checked; nothing is repaired.
#include <zlib.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "io/bytes.h"
#include "io/codecs.h"

namespace whence {
namespace {

enum ColourType { grey = 0, rgb = 2, palette = 3, grey_alpha = 4, rgb_alpha = 6 };

struct PngHeader {
  int64_t width = 0, height = 0;
  int depth = 0, colour = 0;
  bool interlaced = false;
  int channels() const {
    constexpr int by_colour[7] = {1, 0, 3, 1, 2, 0, 4};
    return by_colour[colour];
  }
  size_t row_bytes(int64_t pixels) const { return size_t((pixels * depth * channels() + 7) / 8); }
};

// One of the images that interlacing splits the picture into: every `step`-th pixel from `first`.
struct Pass {
  int first_x, first_y, step_x, step_y;
  int64_t columns(int64_t width) const { return (width - first_x + step_x - 1) / step_x; }
  int64_t rows(int64_t height) const { return (height - first_y + step_y - 1) / step_y; }
};
constexpr Pass whole[] = {{0, 0, 1, 1}};
constexpr Pass adam7[] = {{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4},
                          {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}};

struct PngFile {
  PngHeader header;
  std::vector<uint8_t> colours;                 // palette, 3 bytes an entry
  std::vector<std::span<const uint8_t>> parts;  // of the compressed stream
  uint64_t compressed = 0;
  std::span<const Pass> passes() const {
    if (header.interlaced) return adam7;
    return whole;
  }
  uint64_t raw_bytes() const {
    uint64_t total = 0;
    for (const Pass& pass : passes())
      if (pass.columns(header.width) > 0 && pass.rows(header.height) > 0)
        total +=
            uint64_t(pass.rows(header.height)) * (header.row_bytes(pass.columns(header.width)) + 1);
    return total;
  }
};

PngHeader parse_header(std::span<const uint8_t> body, const std::string& name,
                       const ImageLimits& limits) {
  if (body.size() != 13) fail_format(name, "PNG header of {} bytes, 13 expected", body.size());
  ByteReader reader(body);
  PngHeader h;
  h.width = reader.be32();
  h.height = reader.be32();
  h.depth = reader.u8();
  h.colour = reader.u8();
  const int compression = reader.u8(), filter = reader.u8(), interlace = reader.u8();
  const bool small = h.depth == 1 || h.depth == 2 || h.depth == 4;
  const bool large = h.depth == 8 || h.depth == 16;
  const bool valid =
      (h.colour == grey && (small || large)) || (h.colour == palette && (small || h.depth == 8)) ||
      ((h.colour == rgb || h.colour == grey_alpha || h.colour == rgb_alpha) && large);
  if (!valid) fail_format(name, "PNG colour type {} with {} bits a sample", h.colour, h.depth);
  if (compression != 0 || filter != 0 || interlace > 1)
    fail_format(name, "PNG compression {}, filter {}, interlace {}: the format has 0, 0 and 0 or 1",
                compression, filter, interlace);
  h.interlaced = interlace == 1;
  check_image_size(h.width, h.height, name, limits);
  return h;
}

std::string chunk_name(std::span<const uint8_t> type) {
  return printable({reinterpret_cast<const char*>(type.data()), type.size()});
}

void parse_palette(PngFile& png, std::span<const uint8_t> body, const std::string& name) {
  const PngHeader& h = png.header;
  if (!png.colours.empty()) fail_format(name, "PNG has two palettes");
  if (!png.parts.empty()) fail_format(name, "PNG palette follows the image data");
  if (h.colour == grey || h.colour == grey_alpha) fail_format(name, "grey PNG has a palette");
  const size_t most = h.colour == palette ? size_t(1) << h.depth : 256;
  if (body.empty() || body.size() % 3 != 0 || body.size() / 3 > most)
    fail_format(name, "PNG palette of {} bytes, 3 to {} in threes expected", body.size(), most * 3);
  png.colours.assign(body.begin(), body.end());
}

// Walks over all chunks up to the end chunk; bytes behind it are ignored.
PngFile walk(std::span<const uint8_t> bytes, const std::string& name, const ImageLimits& limits) {
  ByteReader reader(bytes);
  reader.skip(8);  // signature
  PngFile png;
  bool data_ended = false;
  for (bool first = true;; first = false) {
    const size_t at = reader.position();
    if (!reader.has(12))
      fail_format(name, "PNG ends at byte {} without its end chunk", bytes.size());
    const uint32_t length = reader.be32();
    const auto covered = bytes.subspan(reader.position());
    const auto type = reader.take(4);
    const std::string chunk = chunk_name(type);
    const auto is = [&](const char* text) { return std::memcmp(type.data(), text, 4) == 0; };
    if (!reader.has(uint64_t(length) + 4))
      fail_format(name, "PNG chunk {} at byte {} claims {} bytes but only {} follow", chunk, at,
                  length, reader.remaining() - 4);
    const auto body = reader.take(length);
    if (crc32_z(crc32_z(0, nullptr, 0), covered.data(), size_t(length) + 4) != reader.be32())
      fail_format(name, "PNG chunk {} at byte {} has a wrong checksum", chunk, at);
    if (first && !is("IHDR")) fail_format(name, "PNG begins with chunk {}, not IHDR", chunk);
    if (!first && is("IHDR")) fail_format(name, "PNG has two headers");
    if (first) {
      png.header = parse_header(body, name, limits);
    } else if (is("PLTE")) {
      parse_palette(png, body, name);
    } else if (is("IDAT")) {
      if (data_ended) fail_format(name, "PNG image data is interrupted before byte {}", at);
      if (png.header.colour == palette && png.colours.empty())
        fail_format(name, "PNG palette is missing");
      png.parts.push_back(body);
      png.compressed += length;
    } else if (is("IEND")) {
      if (length != 0) fail_format(name, "PNG end chunk of {} bytes, 0 expected", length);
      if (png.parts.empty()) fail_format(name, "PNG has no image data");
      return png;
    } else if ((type[0] & 0x20) == 0) {
      fail_format(name, "PNG has a critical chunk {} that is not known", chunk);
    }
    if (!is("IDAT") && !png.parts.empty()) data_ended = true;
  }
}

// The decompressed stream, read in any amounts.
class Inflater {
 public:
  Inflater(const PngFile& png, const std::string& name) : png_(png), name_(name) {
    if (inflateInit(&stream_) != Z_OK) fail(ErrorCode::no_memory, "{}: out of memory", name);
  }
  ~Inflater() { inflateEnd(&stream_); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  // Fills `to` and returns true, or returns false where the stream ended before.
  bool read(std::span<uint8_t> to) {
    stream_.next_out = to.data();
    stream_.avail_out = uInt(to.size());
    while (stream_.avail_out > 0 && !ended_) step();
    return stream_.avail_out == 0;
  }
  // True where the stream ends here, checksum included.
  bool finish() {
    uint8_t extra = 0;
    return !read({&extra, 1}) && ended_;
  }

 private:
  void step() {
    while (stream_.avail_in == 0 && next_ < png_.parts.size()) {
      const auto part = png_.parts[next_++];
      stream_.next_in = const_cast<Bytef*>(part.data());
      stream_.avail_in = uInt(part.size());  // a chunk's length has 32 bits
    }
    const int status = inflate(&stream_, Z_NO_FLUSH);
    if (status == Z_STREAM_END)
      ended_ = true;
    else if (status == Z_MEM_ERROR)
      fail(ErrorCode::no_memory, "{}: out of memory", name_);
    else if (status == Z_BUF_ERROR)
      fail_format(name_, "PNG image data ends before its compressed stream does");
    else if (status != Z_OK)
      fail_format(name_, "PNG image data is corrupt: {}",
                  stream_.msg ? stream_.msg : "a dictionary is needed");
  }
  const PngFile& png_;
  const std::string& name_;
  z_stream stream_{};
  size_t next_ = 0;
  bool ended_ = false;
};

int paeth(int left, int above, int corner) {
  const int estimate = left + above - corner;
  const int to_left = std::abs(estimate - left), to_above = std::abs(estimate - above);
  const int to_corner = std::abs(estimate - corner);
  if (to_left <= to_above && to_left <= to_corner) return left;
  return to_above <= to_corner ? above : corner;
}

// Undoes the prediction of one row. `step` is the distance in bytes to the pixel on the left; both
// rows have `step` zero bytes in front.
void unfilter(int filter, uint8_t* row, const uint8_t* above, size_t bytes, size_t step) {
  const uint8_t* left = row - step;
  const uint8_t* corner = above - step;
  switch (filter) {
    case 1:
      for (size_t i = 0; i < bytes; ++i) row[i] = uint8_t(row[i] + left[i]);
      return;
    case 2:
      for (size_t i = 0; i < bytes; ++i) row[i] = uint8_t(row[i] + above[i]);
      return;
    case 3:
      for (size_t i = 0; i < bytes; ++i) row[i] = uint8_t(row[i] + (left[i] + above[i]) / 2);
      return;
    case 4:
      for (size_t i = 0; i < bytes; ++i)
        row[i] = uint8_t(row[i] + paeth(left[i], above[i], corner[i]));
      return;
    default:
      return;
  }
}

// Writes one decoded row to every `step`-th pixel of `out`.
class RowWriter {
 public:
  RowWriter(const PngFile& png, const std::string& name) : png_(png), name_(name) {}
  void write(const uint8_t* row, int64_t pixels, uint8_t* out, size_t step) const {
    const PngHeader& h = png_.header;
    const size_t sample = h.depth == 16 ? 2 : 1, stride = sample * size_t(h.channels());
    if (h.depth < 8 || h.colour == palette) return write_indexed(row, pixels, out, step);
    // 16-bit samples are big-endian, so their first byte is the one to keep; alpha is passed over.
    const bool colour = h.colour == rgb || h.colour == rgb_alpha;
    const size_t green = colour ? sample : 0, blue = colour ? 2 * sample : 0;
    for (int64_t x = 0; x < pixels; ++x, row += stride, out += step) {
      out[0] = row[0];
      out[1] = row[green];
      out[2] = row[blue];
    }
  }

 private:
  void write_indexed(const uint8_t* row, int64_t pixels, uint8_t* out, size_t step) const {
    const PngHeader& h = png_.header;
    const unsigned mask = (1u << h.depth) - 1;
    for (int64_t x = 0; x < pixels; ++x, out += step) {
      const int64_t bit = x * h.depth;
      const unsigned value = unsigned(row[bit >> 3]) >> (8 - h.depth - (bit & 7)) & mask;
      if (h.colour == grey) {
        out[0] = out[1] = out[2] = uint8_t(value * 255 / mask);
        continue;
      }
      if (value >= png_.colours.size() / 3)
        fail_format(name_, "PNG pixel has colour {} of a palette of {}", value,
                    png_.colours.size() / 3);
      std::memcpy(out, &png_.colours[size_t(value) * 3], 3);
    }
  }
  const PngFile& png_;
  const std::string& name_;
};

void decode_pass(const PngFile& png, const Pass& pass, Inflater& stream, Image& image,
                 const std::string& name) {
  const PngHeader& h = png.header;
  const int64_t columns = pass.columns(h.width), rows = pass.rows(h.height);
  if (columns <= 0 || rows <= 0) return;
  const size_t bytes = h.row_bytes(columns);
  const size_t step = size_t(std::max(1, h.depth * h.channels() / 8));
  std::vector<uint8_t> current(step + bytes), above(step + bytes);
  const RowWriter writer(png, name);
  for (int64_t y = 0; y < rows; ++y) {
    uint8_t filter = 0;
    const int64_t line = pass.first_y + y * pass.step_y;
    if (!stream.read({&filter, 1}) || !stream.read({current.data() + step, bytes}))
      fail_format(name, "PNG image data ends after {} of {} rows", h.interlaced ? y : line,
                  h.interlaced ? rows : h.height);
    if (filter > 4) fail_format(name, "PNG row {} has filter {}, at most 4 expected", line, filter);
    unfilter(filter, current.data() + step, above.data() + step, bytes, step);
    writer.write(current.data() + step, columns,
                 image.rgb.data() + (size_t(line) * size_t(h.width) + size_t(pass.first_x)) * 3,
                 size_t(pass.step_x) * 3);
    std::swap(current, above);
  }
}

}  // namespace

Image decode_png(std::span<const uint8_t> bytes, const std::string& name,
                 const ImageLimits& limits) {
  const PngFile png = walk(bytes, name, limits);
  // Deflate expands at most 1032 times: a file too small for its own size is refused before memory
  // is taken for it.
  if (png.raw_bytes() / 1032 > png.compressed)
    fail_format(name, "PNG has {} bytes of image data, {} x {} pixels need at least {}",
                png.compressed, png.header.width, png.header.height, png.raw_bytes() / 1032);
  Image image = blank_image(png.header.width, png.header.height);
  Inflater stream(png, name);
  for (const Pass& pass : png.passes()) decode_pass(png, pass, stream, image, name);
  if (!stream.finish()) fail_format(name, "PNG has more image data than pixels");
  return image;
}

}  // namespace whence
