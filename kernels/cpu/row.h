// Sums, maxima and exponentials along one row in vectors, for kernels that own whole rows. The
// order of a sum is a function of the row's length alone.
#pragma once

#include <algorithm>
#include <limits>

#include "kernels/cpu/vec_math.h"

namespace whence::cpu {
inline namespace WHENCE_ISA {

// Joins vectors of a row by add(sum, i, n): four sums take turns while four whole vectors are left,
// as one chain of additions would wait for its own results; the first takes the rest, the second
// the last, short vector. The unused lanes of what is added must be 0.
template <class F>
inline real row_fold(int64_t count, F&& add) {
  constexpr std::integral_constant<int64_t, lanes> whole;
  Vec a{}, b{}, c{}, d{};
  int64_t i = 0;
  for (; i + 4 * lanes <= count; i += 4 * lanes) {
    a = add(a, i, whole);
    b = add(b, i + lanes, whole);
    c = add(c, i + 2 * lanes, whole);
    d = add(d, i + 3 * lanes, whole);
  }
  for (; i + lanes <= count; i += lanes) a = add(a, i, whole);
  if (i < count) b = add(b, i, count - i);
  return sum_lanes((a + b) + (c + d));
}

// sum of f(i, n) over the row.
template <class F>
inline real row_sum(int64_t count, F&& f) {
  return row_fold(count, [&](Vec sum, int64_t i, auto n) { return sum + f(i, n); });
}

// sum of a * b over the row, f yielding the pair (a, b).
template <class F>
inline real row_dot(int64_t count, F&& f) {
  return row_fold(count, [&](Vec sum, int64_t i, auto n) {
    const auto [a, b] = f(i, n);
    return fma(a, b, sum);
  });
}

// The largest element that is not NaN; -inf if there is none.
inline real row_max(const real* x, int64_t count) {
  constexpr real lowest = -std::numeric_limits<real>::infinity();
  Vec a = splat(lowest), b = a;
  int64_t i = 0;
  for (; i + 2 * lanes <= count; i += 2 * lanes) {
    a = larger(load(x + i), a);
    b = larger(load(x + i + lanes), b);
  }
  each_vec(count - i, [&](int64_t j, auto n) { a = larger(load(x + i + j, n, lowest), a); });
  return max_lanes(larger(a, b));
}

// Lanes at or beyond `n` set to zero.
template <int64_t n>
inline Vec keep(Vec v, std::integral_constant<int64_t, n>) {
  return v;
}
inline Vec keep(Vec v, int64_t n) {
  real out[lanes] = {};
  store(out, v, n);
  return load(out);
}

// y = exp(scale (x - max x)) / sum for rows `stride` apart; y may be x. A row of -inf only, or one
// with +inf or NaN, becomes NaN: an element that is NaN makes the sum NaN. Each pass goes over some
// rows before the next one starts, so that the processor works on several rows at once instead of
// waiting for one row's maximum and one row's sum.
inline void softmax_rows(const real* x, int64_t rows, int64_t stride, int64_t cols, real scale,
                         real* y) {
  constexpr int64_t together = 8;
  const Vec by = splat(scale);
  for (int64_t first = 0; first < rows; first += together) {
    const int64_t count = std::min(together, rows - first);
    real top[together], sum[together];
    for (int64_t r = 0; r < count; ++r) top[r] = row_max(x + (first + r) * stride, cols);
    for (int64_t r = 0; r < count; ++r) {
      const real* from = x + (first + r) * stride;
      real* row = y + (first + r) * stride;
      sum[r] = row_sum(cols, [&](int64_t i, auto n) {
        const Vec e = keep(exp((load(from + i, n) - splat(top[r])) * by), n);
        store(row + i, e, n);
        return e;
      });
    }
    for (int64_t r = 0; r < count; ++r) {
      real* row = y + (first + r) * stride;
      const Vec inverse = splat(1 / sum[r]);
      each_vec(cols, [&](int64_t i, auto n) { store(row + i, load(row + i, n) * inverse, n); });
    }
  }
}

}  // namespace WHENCE_ISA
}  // namespace whence::cpu
