// Sums, maxima and exponentials along one row in vectors, for kernels that own whole rows. Lane l
// handles elements l, l + lanes, ...; the lanes are joined at the end.
#pragma once

#include <limits>

#include "kernels/cpu/vec_math.h"

namespace whence::cpu {

// sum of f(i, n) over the row, f yielding a vector whose unused lanes are 0.
template <class F>
inline real row_sum(int64_t count, F&& f) {
  Vec sum{};
  each_vec(count, [&](int64_t i, auto n) { sum += f(i, n); });
  return sum_lanes(sum);
}

// sum of a * b over the row, f yielding the pair (a, b).
template <class F>
inline real row_dot(int64_t count, F&& f) {
  Vec sum{};
  each_vec(count, [&](int64_t i, auto n) {
    const auto [a, b] = f(i, n);
    sum = fma(a, b, sum);
  });
  return sum_lanes(sum);
}

// The largest element; NaN if there is one; -inf for an empty row.
inline real row_max(const real* x, int64_t count) {
  constexpr real lowest = -std::numeric_limits<real>::infinity();
  Vec top = splat(lowest);
  each_vec(count, [&](int64_t i, auto n) {
    const Vec v = load(x + i, n, lowest);
    const Vec larger = v > top ? v : top;
    top = v != v ? v : larger;
  });
  return max_lanes(top);
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

// y = exp(scale (x - max x)) / sum; x may be y. A row of -inf only, or one with +inf or NaN, is NaN.
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
