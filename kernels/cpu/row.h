// Sums, maxima and exponentials along one row in vectors, for kernels that own whole rows. The order
// of a sum is a function of the row's length alone.
#pragma once

#include <limits>

#include "kernels/cpu/vec_math.h"

namespace whence::cpu {

// Joins vectors of a row by add(sum, i, n): four sums take turns while four whole vectors are left,
// as one chain of additions would wait for its own results; the first takes the rest, the second the
// last, short vector. The unused lanes of what is added must be 0.
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

// y = exp(scale (x - max x)) / sum; x may be y. A row of -inf only, or one with +inf or NaN, is NaN:
// an element that is NaN makes the sum NaN.
inline void softmax_row(const real* x, int64_t count, real scale, real* y) {
  const Vec top = splat(row_max(x, count)), by = splat(scale);
  const real sum = row_sum(count, [&](int64_t i, auto n) {
    const Vec e = keep(exp((load(x + i, n) - top) * by), n);
    store(y + i, e, n);
    return e;
  });
  const Vec inverse = splat(1 / sum);
  each_vec(count, [&](int64_t i, auto n) { store(y + i, load(y + i, n) * inverse, n); });
}

}  // namespace whence::cpu
