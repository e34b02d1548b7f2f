// Element types of checkpoint files and the conversions between them, by bits.
//
//   F16  1 sign, 5 exponent (bias 15),  10 fraction   BF16  1 sign, 8 exponent (bias 127),  7
//   fraction F32  1 sign, 8 exponent (bias 127), 23 fraction   F64   1 sign, 11 exponent, 52
//   fraction
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "whence/tensor.h"

namespace whence {

enum class StoredDtype : uint8_t {
  boolean,
  u8,
  i8,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  c64,
  f64,
  i64,
  u64,
  f8_e4m3,
  f8_e5m2,
  f8_e8m0,
  f8_e4m3fnuz,
  f8_e5m2fnuz,
  f6_e2m3,
  f6_e3m2,
  f4,
};
std::optional<StoredDtype> stored_dtype(std::string_view name);  // nothing for an unknown name
std::string_view name_of(StoredDtype dtype);                     // "BF16"
int bits_of(StoredDtype dtype);
// The types that weights may have; the others occur only in buffers that are skipped.
inline bool is_weight_dtype(StoredDtype d) {
  return d == StoredDtype::f32 || d == StoredDtype::f16 || d == StoredDtype::bf16 ||
         d == StoredDtype::f64;
}

// NaN of any payload becomes the quiet NaN of the target, sign kept. Everything else is exact when
// widening, and rounded to nearest, ties to even, when narrowing.

constexpr uint32_t f32_bits_of_f16(uint16_t h) {
  const uint32_t sign = uint32_t(h & 0x8000u) << 16;
  const uint32_t exponent = (h >> 10) & 0x1Fu;
  uint32_t fraction = h & 0x3FFu;
  if (exponent == 31) return sign | 0x7F800000u | (fraction ? 0x400000u : 0u);
  if (exponent > 0) return sign | (exponent + 112) << 23 | fraction << 13;
  if (fraction == 0) return sign;
  // Subnormal: fraction * 2^-24. Shift its top bit to where the implicit one belongs.
  const int shift = std::countl_zero(fraction) - 21;
  fraction = (fraction << shift) & 0x3FFu;
  return sign | uint32_t(113 - shift) << 23 | fraction << 13;
}

constexpr uint32_t f32_bits_of_bf16(uint16_t b) {
  const uint32_t bits = uint32_t(b) << 16;
  return (bits & 0x7FFFFFFFu) > 0x7F800000u ? (bits & 0x80000000u) | 0x7FC00000u : bits;
}

constexpr uint16_t bf16_bits_of_f32(uint32_t bits) {
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return uint16_t((bits >> 31) << 15 | 0x7FC0u);
  return uint16_t((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

constexpr uint16_t f16_bits_of_f32(uint32_t bits) {
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return uint16_t(sign | 0x7E00u);
  if (magnitude >= 0x477FF000u) return uint16_t(sign | 0x7C00u);  // rounds to 2^16 or above
  if (magnitude < 0x33000000u) return uint16_t(sign);             // below 2^-25
  uint32_t kept, dropped_bits;
  if (magnitude >= 0x38800000u) {  // normal: rebias the exponent, drop 13 bits
    kept = magnitude - (112u << 23);
    dropped_bits = 13;
  } else {  // subnormal: a multiple of 2^-24
    kept = (magnitude & 0x7FFFFFu) | 0x800000u;
    dropped_bits = 126 - (magnitude >> 23);
  }
  const uint32_t half = 1u << (dropped_bits - 1), rest = kept & (2 * half - 1);
  kept >>= dropped_bits;
  if (rest > half || (rest == half && (kept & 1u))) ++kept;  // a carry moves into the exponent
  return uint16_t(sign | kept);
}

// What narrowing lost.
struct Narrowing {
  int64_t overflowed = 0;  // finite values that became infinite
  int64_t flushed = 0;     // non-zero values that became zero
  double largest = 0;      // of the overflowed ones, by magnitude
  void count(double from, double to) {
    if (std::isfinite(from) && std::isinf(to)) {
      ++overflowed;
      if (std::abs(from) > std::abs(largest)) largest = from;
    }
    if (from != 0 && to == 0) ++flushed;
  }
};

// `bytes` holds to.size() elements of a weight dtype, little-endian, at any alignment.
void to_reals(StoredDtype dtype, std::span<const uint8_t> bytes, std::span<real> to,
              Narrowing& lost);
// The reverse; `to` has room for from.size() elements.
void from_reals(StoredDtype dtype, std::span<const real> from, std::span<uint8_t> to,
                Narrowing& lost);

}  // namespace whence
