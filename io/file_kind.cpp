#include <algorithm>
#include <array>

#include "io/files.h"

namespace whence {

namespace {

using namespace std::string_view_literals;

bool starts_with(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

// Downloads that failed are often an error page: an HTML tag after optional blanks and byte order
// mark.
bool is_html(std::string_view text) {
  if (starts_with(text, "\xEF\xBB\xBF")) text.remove_prefix(3);
  while (!text.empty() && (text[0] == ' ' || text[0] == '\n' || text[0] == '\r' || text[0] == '\t'))
    text.remove_prefix(1);
  std::string low(text.substr(0, 9));
  std::transform(low.begin(), low.end(), low.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
  return starts_with(low, "<!doctype") || starts_with(low, "<html") || starts_with(low, "<head") ||
         starts_with(low, "<?xml");
}

// Eight bytes of little-endian header length within the format's limit, then a JSON object that may
// be padded in front.
bool is_safetensors(std::string_view text) {
  if (text.size() < 9) return false;
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | uint8_t(text[size_t(i)]);
  return length >= 2 && length <= 100'000'000 && " \t\r\n{"sv.find(text[8]) != text.npos;
}

struct Signature {
  size_t offset;
  std::string_view bytes;
  FileKind kind;
};
constexpr std::array signatures{
    Signature{0, "\x80\x02"sv, FileKind::pickle},
    Signature{0, "\x80\x03"sv, FileKind::pickle},
    Signature{0, "\x80\x04"sv, FileKind::pickle},
    Signature{0, "\x80\x05"sv, FileKind::pickle},
    Signature{0, "PK\x03\x04"sv, FileKind::zip},
    Signature{0, "PK\x05\x06"sv, FileKind::zip},
    Signature{0, "\x89HDF\r\n\x1a\n"sv, FileKind::hdf5},
    Signature{0, "GGUF"sv, FileKind::gguf},
    Signature{0, "\x93NUMPY"sv, FileKind::numpy},
    Signature{0, "\x1f\x8b"sv, FileKind::gzip},
    Signature{0, "version https://"sv, FileKind::lfs_pointer},
    Signature{0, "\x89PNG\r\n\x1a\n"sv, FileKind::png},
    Signature{0, "\xFF\xD8\xFF"sv, FileKind::jpeg},
    Signature{0, "BM"sv, FileKind::bmp},
    Signature{0, "GIF8"sv, FileKind::gif},
    Signature{8, "WEBP"sv, FileKind::webp},
    Signature{0, "II*\0"sv, FileKind::tiff},
    Signature{0, "MM\0*"sv, FileKind::tiff},
    Signature{4, "ftyp"sv, FileKind::heif},
};

}  // namespace

FileKind file_kind(std::span<const uint8_t> first_bytes) {
  const std::string_view text(reinterpret_cast<const char*>(first_bytes.data()),
                              first_bytes.size());
  if (text.empty()) return FileKind::empty;
  // Tested first: a header length may begin with the bytes of any short signature.
  if (is_safetensors(text)) return FileKind::safetensors;
  for (const Signature& s : signatures)
    if (text.size() >= s.offset && starts_with(text.substr(s.offset), s.bytes)) return s.kind;
  return is_html(text) ? FileKind::html : FileKind::unknown;
}

std::string_view describe(FileKind kind) {
  switch (kind) {
    case FileKind::unknown:
      return "an unknown kind of file";
    case FileKind::empty:
      return "an empty file";
    case FileKind::safetensors:
      return "a safetensors file";
    case FileKind::pickle:
      return "a pickle checkpoint";
    case FileKind::zip:
      return "a zip archive";
    case FileKind::hdf5:
      return "an HDF5 file";
    case FileKind::gguf:
      return "a GGUF file";
    case FileKind::numpy:
      return "a NumPy array";
    case FileKind::gzip:
      return "a gzip archive";
    case FileKind::html:
      return "an HTML page";
    case FileKind::lfs_pointer:
      return "a git-lfs pointer";
    case FileKind::png:
      return "a PNG image";
    case FileKind::jpeg:
      return "a JPEG image";
    case FileKind::bmp:
      return "a BMP image";
    case FileKind::gif:
      return "a GIF image";
    case FileKind::webp:
      return "a WebP image";
    case FileKind::tiff:
      return "a TIFF image";
    case FileKind::heif:
      return "a HEIF or AVIF image";
  }
  return "an unknown kind of file";
}

}  // namespace whence
