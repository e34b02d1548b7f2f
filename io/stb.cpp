// JPEG through stb_image: the only place that compiles it, and only its JPEG decoder.
//
// Built with -fwrapv, because coefficients of corrupt progressive files overflow, and with
// -fno-sanitize=shift, because versions before 2.28 shift by more than 31 where the bits of a
// corrupt code run out: then some pixels are wrong, as they would be anyway.
#include <algorithm>
#include <cstdlib>
#include <limits>

#include "io/codecs.h"

namespace {

// What the decoder may still allocate on this thread. Memory is zeroed, so that a read it does not
// check returns zeros and not what another image left behind.
thread_local size_t stb_budget = 0;

void* stb_allocate(size_t bytes) {
  if (bytes > stb_budget) return nullptr;
  stb_budget -= bytes;
  return std::calloc(1, std::max<size_t>(bytes, 1));
}

}  // namespace

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_JPEG
#define STBI_NO_STDIO
#define STBI_NO_HDR
#define STBI_NO_LINEAR
#define STBI_MAX_DIMENSIONS 16384
#define STBI_ASSERT(condition) ((void)0)
#define STBI_MALLOC(size) stb_allocate(size)
#define STBI_REALLOC_SIZED(old, old_size, size) nullptr  // the JPEG decoder grows nothing
#define STBI_FREE(p) std::free(p)

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#include <stb/stb_image.h>
#pragma GCC diagnostic pop

namespace whence {

Image decode_jpeg_stb(std::span<const uint8_t> bytes, const JpegHeader& header,
                      const std::string& name) {
  if (header.components == 4 && !header.adobe)
    fail_unsupported(name, "CMYK JPEG without an Adobe segment is not read; convert it to RGB");
  if (header.end > size_t(std::numeric_limits<int>::max()))
    fail(ErrorCode::limit, "{}: {} bytes, the limit is {}", name, header.end,
         std::numeric_limits<int>::max());
  Image image = blank_image(header.width, header.height);
  // Coefficients of 2 bytes, samples of 1, and the result: less than this and the rounding of
  // blocks.
  stb_budget = size_t(header.components + 1) * image.rgb.size() + (size_t(64) << 20);
  int width = 0, height = 0, channels = 0;
  // Bytes behind the end marker are not offered.
  stbi_uc* pixels =
      stbi_load_from_memory(bytes.data(), int(header.end), &width, &height, &channels, 3);
  if (!pixels) fail_format(name, "JPEG data is corrupt: {}", stbi_failure_reason());
  const bool as_promised = width == header.width && height == header.height;
  if (as_promised) std::copy_n(pixels, image.rgb.size(), image.rgb.data());
  std::free(pixels);
  if (!as_promised)
    fail_format(name, "JPEG decoded to {} x {} pixels, {} x {} expected", width, height,
                header.width, header.height);
  return image;
}

}  // namespace whence
