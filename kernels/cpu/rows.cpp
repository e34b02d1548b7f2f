// Layer norm, softmax, log-softmax: one row at a time, rows go to threads.
//
// A row (3 KB at 768 columns) is read from memory once and stays in L1 for its further passes, so a
// kernel moves each operand once: 8 bytes per element forward, 12 backward. Bound by memory, or by
// the cache level the tensor lives in.
#include "kernels/rows.h"

#include <algorithm>
#include <limits>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/row.h"
#include "kernels/cpu/scratch.h"

namespace whence::k {
namespace {

using namespace cpu;

struct Statistics {
  real mean, rstd;  // rstd = 1 / sqrt(var + eps)
};

// Two passes: the variance is taken about the mean that was found, which does not cancel.
Statistics statistics(const real* x, real eps, int64_t cols) {
  const real mean = row_sum(cols, [&](int64_t i, auto n) { return load(x + i, n); }) / real(cols);
  const real squares = row_dot(cols, [&](int64_t i, auto n) {
    const Vec d = keep(load(x + i, n) - splat(mean), n);
    return std::pair(d, d);
  });
  return {mean, 1 / std::sqrt(squares / real(cols) + eps)};
}

template <class F>
void each_row(const Stream& s, int64_t rows, int64_t cols, F&& f) {
  if (cols <= 0) return;
  parallel_ranges(s, rows, row_grain(cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) f(r * cols);
  });
}

}  // namespace

void layer_norm(Stream& s, const real* x, const real* weight, const real* bias, real eps,
                int64_t rows, int64_t cols, real* y) {
  each_row(s, rows, cols, [&](int64_t at) {
    const Statistics t = statistics(x + at, eps, cols);
    each_vec(cols, [&](int64_t i, auto n) {
      const Vec normalised = (load(x + at + i, n) - splat(t.mean)) * splat(t.rstd);
      store(y + at + i, fma(normalised, load(weight + i, n), load(bias + i, n)), n);
    });
  });
}

// With h = (x - mean) rstd and g = dy weight:  dx = rstd (g - mean(g) - h mean(g h)).
void layer_norm_bwd(Stream& s, const real* x, const real* weight, const real* dy, real eps,
                    int64_t rows, int64_t cols, real* dx) {
  each_row(s, rows, cols, [&](int64_t at) {
    const Statistics t = statistics(x + at, eps, cols);
    Vec sum_g{}, sum_gh{};
    each_vec(cols, [&](int64_t i, auto n) {
      const Vec g = load(dy + at + i, n) * load(weight + i, n);
      sum_g += g;
      sum_gh = fma(g, (load(x + at + i, n) - splat(t.mean)) * splat(t.rstd), sum_gh);
    });
    const real mean_g = sum_lanes(sum_g) / real(cols), mean_gh = sum_lanes(sum_gh) / real(cols);
    each_vec(cols, [&](int64_t i, auto n) {
      const Vec g = load(dy + at + i, n) * load(weight + i, n);
      const Vec h = (load(x + at + i, n) - splat(t.mean)) * splat(t.rstd);
      store(dx + at + i, splat(t.rstd) * fma(h, splat(-mean_gh), g - splat(mean_g)), n);
    });
  });
}

// Statistics of all rows first (scratch of two reals a row), then columns go to threads, each
// adding the rows in ascending order.
void layer_norm_bwd_weight(Stream& s, const real* x, const real* dy, real eps, int64_t rows,
                           int64_t cols, real* dweight) {
  const Scratch<Statistics> scratch(s, 1, std::max<int64_t>(rows, 0));
  Statistics* all = scratch.of(0);
  each_row(s, rows, cols, [&](int64_t at) { all[at / cols] = statistics(x + at, eps, cols); });
  const int64_t piece = 4 * lanes;
  parallel_ranges(
      s, (cols + piece - 1) / piece, row_grain(rows * piece), [&](int64_t begin, int64_t end) {
        const int64_t first = begin * piece, width = std::min(end * piece, cols) - first;
        each_vec(width, [&](int64_t i, auto n) {
          Vec sum{};
          for (int64_t r = 0; r < rows; ++r) {
            const Statistics t = all[r];
            const int64_t at = r * cols + first + i;
            sum = fma(load(dy + at, n), (load(x + at, n) - splat(t.mean)) * splat(t.rstd), sum);
          }
          store(dweight + first + i, sum, n);
        });
      });
}

void softmax(Stream& s, const real* x, int64_t rows, int64_t cols, real* y) {
  if (cols <= 0) return;
  parallel_ranges(s, rows, row_grain(cols), [&](int64_t begin, int64_t end) {
    softmax_rows(x + begin * cols, end - begin, cols, cols, 1, y + begin * cols);
  });
}

void softmax_bwd(Stream& s, const real* y, const real* dy, int64_t rows, int64_t cols, real* dx) {
  each_row(s, rows, cols, [&](int64_t at) {
    const Vec dot = splat(row_dot(cols, [&](int64_t i, auto n) {
      return std::pair(load(y + at + i, n), load(dy + at + i, n));
    }));
    each_vec(cols, [&](int64_t i, auto n) {
      store(dx + at + i, load(y + at + i, n) * (load(dy + at + i, n) - dot), n);
    });
  });
}

void log_softmax(Stream& s, const real* x, int64_t rows, int64_t cols, real* y) {
  each_row(s, rows, cols, [&](int64_t at) {
    const Vec top = splat(row_max(x + at, cols));
    const real sum =
        row_sum(cols, [&](int64_t i, auto n) { return keep(exp(load(x + at + i, n) - top), n); });
    const Vec log_sum = splat(std::log(sum));
    each_vec(cols, [&](int64_t i, auto n) {
      store(y + at + i, (load(x + at + i, n) - top) - log_sum, n);
    });
  });
}

void log_softmax_bwd(Stream& s, const real* y, const real* dy, int64_t rows, int64_t cols,
                     real* dx) {
  each_row(s, rows, cols, [&](int64_t at) {
    const Vec sum = splat(row_sum(cols, [&](int64_t i, auto n) { return load(dy + at + i, n); }));
    each_vec(cols, [&](int64_t i, auto n) {
      store(dx + at + i, fma(exp(load(y + at + i, n)), -sum, load(dy + at + i, n)), n);
    });
  });
}

void row_largest(Stream& s, const real* x, int64_t rows, int64_t cols, real* y) {
  parallel_ranges(s, rows, row_grain(cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const real* row = x + r * cols;
      const real top = row_max(row, cols);
      y[r] = std::any_of(row, row + cols, [](real v) { return v != v; })
                 ? std::numeric_limits<real>::quiet_NaN()
                 : top;
    }
  });
}

}  // namespace whence::k
