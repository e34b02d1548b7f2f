// Lanes: a vector of reals as wide as the processor's registers, written with the vector extension
// that GCC and Clang share, so the same source compiles for every instruction set.
//
// Results round the way they are written: kernels are compiled with -ffp-contract=off and say fma
// where they mean it. A compiler that fuses a * b + c as it likes does so in one inlined copy of a
// loop and not in another, and an element's bits would depend on where its vector ends.
//
// What depends on the instruction set is in an inline namespace named after it, so that code
// compiled for two of them (the library for this machine, a test for any) can be linked together.
#pragma once

#if defined(__AVX__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "whence/real.h"

#if defined(__AVX512F__)
#define WHENCE_ISA avx512
#elif defined(__AVX__) && defined(__FMA__)
#define WHENCE_ISA avx_fma
#elif defined(__AVX__)
#define WHENCE_ISA avx
#else
#define WHENCE_ISA base
#endif

namespace whence::cpu {
inline namespace WHENCE_ISA {

#if defined(__AVX512F__)
inline constexpr int vec_bytes = 64;
#elif defined(__AVX__)
inline constexpr int vec_bytes = 32;
#else
inline constexpr int vec_bytes = 16;
#endif
inline constexpr int lanes = vec_bytes / int(sizeof(real));

using lane_int = std::conditional_t<sizeof(real) == 4, int32_t, int64_t>;
typedef real Vec __attribute__((vector_size(vec_bytes)));
// One integer for each lane: what comparisons of Vec yield (-1 where true), and the bits of a Vec.
typedef lane_int Bits __attribute__((vector_size(vec_bytes)));

inline Vec splat(real x) { return x - Vec{}; }  // x - 0 is x, of either sign
// The same at any address.
typedef real UnalignedVec
    __attribute__((vector_size(vec_bytes), aligned(alignof(real)), may_alias));
inline Vec load(const real* p) { return *reinterpret_cast<const UnalignedVec*>(p); }
inline void store(real* p, Vec v) { *reinterpret_cast<UnalignedVec*>(p) = v; }
// The first `count` lanes, 0 < count < lanes; the others are `rest` (load) or left alone (store).
// AVX-512 has masked moves; elsewhere the lanes go one by one.
#if defined(__AVX512F__) && defined(WHENCE_F64)
inline Vec load(const real* p, int64_t count, real rest = 0) {
  return _mm512_mask_loadu_pd(splat(rest), __mmask8((1u << count) - 1), p);
}
inline void store(real* p, Vec v, int64_t count) {
  _mm512_mask_storeu_pd(p, __mmask8((1u << count) - 1), v);
}
#elif defined(__AVX512F__)
inline Vec load(const real* p, int64_t count, real rest = 0) {
  return _mm512_mask_loadu_ps(splat(rest), __mmask16((1u << count) - 1), p);
}
inline void store(real* p, Vec v, int64_t count) {
  _mm512_mask_storeu_ps(p, __mmask16((1u << count) - 1), v);
}
#else
inline Vec load(const real* p, int64_t count, real rest = 0) {
  Vec v = splat(rest);
  for (int64_t i = 0; i < count; ++i) v[i] = p[i];
  return v;
}
inline void store(real* p, Vec v, int64_t count) {
  for (int64_t i = 0; i < count; ++i) p[i] = v[i];
}
#endif

// a * b + c, rounded once where the processor has the instruction.
inline Vec fma(Vec a, Vec b, Vec c) {
#if defined(__AVX512F__) && defined(WHENCE_F64)
  return _mm512_fmadd_pd(a, b, c);
#elif defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__) && defined(WHENCE_F64)
  return _mm256_fmadd_pd(a, b, c);
#elif defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#elif defined(__aarch64__) && defined(WHENCE_F64)
  return vfmaq_f64(c, a, b);
#elif defined(__aarch64__)
  return vfmaq_f32(c, a, b);
#else
  return a * b + c;
#endif
}

inline Bits bits(Vec v) { return (Bits)v; }
inline Vec from_bits(Bits b) { return (Vec)b; }
inline Vec abs(Vec v) { return from_bits(bits(v) & ~bits(splat(real(-0.0)))); }
// a > b ? a : b and a < b ? a : b, one instruction where there is one; b if either is NaN.
inline Vec larger(Vec a, Vec b) {
#if defined(__AVX512F__) && !defined(WHENCE_F64)
  return _mm512_maskz_max_ps(__mmask16(~0), a, b);
#elif defined(__AVX__) && !defined(__AVX512F__) && !defined(WHENCE_F64)
  return _mm256_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}
inline Vec smaller(Vec a, Vec b) {
#if defined(__AVX512F__) && !defined(WHENCE_F64)
  return _mm512_maskz_min_ps(__mmask16(~0), a, b);
#elif defined(__AVX__) && !defined(__AVX512F__) && !defined(WHENCE_F64)
  return _mm256_min_ps(a, b);
#else
  return a < b ? a : b;
#endif
}

// Lane i becomes lane (i + by) % lanes of v.
template <int by, int... i>
inline Vec rotate(Vec v, std::integer_sequence<int, i...>) {
  return __builtin_shufflevector(v, v, ((i + by) % lanes)...);
}
// Joins all lanes by halving, so the order is a function of the width alone.
template <int half, class F>
inline Vec join_lanes(Vec v, F&& f) {
  v = f(v, rotate<half>(v, std::make_integer_sequence<int, lanes>()));
  if constexpr (half > 1) return join_lanes<half / 2>(v, f);
  return v;
}
inline real sum_lanes(Vec v) {
  return join_lanes<lanes / 2>(v, [](Vec a, Vec b) { return a + b; })[0];
}
inline real max_lanes(Vec v) {
  return join_lanes<lanes / 2>(v, [](Vec a, Vec b) { return larger(a, b); })[0];
}

// Calls f(i, n) for consecutive pieces of [0, count) of n = lanes elements, the last one shorter.
template <class F>
inline void each_vec(int64_t count, F&& f) {
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) f(i, std::integral_constant<int64_t, lanes>());
  if (i < count) f(i, count - i);
}
// Loads and stores for each_vec: whole vectors compile to one instruction.
template <int64_t n>
inline Vec load(const real* p, std::integral_constant<int64_t, n>, real = 0) {
  return load(p);
}
template <int64_t n>
inline void store(real* p, Vec v, std::integral_constant<int64_t, n>) {
  store(p, v);
}

}  // namespace WHENCE_ISA
}  // namespace whence::cpu
