#include "whence/image.h"

#include "io/codecs.h"
#include "io/files.h"

namespace whence {

void check_image_size(int64_t width, int64_t height, const std::string& name,
                      const ImageLimits& limits) {
  if (width < 1 || height < 1) fail_format(name, "image of {} x {} pixels", width, height);
  if (width > limits.side || height > limits.side)
    fail(ErrorCode::limit, "{}: {} x {} pixels, the limit is {} a side", name, width, height,
         limits.side);
  if (width * height > limits.pixels) {
    if (limits.pixels >= 1'000'000)
      fail(ErrorCode::limit, "{}: {} x {} pixels, the limit is {} megapixels", name, width, height,
           limits.pixels / 1'000'000);
    fail(ErrorCode::limit, "{}: {} x {} pixels, the limit is {} pixels", name, width, height,
         limits.pixels);
  }
}

Image blank_image(int64_t width, int64_t height) {
  return Image{int(width), int(height), std::vector<uint8_t>(size_t(width) * size_t(height) * 3)};
}

bool has_jpeg_turbo() {
#ifdef WHENCE_HAVE_JPEG
  return true;
#else
  return false;
#endif
}

Image decode_image(std::span<const uint8_t> bytes, const std::string& name,
                   const ImageLimits& limits) {
  if (int64_t(bytes.size()) > limits.file_bytes)
    fail(ErrorCode::limit, "{}: {} bytes, the limit is {}", name, bytes.size(), limits.file_bytes);
  switch (const FileKind kind = file_kind(bytes)) {
    case FileKind::png:
      return decode_png(bytes, name, limits);
    case FileKind::bmp:
      return decode_bmp(bytes, name, limits);
    case FileKind::jpeg: {
      const JpegHeader header = check_jpeg(bytes, name, limits);
#ifdef WHENCE_HAVE_JPEG
      return decode_jpeg_turbo(bytes, header, name);
#else
      return decode_jpeg_stb(bytes, header, name);
#endif
    }
    case FileKind::unknown:
      fail_format(name, "not a JPEG, PNG or BMP image");
    case FileKind::gif:
    case FileKind::webp:
    case FileKind::tiff:
    case FileKind::heif:
      fail_format(name, "this is {}, not JPEG, PNG or BMP; convert it first", describe(kind));
    default:
      fail_format(name, "this is {}, not a JPEG, PNG or BMP image", describe(kind));
  }
}

Image read_image(const std::filesystem::path& path, const ImageLimits& limits) {
  return decode_image(read_file(path, limits.file_bytes), path_text(path), limits);
}

}  // namespace whence
