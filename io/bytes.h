// Reading numbers from untrusted bytes.
#pragma once

#include <cstdint>
#include <span>

#include "runtime/check.h"

namespace whence {

// A position inside bytes that somebody else wrote. The caller asks `has` first; reading past the
// end is a bug of ours and is caught, never an out-of-bounds access.
class ByteReader {
 public:
  explicit ByteReader(std::span<const uint8_t> bytes) : bytes_(bytes) {}
  size_t position() const { return position_; }
  size_t remaining() const { return bytes_.size() - position_; }
  bool has(uint64_t count) const { return count <= remaining(); }
  std::span<const uint8_t> take(size_t count) {
    WHENCE_ASSERT(has(count));
    const auto part = bytes_.subspan(position_, count);
    position_ += count;
    return part;
  }
  void skip(size_t count) { take(count); }
  uint8_t u8() { return take(1)[0]; }
  uint32_t be16() { return big_endian(take(2)); }
  uint32_t be32() { return big_endian(take(4)); }
  uint32_t le16() { return little_endian(take(2)); }
  uint32_t le32() { return little_endian(take(4)); }

 private:
  static uint32_t big_endian(std::span<const uint8_t> b) {
    uint32_t v = 0;
    for (const uint8_t byte : b) v = v << 8 | byte;
    return v;
  }
  static uint32_t little_endian(std::span<const uint8_t> b) {
    uint32_t v = 0;
    for (size_t i = b.size(); i-- > 0;) v = v << 8 | b[i];
    return v;
  }
  std::span<const uint8_t> bytes_;
  size_t position_ = 0;
};

}  // namespace whence
