// Philox4x32-10 and what is made of its words. Computes one block of four words for four elements;
// bound by integer multiplications and the logarithm, writes 4 bytes per element.
#include "kernels/random.h"

#include <array>
#include <cmath>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vec_math.h"

namespace whence::k {
namespace {

using namespace cpu;

// Words of block `block` of a key, turned into four variates by f, for every block of a range.
template <class F>
void each_block(const Stream& s, const RandomKey& key, int64_t count, real* y, F&& f) {
  const int64_t blocks = (count + 3) / 4;
  parallel_ranges(s, blocks, elements_per_thread / 8, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const std::array<uint32_t, 4> words =
          philox({uint32_t(uint64_t(b)), uint32_t(uint64_t(b) >> 32), key.draw, key.item},
                 {uint32_t(key.seed), uint32_t(key.seed >> 32)});
      std::array<real, 4> out;
      f(words, out);
      for (int64_t i = 0; i < 4 && b * 4 + i < count; ++i) y[b * 4 + i] = out[size_t(i)];
    }
  });
}

constexpr double step = 1.0 / 16777216.0;  // 2^-24: a word's upper 24 bits fit a float exactly

}  // namespace

void random_normal(Stream& s, const RandomKey& key, int64_t count, real* y) {
  each_block(s, key, count, y, [](const std::array<uint32_t, 4>& w, std::array<real, 4>& out) {
    for (size_t pair = 0; pair < 4; pair += 2) {
      const real u = real(double((w[pair] >> 8) + 1) * step);
      const real radius = std::sqrt(-2 * std::log(u));
      const double angle = 6.28318530717958647693 * (double(w[pair + 1] >> 8) * step);
      out[pair] = radius * real(std::cos(angle));
      out[pair + 1] = radius * real(std::sin(angle));
    }
  });
}

void random_uniform(Stream& s, const RandomKey& key, int64_t count, real* y) {
  each_block(s, key, count, y, [](const std::array<uint32_t, 4>& w, std::array<real, 4>& out) {
    for (size_t i = 0; i < 4; ++i) out[i] = real(double(w[i] >> 8) * step);
  });
}

}  // namespace whence::k
