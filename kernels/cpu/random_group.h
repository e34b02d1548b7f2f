// What is made of Philox4x32-10's words, sixteen blocks at a time: 64 variates in vectors.
#pragma once

#include <array>
#include <cmath>

#include "kernels/cpu/vec.h"
#include "kernels/random.h"

namespace whence::k {

template <>
struct Exact<cpu::Vec> {
  using Vec = cpu::Vec;
  using Integer = cpu::Bits;
  static Vec constant(double c) { return cpu::splat(real(c)); }
  static Vec number(Integer i) { return __builtin_convertvector(i, Vec); }
  static Integer bits(Vec x) { return cpu::bits(x); }
  static Vec from_bits(Integer i) { return cpu::from_bits(i); }
  static Vec sqrt(Vec x) {
    for (int i = 0; i < cpu::lanes; ++i) x[i] = std::sqrt(x[i]);
    return x;
  }
  // cpu::fma rounds twice where the processor has no such instruction, the library's does not.
  static Vec fma(Vec a, Vec b, Vec c) {
#if defined(__FMA__) || defined(__AVX512F__) || defined(__aarch64__)
    return cpu::fma(a, b, c);
#else
    for (int i = 0; i < cpu::lanes; ++i) a[i] = std::fma(a[i], b[i], c[i]);
    return a;
#endif
  }
};

}  // namespace whence::k
namespace whence::cpu {
inline namespace WHENCE_ISA {

inline constexpr int group = 16;  // blocks
inline constexpr int group_elements = 4 * group;

using Words = std::array<std::array<uint32_t, group>, 4>;
struct Variates {
  alignas(vec_bytes) real of[4][group];
};

// Words of the blocks [first, first + group): the rounds of philox(), lane by lane.
inline void philox_group(const k::RandomKey& key, uint64_t first, Words& w) {
  for (int l = 0; l < group; ++l) {
    const uint64_t block = first + uint64_t(l);
    w[0][size_t(l)] = uint32_t(block);
    w[1][size_t(l)] = uint32_t(block >> 32);
  }
  w[2].fill(key.draw);
  w[3].fill(key.item);
  uint32_t k0 = uint32_t(key.seed), k1 = uint32_t(key.seed >> 32);
  for (int round = 0; round < 10; ++round) {
    for (size_t l = 0; l < group; ++l) {
      const uint64_t a = uint64_t{k::philox_m0} * w[0][l], b = uint64_t{k::philox_m1} * w[2][l];
      w[0][l] = uint32_t(b >> 32) ^ w[1][l] ^ k0;
      w[1][l] = uint32_t(b);
      w[2][l] = uint32_t(a >> 32) ^ w[3][l] ^ k1;
      w[3][l] = uint32_t(a);
    }
    k0 += k::philox_w0;
    k1 += k::philox_w1;
  }
}

// A word's upper 24 bits, which a float holds exactly.
inline Bits upper(const std::array<uint32_t, group>& words, int first) {
  Bits out;
  for (int l = 0; l < lanes; ++l) out[l] = lane_int(words[size_t(first + l)] >> 8);
  return out;
}

inline void uniform_group(const Words& w, Variates& out) {
  for (size_t j = 0; j < 4; ++j)
    for (int l = 0; l < group; l += lanes) store(out.of[j] + l, k::uniform_of<Vec>(upper(w[j], l)));
}

inline void normal_group(const Words& w, Variates& out) {
  for (size_t j = 0; j < 4; j += 2)
    for (int l = 0; l < group; l += lanes) {
      const k::NormalPair<Vec> z = k::normal_pair_of<Vec>(upper(w[j], l), upper(w[j + 1], l));
      store(out.of[j] + l, z.cosine);
      store(out.of[j + 1] + l, z.sine);
    }
}

// Elements [64 g, 64 g + 64) of the key's variates; f is uniform_group or normal_group.
template <class F>
void variates(const k::RandomKey& key, int64_t g, F&& f, real* out) {
  Words words;
  Variates z;
  philox_group(key, uint64_t(g) * group, words);
  f(words, z);
  for (int l = 0; l < group; ++l)
    for (int j = 0; j < 4; ++j) out[4 * l + j] = z.of[j][l];
}

}  // namespace WHENCE_ISA
}  // namespace whence::cpu
