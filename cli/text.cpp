#include "cli/text.h"

#include <fmt/core.h>

#include <charconv>
#include <limits>

#include "cli/failure.h"

namespace whence::cli {
namespace {

// Length of the well-formed UTF-8 sequence at the front of `t`, or 0.
size_t sequence_length(std::string_view t) {
  const auto byte = [&](size_t k) { return static_cast<unsigned char>(t[k]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t n = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || n > t.size()) return 0;
  for (size_t k = 1; k < n; ++k)
    if ((byte(k) & 0xC0) != 0x80) return 0;
  // Overlong forms, surrogates, and what lies beyond the last code point.
  const unsigned char second = byte(1);
  if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) ||
      (lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F))
    return 0;
  return n;
}

}  // namespace

int64_t whole_number(std::string_view option, std::string_view text, int64_t low, int64_t high) {
  int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || rest != end || value < low || value > high) {
    if (high == std::numeric_limits<int64_t>::max())
      quit(ExitCode::usage, "{}: '{}' is not a whole number of at least {}", option,
           printable(text), low);
    quit(ExitCode::usage, "{}: '{}' is not a whole number from {} to {}", option, printable(text),
         low, high);
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
    quit(ExitCode::usage, "{}: '{}' is not a size in bytes; write 800M or 2G", option,
         printable(text));
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

std::string to_utf8(std::string_view bytes) {
  std::string out;
  while (!bytes.empty()) {
    const size_t n = sequence_length(bytes);
    const auto c = static_cast<unsigned char>(bytes[0]);
    if (n == 0 || c < 0x20 || c == 0x7F) {
      out += fmt::format("%{:02X}", c);
      bytes.remove_prefix(1);
    } else {
      out += bytes.substr(0, n);
      bytes.remove_prefix(n);
    }
  }
  return out;
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

double shortest(real value) {
  const std::string text = fmt::format("{}", value);
  double out = 0;
  std::from_chars(text.data(), text.data() + text.size(), out);
  return out;
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

std::string fingerprint(const std::vector<uint8_t>& bytes) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const uint8_t byte : bytes) hash = (hash ^ byte) * 0x100000001b3u;
  return fmt::format("{:016x}", hash);
}

}  // namespace whence::cli
