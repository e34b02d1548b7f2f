#include "weights/dtypes.h"

#include <array>
#include <cstring>
#include <limits>

#include "runtime/check.h"

namespace whence {

static_assert(std::endian::native == std::endian::little,
              "checkpoint files are little-endian and are read without swapping bytes");

namespace {

struct Row {
  std::string_view name;
  int bits;
};
// In the order of the enumerators.
constexpr std::array<Row, 22> rows{{
    {"BOOL", 8},    {"U8", 8},      {"I8", 8},          {"I16", 16},        {"U16", 16},
    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
    {"C64", 64},    {"F64", 64},    {"I64", 64},        {"U64", 64},        {"F8_E4M3", 8},
    {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"F6_E2M3", 6},
    {"F6_E3M2", 6}, {"F4", 4},
}};
static_assert(rows[size_t(StoredDtype::f4)].name == "F4");

template <class T, class F>
void read_each(std::span<const uint8_t> bytes, std::span<real> to, F convert) {
  WHENCE_ASSERT(bytes.size() / sizeof(T) == to.size());
  for (size_t i = 0; i < to.size(); ++i) {
    T value;  // copied, because the file promises no alignment
    std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
    to[i] = convert(value);
  }
}

template <class T, class F>
void write_each(std::span<const real> from, std::span<uint8_t> to, F convert) {
  WHENCE_ASSERT(to.size() / sizeof(T) == from.size());
  for (size_t i = 0; i < from.size(); ++i) {
    const T value = convert(from[i]);
    std::memcpy(to.data() + i * sizeof(T), &value, sizeof(T));
  }
}

float narrow(double value, Narrowing& lost) {
  // The compiler's conversion rounds to nearest even; NaN gets one pattern here.
  if (std::isnan(value))
    return std::copysign(std::numeric_limits<float>::quiet_NaN(), float(value));
  const auto result = static_cast<float>(value);
  lost.count(value, double(result));
  return result;
}

// Through F32 a value of the double build would be rounded twice; a result that lies halfway only
// after the first rounding is put back on its side.
uint32_t f32_bits_towards_odd(double value) {
  auto nearest = static_cast<float>(value);
  uint32_t bits = std::bit_cast<uint32_t>(nearest);
  if (std::isfinite(value) && double(nearest) != value) {
    if (std::abs(double(nearest)) > std::abs(value)) --bits;  // now truncated towards zero
    bits |= 1u;
  }
  return bits;
}

}  // namespace

std::optional<StoredDtype> stored_dtype(std::string_view name) {
  for (size_t i = 0; i < rows.size(); ++i)
    if (rows[i].name == name) return StoredDtype(i);
  return {};
}
std::string_view name_of(StoredDtype dtype) { return rows[size_t(dtype)].name; }
int bits_of(StoredDtype dtype) { return rows[size_t(dtype)].bits; }

void to_reals(StoredDtype dtype, std::span<const uint8_t> bytes, std::span<real> to,
              Narrowing& lost) {
  switch (dtype) {
    case StoredDtype::f32:
      return read_each<float>(bytes, to, [](float v) { return real(v); });
    case StoredDtype::f16:
      return read_each<uint16_t>(
          bytes, to, [](uint16_t v) { return real(std::bit_cast<float>(f32_bits_of_f16(v))); });
    case StoredDtype::bf16:
      return read_each<uint16_t>(
          bytes, to, [](uint16_t v) { return real(std::bit_cast<float>(f32_bits_of_bf16(v))); });
    case StoredDtype::f64:
      return read_each<double>(bytes, to, [&](double v) {
        if constexpr (sizeof(real) == sizeof(double))
          return real(v);
        else
          return real(narrow(v, lost));
      });
    default:
      WHENCE_ASSERT(is_weight_dtype(dtype));
  }
}

void from_reals(StoredDtype dtype, std::span<const real> from, std::span<uint8_t> to,
                Narrowing& lost) {
  switch (dtype) {
    case StoredDtype::f32:
      return write_each<float>(from, to, [&](real v) {
        if constexpr (sizeof(real) == sizeof(float))
          return float(v);
        else
          return narrow(v, lost);
      });
    case StoredDtype::f16:
      return write_each<uint16_t>(from, to, [&](real v) {
        const uint16_t h = f16_bits_of_f32(f32_bits_towards_odd(double(v)));
        lost.count(double(v), double(std::bit_cast<float>(f32_bits_of_f16(h))));
        return h;
      });
    case StoredDtype::bf16:
      return write_each<uint16_t>(from, to, [&](real v) {
        const uint16_t b = bf16_bits_of_f32(f32_bits_towards_odd(double(v)));
        lost.count(double(v), double(std::bit_cast<float>(f32_bits_of_bf16(b))));
        return b;
      });
    case StoredDtype::f64:
      return write_each<double>(from, to, [](real v) { return double(v); });
    default:
      WHENCE_ASSERT(is_weight_dtype(dtype));
  }
}

}  // namespace whence
