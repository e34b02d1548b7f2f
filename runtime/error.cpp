#include "runtime/check.h"

namespace whence {
namespace {

// Length of the well-formed UTF-8 sequence at `i`, or 0.
size_t utf8_length(std::string_view t, size_t i) {
  const auto byte = [&](size_t k) { return static_cast<unsigned char>(t[k]); };
  const unsigned char lead = byte(i);
  const size_t n = lead >= 0xF0 && lead <= 0xF4 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC2 ? 2 : 0;
  if (lead > 0xF4 || n == 0 || i + n > t.size()) return 0;
  for (size_t k = 1; k < n; ++k)
    if ((byte(i + k) & 0xC0) != 0x80) return 0;
  const unsigned char second = byte(i + 1);
  if (lead == 0xE0 && second < 0xA0) return 0;  // overlong
  if (lead == 0xED && second > 0x9F) return 0;  // surrogate
  if (lead == 0xF0 && second < 0x90) return 0;  // overlong
  if (lead == 0xF4 && second > 0x8F) return 0;  // beyond U+10FFFF
  if (lead == 0xC2 && second < 0xA0) return 0;  // C1 control characters
  if (lead == 0xE2 && second == 0x80) {         // marks that reorder text
    const unsigned char third = byte(i + 2);
    if (third >= 0xA8 && third <= 0xAE) return 0;
  }
  return n;
}

}  // namespace

std::string printable(std::string_view text) {
  constexpr size_t limit = 120;
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    std::string piece;
    size_t used = 1;
    if (c >= 0x20 && c < 0x7F) {
      piece = text[i];
    } else if (c >= 0x80 && (used = utf8_length(text, i)) > 0) {
      piece = std::string(text.substr(i, used));
    } else {
      piece = fmt::format("\\x{:02X}", c);
      used = 1;
    }
    if (out.size() + piece.size() > limit) return out + "...";
    out += piece;
    i += used;
  }
  return out;
}

void fail_with(ErrorCode code, fmt::string_view format, fmt::format_args arguments) {
  throw Error(code, fmt::vformat(format, arguments));
}

}  // namespace whence
