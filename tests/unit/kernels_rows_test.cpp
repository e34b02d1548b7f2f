// Layer norm, softmax and log-softmax: values, gradients, extreme rows, bits.
#include "kernels/rows.h"
#include "tests/ref/backends.h"
#include "tests/ref/rows.h"

namespace whence {
namespace {

using namespace ref;

struct Grid {
  size_t rows, cols;
};
// Shorter than a vector, odd, and many full vectors.
const Grid grids[] = {{1, 1}, {3, 7}, {2, 16}, {30, 197}, {4, 1025}, {5, 768}};

Bounded within(const Doubles& value, double error) {
  Bounded out(value.size());
  out.value = value;
  out.error.assign(value.size(), error);
  return out;
}

template <class Backend>
class KernelsRows : public testing::Test {};
TYPED_TEST_SUITE(KernelsRows, Backends, BackendNames);

constexpr double layer_eps = 1e-6;

TYPED_TEST(KernelsRows, layer_norm_matches_double_loops) {
  for (const auto [rows, cols] : grids) {
    const Reals x = noise(int64_t(rows * cols), 1, 3), w = noise(int64_t(cols), 2),
                b = noise(int64_t(cols), 3);
    Reals y(x.size(), poison);
    TypeParam::run([&, r = int64_t(rows), c = int64_t(cols)](auto& s) {
      k::layer_norm(s, x.data(), w.data(), b.data(), real(layer_eps), r, c, y.data());
    });
    // Normalised values are below sqrt(cols); sums of cols terms in at most cols / 8 + 4 steps a
    // lane.
    const double error = eps * (16 + double(cols) / 8) * std::sqrt(double(cols));
    expect_within(
        y,
        within(layer_norm(widen(x), widen(w), widen(b), double(real(layer_eps)), rows, cols),
               error),
        "layer norm " + std::to_string(cols));
  }
}

TYPED_TEST(KernelsRows, layer_norm_keeps_small_differences_on_a_large_mean) {
  Reals x(64), one(64, 1), zero(64, 0), y(64);
  for (size_t i = 0; i < 64; ++i) x[i] = real(4096 + (i % 2 ? 0.25 : -0.25));
  TypeParam::run([&](auto& s) {
    k::layer_norm(s, x.data(), one.data(), zero.data(), real(1e-6), 1, 64, y.data());
  });
  for (size_t i = 0; i < 64; ++i) EXPECT_NEAR(y[i], i % 2 ? 1 : -1, 1e-4);
}

TYPED_TEST(KernelsRows, layer_norm_gradient_matches_differences) {
  for (const auto [rows, cols] : {Grid{2, 5}, {3, 37}, {1, 16}}) {
    const Reals x = noise(int64_t(rows * cols), 4), w = noise(int64_t(cols), 5),
                dy = noise(int64_t(rows * cols), 6);
    const Doubles zero(cols);
    const auto f = [&, r = rows, c = cols](const Doubles& at) {
      return layer_norm(at, widen(w), zero, layer_eps, r, c);
    };
    const Doubles want = numeric_gradient(f, widen(x), widen(dy));
    Reals dx(x.size(), poison), in_place = dy, dw(cols, poison);
    TypeParam::run([&, r = int64_t(rows), c = int64_t(cols)](auto& s) {
      k::layer_norm_bwd(s, x.data(), w.data(), dy.data(), real(layer_eps), r, c, dx.data());
      k::layer_norm_bwd(s, x.data(), w.data(), in_place.data(), real(layer_eps), r, c,
                        in_place.data());
      k::layer_norm_bwd_weight(s, x.data(), dy.data(), real(layer_eps), r, c, dw.data());
    });
    expect_within(dx, within(want, 200 * eps + 1e-7), "dx");
    expect_same_bits(in_place, dx, "in place");

    const auto of_weight = [&, r = rows, c = cols](const Doubles& at) {
      return layer_norm(widen(x), at, zero, layer_eps, r, c);
    };
    expect_within(dw, within(numeric_gradient(of_weight, widen(w), widen(dy)), 200 * eps + 1e-7),
                  "dweight");
  }
}

TYPED_TEST(KernelsRows, softmax_and_log_softmax_match_double_loops) {
  for (const auto [rows, cols] : grids) {
    const Reals x = noise(int64_t(rows * cols), 7, 6);
    Reals y(x.size(), poison), z(x.size(), poison), y_in_place = x, z_in_place = x;
    TypeParam::run([&, r = int64_t(rows), c = int64_t(cols)](auto& s) {
      k::softmax(s, x.data(), r, c, y.data());
      k::log_softmax(s, x.data(), r, c, z.data());
      k::softmax(s, y_in_place.data(), r, c, y_in_place.data());
      k::log_softmax(s, z_in_place.data(), r, c, z_in_place.data());
    });
    Bounded p = within(softmax(widen(x), rows, cols), 0);
    // x - max is off by half an ulp of at most 12, the sum by cols / 8 + 4 roundings.
    for (size_t i = 0; i < p.value.size(); ++i) {
      p.error[i] = p.value[i] * eps * (24 + double(cols) / 8);
    }
    expect_within(y, p, "softmax " + std::to_string(cols));
    expect_within(z, within(log_softmax(widen(x), rows, cols), eps * (24 + double(cols) / 8)),
                  "log softmax " + std::to_string(cols));
    expect_same_bits(y_in_place, y, "softmax in place");
    expect_same_bits(z_in_place, z, "log softmax in place");
  }
}

TYPED_TEST(KernelsRows, softmax_gradients_match_differences) {
  for (const auto [rows, cols] : {Grid{3, 21}, {2, 1}, {9, 70}}) {
    const Reals x = noise(int64_t(rows * cols), 8, 2), dy = noise(int64_t(rows * cols), 9);
    Reals y(x.size()), dx(x.size(), poison), z(x.size()), dx_log(x.size(), poison);
    Reals in_place = dy, in_place_log = dy;
    TypeParam::run([&, r = int64_t(rows), c = int64_t(cols)](auto& s) {
      k::softmax(s, x.data(), r, c, y.data());
      k::softmax_bwd(s, y.data(), dy.data(), r, c, dx.data());
      k::softmax_bwd(s, y.data(), in_place.data(), r, c, in_place.data());
      k::log_softmax(s, x.data(), r, c, z.data());
      k::log_softmax_bwd(s, z.data(), dy.data(), r, c, dx_log.data());
      k::log_softmax_bwd(s, z.data(), in_place_log.data(), r, c, in_place_log.data());
    });
    const auto f = [r = rows, c = cols](const Doubles& at) { return softmax(at, r, c); };
    const auto g = [r = rows, c = cols](const Doubles& at) { return log_softmax(at, r, c); };
    expect_within(dx, within(numeric_gradient(f, widen(x), widen(dy)), 50 * eps + 1e-9), "softmax");
    expect_within(dx_log, within(numeric_gradient(g, widen(x), widen(dy)), 200 * eps + 1e-8),
                  "log");
    expect_same_bits(in_place, dx, "softmax in place");
    expect_same_bits(in_place_log, dx_log, "log softmax in place");
  }
}

template <class Backend>
Reals softmax_on(const Reals& x) {
  Reals y(x.size(), poison);
  Backend::run([&](auto& s) { k::softmax(s, x.data(), 1, int64_t(x.size()), y.data()); });
  return y;
}
template <class Backend>
Reals log_softmax_on(const Reals& x) {
  Reals y(x.size(), poison);
  Backend::run([&](auto& s) { k::log_softmax(s, x.data(), 1, int64_t(x.size()), y.data()); });
  return y;
}

TYPED_TEST(KernelsRows, softmax_of_extreme_values) {
  constexpr real inf = std::numeric_limits<real>::infinity();
  constexpr real top = std::numeric_limits<real>::max();
  for (const size_t n : {size_t{19}, size_t{67}}) {
    for (const real big :
         {top, real(-top), real(1e30)}) {  // equal values share, whatever their size
      for (real v : softmax_on<TypeParam>(Reals(n, big))) EXPECT_NEAR(v, 1.0 / double(n), eps);
      for (real v : log_softmax_on<TypeParam>(Reals(n, big)))
        EXPECT_NEAR(v, -std::log(double(n)), 8 * eps);
    }
    Reals x(n, -top);
    x[n - 1] = top;
    Reals y = softmax_on<TypeParam>(x);
    for (size_t i = 0; i < n; ++i) EXPECT_EQ(y[i], i == n - 1 ? 1 : 0);
    x.assign(n, -inf);  // masked elements are exactly zero
    x[2] = x[17] = 5;
    y = softmax_on<TypeParam>(x);
    const Reals z = log_softmax_on<TypeParam>(x);
    for (size_t i = 0; i < n; ++i) {
      EXPECT_EQ(y[i], i == 2 || i == 17 ? real(0.5) : 0);
      if (i == 2 || i == 17)
        EXPECT_NEAR(z[i], -std::log(2.0), 2 * eps);
      else
        EXPECT_EQ(z[i], -inf);
    }
    // Nothing is left to share, or too much.
    for (real v : softmax_on<TypeParam>(Reals(n, -inf))) EXPECT_TRUE(std::isnan(v));
    for (real v : log_softmax_on<TypeParam>(Reals(n, -inf))) EXPECT_TRUE(std::isnan(v));
    x[0] = inf;
    EXPECT_TRUE(std::isnan(softmax_on<TypeParam>(x)[0]));
    EXPECT_TRUE(std::isnan(log_softmax_on<TypeParam>(x)[0]));
  }
}

TYPED_TEST(KernelsRows, nan_fills_its_row_only) {
  for (const size_t n : {size_t{20}, size_t{70}}) {
    for (size_t at : {size_t{0}, size_t{5}, size_t{16}, n - 1}) {
      const auto c = int64_t(n);
      Reals x = noise(3 * c, 1), w(n, 1);
      const Reals dy = noise(3 * c, 2);
      x[n + at] = poison;
      std::vector<Reals> y(6, Reals(3 * n));
      TypeParam::run([&](auto& s) {
        k::softmax(s, x.data(), 3, c, y[0].data());
        k::log_softmax(s, x.data(), 3, c, y[1].data());
        k::layer_norm(s, x.data(), w.data(), w.data(), real(1e-5), 3, c, y[2].data());
        k::layer_norm_bwd(s, x.data(), w.data(), dy.data(), real(1e-5), 3, c, y[3].data());
        k::softmax_bwd(s, x.data(), dy.data(), 3, c, y[4].data());
        k::log_softmax_bwd(s, dy.data(), x.data(), 3, c, y[5].data());
      });
      for (size_t k = 0; k < y.size(); ++k)
        for (size_t i = 0; i < 3 * n; ++i)
          EXPECT_EQ(std::isnan(y[k][i]), i / n == 1) << "kernel " << k << " element " << i;
    }
  }
}

// The results of all kernels for rows of `cols`, from calls of `part` rows.
template <class Run>
Reals all_kernels(int64_t rows, int64_t cols, int64_t part, Run&& run) {
  const Reals x = noise(rows * cols, 1, 2), dy = noise(rows * cols, 2), w = noise(cols, 3);
  std::vector<Reals> y(6, Reals(x.size(), poison));
  Reals out(static_cast<size_t>(cols), poison);
  run([&](auto& s) {
    for (int64_t r = 0; r < rows; r += part) {
      const int64_t n = std::min(part, rows - r), at = r * cols;
      k::layer_norm(s, x.data() + at, w.data(), w.data(), real(1e-5), n, cols, y[0].data() + at);
      k::layer_norm_bwd(s, x.data() + at, w.data(), dy.data() + at, real(1e-5), n, cols,
                        y[1].data() + at);
      k::softmax(s, x.data() + at, n, cols, y[2].data() + at);
      k::softmax_bwd(s, y[2].data() + at, dy.data() + at, n, cols, y[3].data() + at);
      k::log_softmax(s, x.data() + at, n, cols, y[4].data() + at);
      k::log_softmax_bwd(s, y[4].data() + at, dy.data() + at, n, cols, y[5].data() + at);
    }
    k::layer_norm_bwd_weight(s, x.data(), dy.data(), real(1e-5), rows, cols, out.data());
  });
  for (const Reals& each : y) out.insert(out.end(), each.begin(), each.end());
  return out;
}

TYPED_TEST(KernelsRows, bits_do_not_depend_on_rows_in_the_call) {
  const auto run = [](auto&& f) { TypeParam::run(f); };
  const Reals one = all_kernels(21, 45, 21, run);
  for (int64_t part : {1, 8, 13}) expect_same_bits(all_kernels(21, 45, part, run), one, "parts");
}

TEST(KernelsRowsCpu, bits_depend_neither_on_threads_nor_on_rows_in_the_call) {
  const int64_t rows = 401, cols = 333;
  const auto all = [&](int threads, int64_t part) {
    return all_kernels(rows, cols, part, [&](auto&& f) {
      cpu::Stream s{threads};
      f(s);
    });
  };
  const Reals one = all(1, rows);
  for (int threads : {2, 3, 8}) expect_same_bits(all(threads, rows), one, "threads");
  expect_same_bits(all(2, 150), one, "parts");
}

TYPED_TEST(KernelsRows, weight_gradient_adds_all_rows) {
  for (const auto [rows, cols] : {Grid{255, 3}, {256, 1}, {257, 35}, {700, 5}}) {
    const Reals x = noise(int64_t(rows * cols), 4), dy = noise(int64_t(rows * cols), 6);
    const Doubles normalised =
        layer_norm(widen(x), Doubles(cols, 1), Doubles(cols), double(real(1e-2)), rows, cols);
    Bounded want(cols);
    for (size_t i = 0; i < x.size(); ++i) {
      want.value[i % cols] += dy[i] * normalised[i];
      want.error[i % cols] += eps * std::abs(dy[i]) * (20 + double(rows) / 2);
    }
    Reals dw(cols, poison);
    TypeParam::run([&, r = int64_t(rows), c = int64_t(cols)](auto& s) {
      k::layer_norm_bwd_weight(s, x.data(), dy.data(), real(1e-2), r, c, dw.data());
    });
    expect_within(dw, want, "rows " + std::to_string(rows));
  }
}

TYPED_TEST(KernelsRows, no_rows_and_no_columns_are_fine) {
  Reals y(1, real(5)), dw(1, real(5));
  TypeParam::run([&](auto& s) {
    k::layer_norm(s, nullptr, nullptr, nullptr, real(1e-5), 0, 8, y.data());
    k::layer_norm_bwd(s, nullptr, nullptr, nullptr, real(1e-5), 0, 8, y.data());
    k::softmax(s, nullptr, 0, 8, y.data());
    k::softmax(s, nullptr, 8, 0, y.data());
    k::softmax_bwd(s, nullptr, nullptr, 8, 0, y.data());
    k::log_softmax(s, nullptr, 3, 0, y.data());
    k::log_softmax_bwd(s, nullptr, nullptr, 0, 3, y.data());
    k::layer_norm_bwd_weight(s, nullptr, nullptr, real(1e-5), 3, 0, y.data());
    k::layer_norm_bwd_weight(s, nullptr, nullptr, real(1e-5), 0, 1, dw.data());
  });
  EXPECT_EQ(y[0], 5);
  EXPECT_EQ(dw[0], 0);
}

TYPED_TEST(KernelsRows, largest_of_a_row_and_nan_wins) {
  const size_t rows = 5, cols = 197;
  Reals x = noise(int64_t(rows * cols), 8), y(rows, poison), none(2, poison);
  x[2 * cols + 77] = 12;
  x[3 * cols + 196] = poison;
  for (size_t c = 0; c < cols; ++c) x[4 * cols + c] = real(-3) - x[4 * cols + c];
  TypeParam::run([&](auto& s) {
    k::row_largest(s, x.data(), int64_t(rows), int64_t(cols), y.data());
    k::row_largest(s, nullptr, 2, 0, none.data());
  });
  for (size_t r : {size_t(0), size_t(1), size_t(2), size_t(4)})
    EXPECT_EQ(y[r],
              *std::max_element(x.begin() + int64_t(r * cols), x.begin() + int64_t((r + 1) * cols)))
        << r;
  EXPECT_EQ(y[2], 12);
  EXPECT_TRUE(std::isnan(y[3]));
  EXPECT_EQ(none[0], -std::numeric_limits<real>::infinity());
}

}  // namespace
}  // namespace whence
