// Elementwise functions and broadcasting pairs.
//
// One pass over dense memory in vectors; ranges of elements go to threads. Moves 8 bytes per
// element (unary, affine), 12 (unary_bwd, rescale, binary without broadcast); bound by memory from
// about 1 MB, by the polynomial of the function below that.
#include "kernels/elementwise.h"

#include <algorithm>
#include <cstring>

#include "kernels/axes.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vec_math.h"

namespace whence::k {
namespace {

using namespace cpu;

// One row of the innermost axis; a step is 0 (broadcast), 1 (adjacent) or anything else.
template <class F>
void pair_row(F f, const real* a, int64_t step_a, const real* b, int64_t step_b, int64_t count,
              real* y) {
  if (step_a > 1 || step_b > 1 || step_a < 0 || step_b < 0) {
    for (int64_t i = 0; i < count; ++i) y[i] = f(a[i * step_a], b[i * step_b]);
    return;
  }
  // A broadcast operand is read before y is written, as y may be the other one.
  const real a0 = *a, b0 = *b;
  each_vec(count, [&](int64_t i, auto n) {
    const Vec va = step_a ? load(a + i, n) : splat(a0);
    const Vec vb = step_b ? load(b + i, n) : splat(b0);
    store(y + i, f(va, vb), n);
  });
}

template <class F>
void pairs(const Stream& s, F f, const real* a, const real* b, const Broadcast& space, real* y) {
  for (int64_t size : space.size)
    if (size == 0) return;
  const Broadcast m = merged(space);
  const int64_t cols = m.size[4];
  const int64_t rows = m.size[0] * m.size[1] * m.size[2] * m.size[3];
  if (rows == 1) {  // one long row: cut the row itself
    parallel_ranges(s, cols, elements_per_thread, [&](int64_t begin, int64_t end) {
      pair_row(f, a + begin * m.a[4], m.a[4], b + begin * m.b[4], m.b[4], end - begin, y + begin);
    });
    return;
  }
  parallel_ranges(s, rows, row_grain(cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      int64_t rest = r, at_a = 0, at_b = 0;
      for (size_t axis = 4; axis-- > 0;) {
        const int64_t i = rest % m.size[axis];
        rest /= m.size[axis];
        at_a += i * m.a[axis];
        at_b += i * m.b[axis];
      }
      pair_row(f, a + at_a, m.a[4], b + at_b, m.b[4], cols, y + r * cols);
    }
  });
}

}  // namespace

void unary(Stream& s, Unary f, const real* x, int64_t count, real* y) {
  with(f, [&](auto function) {
    parallel_ranges(s, count, elements_per_thread, [&](int64_t begin, int64_t end) {
      each_vec(end - begin, [&](int64_t i, auto n) {
        store(y + begin + i, function.value(load(x + begin + i, n)), n);
      });
    });
  });
}

void unary_bwd(Stream& s, Unary f, const real* x, const real* dy, int64_t count, real* dx) {
  with(f, [&](auto function) {
    parallel_ranges(s, count, elements_per_thread, [&](int64_t begin, int64_t end) {
      each_vec(end - begin, [&](int64_t i, auto n) {
        const Vec slope = function.slope(load(x + begin + i, n));
        store(dx + begin + i, load(dy + begin + i, n) * slope, n);
      });
    });
  });
}

void rescale(Stream& s, Unary f, real epsilon, const real* x, const real* x0, int64_t references,
             const real* dy, int64_t count, real* dx) {
  with(f, [&](auto function) {
    parallel_ranges(s, count, elements_per_thread, [&](int64_t begin, int64_t end) {
      for (int64_t from = begin, to = 0; from < end; from = to) {
        to = std::min(end, (from / references + 1) * references);
        const real* reference = x0 + from % references;
        each_vec(to - from, [&](int64_t i, auto n) {
          const int64_t at = from + i;
          const Vec slope = rescale_slope<decltype(function)>(
              load(x + at, n), load(reference + i, n), splat(epsilon));
          store(dx + at, load(dy + at, n) * slope, n);
        });
      }
    });
  });
}

void affine(Stream& s, const real* x, real factor, real shift, int64_t count, real* y) {
  parallel_ranges(s, count, elements_per_thread, [&](int64_t begin, int64_t end) {
    each_vec(end - begin, [&](int64_t i, auto n) {
      store(y + begin + i, fma(load(x + begin + i, n), splat(factor), splat(shift)), n);
    });
  });
}

void binary(Stream& s, Binary f, const real* a, const real* b, const Broadcast& space, real* y) {
  with(f, [&](auto function) { pairs(s, function, a, b, space, y); });
}

void divide(Stream& s, Division how, real epsilon, const real* a, const real* b,
            const Broadcast& space, real* y) {
  with(how, epsilon, [&](auto quotient) { pairs(s, quotient, a, b, space, y); });
}

void accumulate(Stream& s, const real* x, const real* weight, const int32_t* slot, int64_t rows,
                int64_t count, real* state) {
  parallel_ranges(s, count, elements_per_thread, [&](int64_t begin, int64_t end) {
    for (int64_t r = 0; r < rows; ++r) {
      if (slot[r] < 0) continue;
      const real* from = x + r * count + begin;
      real* to = state + slot[r] * count + begin;
      each_vec(end - begin, [&](int64_t i, auto n) {
        store(to + i, load(to + i, n) + splat(weight[r]) * load(from + i, n), n);
      });
    }
  });
}

}  // namespace whence::k
