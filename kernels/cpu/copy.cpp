// Copies: blocks, constants, patches. Moves each element once in and once out; bound by memory.
#include <algorithm>
#include <cstring>

#include "kernels/cpu/parallel.h"
#include "kernels/elementwise.h"

namespace whence::k {
namespace {

using namespace cpu;

// Visits every run of `patch` adjacent pixels: f(offset in the image tensor, offset in the
// patches).
template <class F>
void each_run(const Stream& s, const PatchSize& size, F&& f) {
  const int64_t p = size.patch;
  if (p <= 0) return;
  const int64_t down = size.height / p, across = size.width / p;
  const int64_t patch_elements = size.channels * p * p;
  // An item is one row of patches of one sample.
  parallel_ranges(
      s, size.batch * down, row_grain(across * patch_elements), [&](int64_t begin, int64_t end) {
        for (int64_t item = begin; item < end; ++item) {
          const int64_t b = item / down, y = item % down;
          for (int64_t c = 0; c < size.channels; ++c) {
            for (int64_t i = 0; i < p; ++i) {
              const int64_t line = ((b * size.channels + c) * size.height + y * p + i) * size.width;
              const int64_t cell = item * across * patch_elements + (c * p + i) * p;
              for (int64_t x = 0; x < across; ++x) f(line + x * p, cell + x * patch_elements);
            }
          }
        }
      });
}

}  // namespace

void copy_blocks(Stream& s, const real* src, int64_t src_step, int64_t outer, int64_t inner,
                 real* dst, int64_t dst_step) {
  if (inner <= 0) return;
  parallel_ranges(s, outer, row_grain(inner), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      std::memcpy(dst + i * dst_step, src + i * src_step, size_t(inner) * sizeof(real));
    }
  });
}

void fill(Stream& s, real value, int64_t count, int64_t step, real* y) {
  parallel_ranges(s, count, elements_per_thread, [&](int64_t begin, int64_t end) {
    if (step == 1)
      std::fill(y + begin, y + end, value);
    else
      for (int64_t i = begin; i < end; ++i) y[i * step] = value;
  });
}

void patchify(Stream& s, const real* x, const PatchSize& size, real* y) {
  const size_t bytes = size_t(size.patch) * sizeof(real);
  each_run(s, size,
           [=](int64_t image, int64_t patch) { std::memcpy(y + patch, x + image, bytes); });
}

void unpatchify(Stream& s, const real* y, const PatchSize& size, real* x) {
  const size_t bytes = size_t(size.patch) * sizeof(real);
  each_run(s, size,
           [=](int64_t image, int64_t patch) { std::memcpy(x + image, y + patch, bytes); });
}

}  // namespace whence::k
