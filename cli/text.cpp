#include "cli/text.h"

#include <fmt/core.h>

#include <charconv>
#include <limits>

#include "runtime/check.h"

namespace whence::cli {
int64_t whole_number(std::string_view option, std::string_view text, int64_t low, int64_t high) {
  int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || rest != end || value < low || value > high) {
    if (high == std::numeric_limits<int64_t>::max())
      fail_usage("{}: '{}' is not a whole number of at least {}", option, printable(text), low);
    fail_usage("{}: '{}' is not a whole number from {} to {}", option, printable(text), low, high);
  }
  return value;
}

size_t byte_count(std::string_view option, std::string_view text) {
  int shift = 0;
  std::string_view digits = text;
  if (!text.empty()) {
    const char unit = char(text.back() | 0x20);
    shift = unit == 'k' ? 10 : unit == 'm' ? 20 : unit == 'g' ? 30 : 0;
    if (shift) digits.remove_suffix(1);
  }
  uint64_t value = 0;
  const char* end = digits.data() + digits.size();
  const auto [rest, error] = std::from_chars(digits.data(), end, value);
  constexpr uint64_t most = uint64_t(1) << 50;
  if (error != std::errc() || rest != end || value == 0 || value > (most >> shift))
    fail_usage("{}: '{}' is not a size in bytes; write 800M or 2G", option, printable(text));
  return size_t(value << shift);
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  for (;;) {
    const size_t end = text.find(separator);
    parts.emplace_back(text.substr(0, end));
    if (end == text.npos) return parts;
    text.remove_prefix(end + 1);
  }
}

size_t columns(std::string_view utf8) {
  size_t n = 0;
  for (const char c : utf8) n += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return n;
}

std::string shortened(std::string_view utf8, size_t width) {
  if (columns(utf8) <= width) return std::string(utf8);
  size_t bytes = 0, shown = 0;
  for (; bytes < utf8.size(); ++bytes) {
    const bool starts = (static_cast<unsigned char>(utf8[bytes]) & 0xC0) != 0x80;
    if (starts && shown++ == width - 2) break;
  }
  return std::string(utf8.substr(0, bytes)) + "..";
}

std::string html_escaped(std::string_view text) {
  std::string out;
  for (const char c : text) switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  return out;
}

std::string base64(const std::vector<uint8_t>& bytes) {
  static constexpr char digits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t n = std::min<size_t>(3, bytes.size() - i);
    uint32_t word = 0;
    for (size_t k = 0; k < 3; ++k) word = word << 8 | (k < n ? bytes[i + k] : 0u);
    for (size_t k = 0; k < 4; ++k) out += k <= n ? digits[word >> (18 - 6 * k) & 63u] : '=';
  }
  return out;
}

}  // namespace whence::cli
