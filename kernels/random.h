// Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random
// numbers: as easy as 1, 2, 3", SC 2011). A number is a function of (seed, item, draw, element)
// alone, so chunking, threads and devices cannot change it.
//
// Counter of element i:  { low 32 bits of i / 4, high 32 bits of i / 4, draw, item };
// key:                   { low 32 bits of seed, high 32 bits of seed }.
// The block's four words w0..w3 belong to elements 4 (i / 4) + 0..3:
//   uniform: element j is (w_j >> 8) 2^-24;
//   normal:  u = ((w0 >> 8) + 1) 2^-24 in (0, 1], v = (w1 >> 8) 2^-24, r = sqrt(-2 ln u); elements
//            0 and 1 are r cos(2 pi v) and r sin(2 pi v) (Box and Muller 1958), elements 2 and 3
//            the same of w2 and w3. The largest magnitude is sqrt(48 ln 2) = 5.77.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <type_traits>

#include "kernels/kernel.h"

namespace whence::k {

// Identifies one stream of variates: the seed a user gives, the input's index, the draw's index.
struct RandomKey {
  uint64_t seed = 0;
  uint32_t item = 0, draw = 0;
};

// A key as four integers: the low and the high half of the seed, item, draw.
WHENCE_HD inline RandomKey key_of(const int32_t* four) {
  return {uint64_t{uint32_t(four[1])} << 32 | uint32_t(four[0]), uint32_t(four[2]),
          uint32_t(four[3])};
}

// The generator itself: ten rounds of two 32 x 32 bit products each.
inline constexpr uint32_t philox_m0 = 0xD2511F53, philox_m1 = 0xCD9E8D57;  // multipliers
inline constexpr uint32_t philox_w0 = 0x9E3779B9, philox_w1 = 0xBB67AE85;  // added to the key
WHENCE_HD inline std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter,
                                                std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{philox_m0} * counter[0], b = uint64_t{philox_m1} * counter[2];
    counter = {uint32_t(b >> 32) ^ counter[1] ^ key[0], uint32_t(b),
               uint32_t(a >> 32) ^ counter[3] ^ key[1], uint32_t(a)};
    key = {key[0] + philox_w0, key[1] + philox_w1};
  }
  return counter;
}

// Operations on a number type T (a real, or a vector of them) whose results IEEE 754 fixes to the
// last bit. The formulas below consist of these and of + - * / alone, and whoever compiles them for
// a kernel forbids the compiler to fuse any: so a variate has the same bits wherever it is
// computed.
template <class T>
struct Exact;

template <>
struct Exact<real> {
  using Integer = std::conditional_t<sizeof(real) == 4, int32_t, int64_t>;
  WHENCE_HD static real constant(double c) { return real(c); }
  WHENCE_HD static real number(Integer i) { return real(i); }
  WHENCE_HD static constexpr Integer bits(real x) { return std::bit_cast<Integer>(x); }
  WHENCE_HD static real from_bits(Integer i) { return std::bit_cast<real>(i); }
  WHENCE_HD static real sqrt(real x) { return std::sqrt(x); }
  WHENCE_HD static real fma(real a, real b, real c) { return std::fma(a, b, c); }
};

// c0 + c1 x + c2 x^2 + ...
template <class T, class... C>
WHENCE_HD inline T exact_polynomial(T x, double c0, C... rest) {
  using E = Exact<T>;
  if constexpr (sizeof...(rest) == 0) {
    return E::constant(c0);
  } else {
    return E::fma(exact_polynomial(x, rest...), x, E::constant(c0));
  }
}

// ln x for a positive normal x = 2^n (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)). The coefficients
// for float interpolate at Chebyshev nodes and give ln(1 + f) to 2e-8. In double it is
// 2 artanh(s) = 2 (s + s^3/3 + s^5/5 + ...) with s = f / (2 + f), where 2 s = f - s f.
template <class T>
WHENCE_HD inline T exact_log(T x) {
  using E = Exact<T>;
  const auto c = [](double v) { return E::constant(v); };
  constexpr bool is_float = sizeof(real) == 4;
  constexpr auto root_half = Exact<real>::bits(real(0.70710678118654752440));
  constexpr int mantissa_bits = is_float ? 23 : 52;
  const auto power = (E::bits(x) - root_half) >> mantissa_bits;
  const T f = E::from_bits(E::bits(x) - (power << mantissa_bits)) - c(1);
  const T n = E::number(power);
  if constexpr (is_float) {
    const T tail = f * f * f *
                   exact_polynomial(f, 0.3333333134651f, -0.2500030696392f, 0.2000104486942f,
                                    -0.1664128154516f, 0.1421449631453f, -0.1299818307161f,
                                    0.1262231916189f, -0.0790274366736f);
    const T rest = E::fma(n, c(1.42860682030941723e-6f), E::fma(c(-0.5) * f, f, tail));
    return E::fma(n, c(0.693145751953125), f + rest);
  } else {
    const T s = f / (c(2) + f), z = s * s;
    const T tail = z * exact_polynomial(z, 2. / 3, 2. / 5, 2. / 7, 2. / 9, 2. / 11, 2. / 13,
                                        2. / 15, 2. / 17, 2. / 19, 2. / 21, 2. / 23);
    // ln 2 in two parts, the first of which has 32 bits, so that its product with n is exact.
    const T rest = E::fma(n, c(1.9082149292705877e-10), s * (tail - f));
    return E::fma(n, c(0.6931471803691238), f + rest);
  }
}

