// The decoders behind decode_image. Each takes a whole file in memory and returns a complete image
// or throws an error whose message begins with `name` (already fit to print).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "runtime/check.h"
#include "whence/image.h"

namespace whence {

template <class... A>
[[noreturn]] void fail_format(const std::string& name, fmt::format_string<A...> format, A&&... a) {
  const std::string what = fmt::format(format, std::forward<A>(a)...);
  throw Error(ErrorCode::format, name + ": " + what);
}
template <class... A>
[[noreturn]] void fail_unsupported(const std::string& name, fmt::format_string<A...> format,
                                   A&&... a) {
  const std::string what = fmt::format(format, std::forward<A>(a)...);
  throw Error(ErrorCode::unsupported, name + ": " + what);
}

// Sides of at least 1 within the limits, before anything is allocated for them.
void check_image_size(int64_t width, int64_t height, const std::string& name,
                      const ImageLimits& limits);
Image blank_image(int64_t width, int64_t height);

Image decode_png(std::span<const uint8_t> bytes, const std::string& name,
                 const ImageLimits& limits);
Image decode_bmp(std::span<const uint8_t> bytes, const std::string& name,
                 const ImageLimits& limits);

// What the marker walk learned about a JPEG file that it let through.
struct JpegHeader {
  int width = 0, height = 0;
  int components = 0;  // 1, 3 or 4
  bool adobe = false;  // an Adobe segment is present
  bool progressive = false;
  size_t end = 0;  // just behind the end marker
};
// Walks over every marker of the file before a decoder sees it, and refuses what is incomplete,
// corrupt, or outside baseline, extended and progressive Huffman coding with 8-bit samples. This is
// also what makes old versions of stb_image safe to use.
JpegHeader check_jpeg(std::span<const uint8_t> bytes, const std::string& name,
                      const ImageLimits& limits);
// Whether decode_image uses the first of the two.
bool has_jpeg_turbo();
// The two decoders; both expect bytes that check_jpeg let through. Pixels of the first equal
// Pillow's; those of the second differ by a few levels where chroma is subsampled.
#ifdef WHENCE_HAVE_JPEG
Image decode_jpeg_turbo(std::span<const uint8_t> bytes, const JpegHeader& header,
                        const std::string& name);
#endif
Image decode_jpeg_stb(std::span<const uint8_t> bytes, const JpegHeader& header,
                      const std::string& name);

}  // namespace whence
