// Philox4x32-10 and what is made of its words, sixteen blocks at a time.
//
// A group of 16 counters gives 64 variates; threads take ranges of groups, and a group that is cut
// off by the end is computed whole. Writes 4 bytes per element; bound by the generator's 40
// multiplications per block (uniform) and the logarithm (normal).
#include "kernels/random.h"

#include <cstring>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/random_group.h"

namespace whence::k {
namespace {

using namespace cpu;

template <class F>
void each_group(const Stream& s, const RandomKey& key, int64_t count, real* y, F&& f) {
  const int64_t groups = (count + group_elements - 1) / group_elements;
  parallel_ranges(
      s, groups, elements_per_thread / 4 / group_elements, [&](int64_t begin, int64_t end) {
        for (int64_t g = begin; g < end; ++g) {
          real out[group_elements];
          variates(key, g, f, out);
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
  if (s.asking()) return;
  for (int64_t r = 0; r < rows; ++r) random_normal(s, key_of(keys + 4 * r), count, y + r * count);
}

void random_uniform(Stream& s, const RandomKey& key, int64_t count, real* y) {
  each_group(s, key, count, y, uniform_group);
}

}  // namespace whence::k
