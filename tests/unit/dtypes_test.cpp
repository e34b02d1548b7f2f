// Conversions between element types, against their bit-level definition.
#include "weights/dtypes.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <vector>

namespace whence {
namespace {

// -----------------------------------------------------------------------------------

// The value by the definition of the format: sign, exponent, fraction.
double value_of(uint32_t bits, int exponent_bits, int fraction_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const double sign = bits >> (exponent_bits + fraction_bits) ? -1 : 1;
  const int exponent = int(bits >> fraction_bits) & ((1 << exponent_bits) - 1);
  const double fraction = double(bits & ((1u << fraction_bits) - 1)) / (1 << fraction_bits);
  if (exponent == (1 << exponent_bits) - 1)
    return fraction != 0 ? std::copysign(std::nan(""), sign) : sign * HUGE_VAL;
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias);
  return sign * std::ldexp(1 + fraction, exponent - bias);
}

TEST(Dtypes, all_16_bit_patterns_widen_to_their_value) {
  for (uint32_t p = 0; p < 65536; ++p) {
    const double f16 = value_of(p, 5, 10), bf16 = value_of(p, 8, 7);
    const uint32_t from_f16 = f32_bits_of_f16(uint16_t(p)),
                   from_bf16 = f32_bits_of_bf16(uint16_t(p));
    if (std::isnan(f16)) {
      ASSERT_EQ(from_f16, p >> 15 ? 0xFFC00000u : 0x7FC00000u) << p;
    } else {
      ASSERT_EQ(from_f16, std::bit_cast<uint32_t>(float(f16))) << p;  // -0 differs from 0 by bits
    }
    if (std::isnan(bf16)) {
      ASSERT_EQ(from_bf16, p >> 15 ? 0xFFC00000u : 0x7FC00000u) << p;
    } else {
      ASSERT_EQ(from_bf16, std::bit_cast<uint32_t>(float(bf16))) << p;
    }
  }
}

// Nearest by definition: of the two patterns around a value, the nearer; the even one of a tie.
// Positive finite patterns are ordered like their values, and the first infinite one stands for the
// next power of two.
uint16_t nearest_pattern(float x, int exponent_bits, int fraction_bits) {
  const uint32_t infinite = ((1u << exponent_bits) - 1) << fraction_bits;
  const auto value = [&](uint32_t p) {
    if (p < infinite) return value_of(p, exponent_bits, fraction_bits);
    return std::ldexp(1.0, (1 << (exponent_bits - 1)));
  };
  const double magnitude = std::abs(double(x));
  uint32_t low = 0, high = infinite;
  while (high - low > 1) (value((low + high) / 2) <= magnitude ? low : high) = (low + high) / 2;
  const double down = magnitude - value(low), up = value(high) - magnitude;
  const uint32_t p = down < up || (down == up && low % 2 == 0) ? low : high;
  return uint16_t((std::signbit(x) ? 0x8000u : 0u) | p);
}

TEST(Dtypes, narrowing_rounds_to_nearest_even) {
  uint32_t state = 12345;
  for (int n = 0; n < 200'000; ++n) {
    state = state * 1664525u + 1013904223u;
    // Every fourth value is a midpoint of F16 or BF16 or one of its neighbours.
    uint32_t bits = state ^ (state >> 15);
    if (n % 4 == 1) bits = (bits & 0xFFFFE000u) + 0x1000u + uint32_t(n / 4 % 3) - 1;
    if (n % 4 == 3) bits = (bits & 0xFFFF0000u) + 0x8000u + uint32_t(n / 4 % 3) - 1;
    if (n % 8 >= 4) bits = (bits & 0x80FFFFFFu) | (100u + state % 45u) << 23;  // around F16's range
    const float x = std::bit_cast<float>(bits);
    if (!std::isfinite(x)) continue;
    ASSERT_EQ(f16_bits_of_f32(bits), nearest_pattern(x, 5, 10)) << x;
    ASSERT_EQ(bf16_bits_of_f32(bits), nearest_pattern(x, 8, 7)) << x;
  }
  for (uint32_t sign : {0u, 0x80000000u}) {
    EXPECT_EQ(f16_bits_of_f32(sign | 0x7F812345u), (sign >> 16) | 0x7E00u);
    EXPECT_EQ(bf16_bits_of_f32(sign | 0x7F800001u), (sign >> 16) | 0x7FC0u);
    EXPECT_EQ(f16_bits_of_f32(sign | 0x7F800000u), (sign >> 16) | 0x7C00u);
    EXPECT_EQ(bf16_bits_of_f32(sign | 0x7F800000u), (sign >> 16) | 0x7F80u);
  }
}

TEST(Dtypes, all_16_bit_patterns_survive_a_round_trip) {
  for (uint32_t p = 0; p < 65536; ++p) {
    if (!std::isnan(value_of(p, 5, 10))) {
      ASSERT_EQ(f16_bits_of_f32(f32_bits_of_f16(uint16_t(p))), p);
    }
    if (!std::isnan(value_of(p, 8, 7))) {
      ASSERT_EQ(bf16_bits_of_f32(f32_bits_of_bf16(uint16_t(p))), p);
    }
  }
}

TEST(Dtypes, f64_is_rounded_once) {
  // Halfway between two F16 values plus less than half a unit of F32: rounding through F32 would
  // land on the tie and go to the even neighbour below.
  if (sizeof(real) == sizeof(double)) {
    const double x = 1.0 + 0x1p-11 + 0x1p-40;
    std::vector<uint8_t> bytes(2);
    Narrowing lost;
    const real value = real(x);
    from_reals(StoredDtype::f16, {&value, 1}, bytes, lost);
    EXPECT_EQ(bytes[0], 0x01);
  }
}

}  // namespace
}  // namespace whence
