// Philox4x32-10 and what is made of its words, sixteen blocks at a time.
//
// A group of 16 counters gives 64 variates; threads take ranges of groups, and a group that is cut
// off by the end is computed whole. Writes 4 bytes per element; bound by the generator's 40
// multiplications per block (uniform) and the logarithm (normal).
#include "kernels/random.h"

#include <array>
#include <cmath>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vec.h"

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

namespace {

using namespace cpu;

constexpr int group = 16;  // blocks
constexpr int group_elements = 4 * group;

using Words = std::array<std::array<uint32_t, group>, 4>;
struct Variates {
  alignas(vec_bytes) real of[4][group];
};

// Words of the blocks [first, first + group): the rounds of philox(), lane by lane.
void philox_group(const RandomKey& key, uint64_t first, Words& w) {
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
      const uint64_t a = uint64_t{philox_m0} * w[0][l], b = uint64_t{philox_m1} * w[2][l];
      w[0][l] = uint32_t(b >> 32) ^ w[1][l] ^ k0;
      w[1][l] = uint32_t(b);
      w[2][l] = uint32_t(a >> 32) ^ w[3][l] ^ k1;
      w[3][l] = uint32_t(a);
    }
    k0 += philox_w0;
    k1 += philox_w1;
  }
}

// A word's upper 24 bits, which a float holds exactly.
Bits upper(const std::array<uint32_t, group>& words, int first) {
  Bits out;
  for (int l = 0; l < lanes; ++l) out[l] = lane_int(words[size_t(first + l)] >> 8);
  return out;
}

void uniform_group(const Words& w, Variates& out) {
  for (size_t j = 0; j < 4; ++j)
    for (int l = 0; l < group; l += lanes) store(out.of[j] + l, uniform_of<Vec>(upper(w[j], l)));
}

void normal_group(const Words& w, Variates& out) {
  for (size_t j = 0; j < 4; j += 2)
    for (int l = 0; l < group; l += lanes) {
      const NormalPair<Vec> z = normal_pair_of<Vec>(upper(w[j], l), upper(w[j + 1], l));
      store(out.of[j] + l, z.cosine);
      store(out.of[j + 1] + l, z.sine);
    }
}

template <class F>
void each_group(const Stream& s, const RandomKey& key, int64_t count, real* y, F&& f) {
  const int64_t groups = (count + group_elements - 1) / group_elements;
  parallel_ranges(
      s, groups, elements_per_thread / 4 / group_elements, [&](int64_t begin, int64_t end) {
        Words words;
        Variates z;
        for (int64_t g = begin; g < end; ++g) {
          philox_group(key, uint64_t(g) * group, words);
          f(words, z);
          real out[group_elements];
          for (int l = 0; l < group; ++l)
            for (int j = 0; j < 4; ++j) out[4 * l + j] = z.of[j][l];
          const int64_t at = g * group_elements, n = std::min<int64_t>(group_elements, count - at);
          std::memcpy(y + at, out, size_t(n) * sizeof(real));
        }
      });
}

}  // namespace

void random_normal(Stream& s, const RandomKey& key, int64_t count, real* y) {
  each_group(s, key, count, y, normal_group);
}

void random_normal_rows(Stream& s, const int32_t* keys, int64_t rows, int64_t count, real* y) {
  for (int64_t r = 0; r < rows; ++r, keys += 4) {
    const uint64_t seed = uint64_t{uint32_t(keys[1])} << 32 | uint32_t(keys[0]);
    random_normal(s, {seed, uint32_t(keys[2]), uint32_t(keys[3])}, count, y + r * count);
  }
}

void random_uniform(Stream& s, const RandomKey& key, int64_t count, real* y) {
  each_group(s, key, count, y, uniform_group);
}

}  // namespace whence::k