// sin(pi/2 x) and cos(pi/2 x), |x| <= 1/2: for float to 3.6e-8 and 1.3e-8, in double the series of
// the sine and the cosine.
template <class T>
WHENCE_HD inline T exact_sin_quarter(T x) {
  if constexpr (sizeof(real) == 4) {
    return x * exact_polynomial(x * x, 1.5707963705063f, -0.6459634900093f, 0.0796802192926f,
                                -0.0046021491289f);
  } else {
    return x * exact_polynomial(x * x, 1.5707963267948966, -0.6459640975062463, 0.07969262624616705,
                                -0.004681754135318688, 0.00016044118478735983,
                                -3.598843235212085e-06, 5.692172921967927e-08,
                                -6.688035109811468e-10, 6.0669357311061955e-12);
  }
}
template <class T>
WHENCE_HD inline T exact_cos_quarter(T x) {
  using E = Exact<T>;
  const T z = x * x;
  if constexpr (sizeof(real) == 4) {
    const T p = exact_polynomial(z, -1.2337005138397f, 0.2536694109440f, -0.0208615288138f,
                                 0.0009067399078f);
    return E::fma(z, p, E::constant(1));
  } else {
    return exact_polynomial(z, 1, -1.2337005501361697, 0.25366950790104803, -0.02086348076335296,
                            0.0009192602748394266, -2.5202042373060607e-05, 4.710874778818172e-07,
                            -6.386603083791852e-09, 6.565963114979473e-11, -5.294400200734623e-13);
  }
}

inline constexpr double random_unit = 1.0 / 16777216;  // 2^-24

// A uniform variate of a word's upper 24 bits, which a real holds exactly.
template <class T>
WHENCE_HD inline T uniform_of(typename Exact<T>::Integer upper) {
  using E = Exact<T>;
  return E::number(upper) * E::constant(random_unit);
}

template <class T>
struct NormalPair {
  T cosine, sine;  // the even element and the odd one after it
};

// Two normal variates of two words' upper 24 bits. The turn v is split into quarters,
// q = round(4 v), and the rest, which is exact.
template <class T>
WHENCE_HD inline NormalPair<T> normal_pair_of(typename Exact<T>::Integer radius_bits,
                                              typename Exact<T>::Integer turn) {
  using E = Exact<T>;
  const T radius = E::sqrt(E::constant(-2) * exact_log(uniform_of<T>(radius_bits + 1)));
  const auto q = (turn + (1 << 21)) >> 22;
  const T rest = E::number(turn - (q << 22)) * E::constant(4 * random_unit);
  const T s = radius * exact_sin_quarter(rest), c = radius * exact_cos_quarter(rest);
  // Quarters 0 to 3: (c, s), (-s, c), (-c, -s), (s, -c).
  const auto odd = (q & 1) != 0, negative_sin = (q & 2) != 0, negative_cos = ((q + 1) & 2) != 0;
  const T cosine = odd ? s : c, sine = odd ? c : s;
  return {negative_cos ? -cosine : cosine, negative_sin ? -sine : sine};
}

// The four words of a block of the key's, and its four normal variates.
WHENCE_HD inline std::array<uint32_t, 4> words_of(const RandomKey& key, uint64_t block) {
  return philox({uint32_t(block), uint32_t(block >> 32), key.draw, key.item},
                {uint32_t(key.seed), uint32_t(key.seed >> 32)});
}
WHENCE_HD inline std::array<real, 4> normal_four(const std::array<uint32_t, 4>& w) {
  using E = Exact<real>;
  const auto a = normal_pair_of<real>(E::Integer(w[0] >> 8), E::Integer(w[1] >> 8));
  const auto b = normal_pair_of<real>(E::Integer(w[2] >> 8), E::Integer(w[3] >> 8));
  return {a.cosine, a.sine, b.cosine, b.sine};
}

// y[i] = element i of the key's standard normal variates.
WHENCE_KERNEL(random_normal, const RandomKey& key, int64_t count, real* y);
// Row r of y [rows, count] is that of the key keys[4 r ..] (key_of).
WHENCE_KERNEL(random_normal_rows, const int32_t* keys, int64_t rows, int64_t count, real* y);
// y[i] = element i of the key's uniform variates in [0, 1).
WHENCE_KERNEL(random_uniform, const RandomKey& key, int64_t count, real* y);

}  // namespace whence::k
