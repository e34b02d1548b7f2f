// Layer norm, softmax and log-softmax: values, gradients, extreme rows, bits.
#include "kernels/rows.h"
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

constexpr double layer_eps = 1e-6;

TEST(KernelsRows, layer_norm_matches_double_loops) {
  for (const auto [rows, cols] : grids) {
    const Reals x = noise(int64_t(rows * cols), 1, 3), w = noise(int64_t(cols), 2),
                b = noise(int64_t(cols), 3);
    Reals y(x.size(), poison);
    cpu::Stream s{2};
    k::layer_norm(s, x.data(), w.data(), b.data(), real(layer_eps), int64_t(rows), int64_t(cols),
                  y.data());
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

TEST(KernelsRows, layer_norm_keeps_small_differences_on_a_large_mean) {
  Reals x(64), one(64, 1), zero(64, 0), y(64);
  for (size_t i = 0; i < 64; ++i) x[i] = real(4096 + (i % 2 ? 0.25 : -0.25));
  cpu::Stream s{1};
  k::layer_norm(s, x.data(), one.data(), zero.data(), real(1e-6), 1, 64, y.data());
  for (size_t i = 0; i < 64; ++i) EXPECT_NEAR(y[i], i % 2 ? 1 : -1, 1e-4);
}

TEST(KernelsRows, layer_norm_gradient_matches_differences) {
  for (const auto [rows, cols] : {Grid{2, 5}, {3, 37}, {1, 16}}) {
    const Reals x = noise(int64_t(rows * cols), 4), w = noise(int64_t(cols), 5),
                dy = noise(int64_t(rows * cols), 6);
    const Doubles zero(cols);
    const auto f = [&, r = rows, c = cols](const Doubles& at) {
      return layer_norm(at, widen(w), zero, layer_eps, r, c);
    };
    const Doubles want = numeric_gradient(f, widen(x), widen(dy));
    Reals dx(x.size(), poison);
    cpu::Stream s{1};
    k::layer_norm_bwd(s, x.data(), w.data(), dy.data(), real(layer_eps), int64_t(rows),
                      int64_t(cols), dx.data());
    expect_within(dx, within(want, 200 * eps + 1e-7), "dx");
    Reals in_place = dy;
    k::layer_norm_bwd(s, x.data(), w.data(), in_place.data(), real(layer_eps), int64_t(rows),
                      int64_t(cols), in_place.data());
    expect_same_bits(in_place, dx, "in place");

    const auto of_weight = [&, r = rows, c = cols](const Doubles& at) {
      return layer_norm(widen(x), at, zero, layer_eps, r, c);
    };
    Reals dw(cols, poison);
    k::layer_norm_bwd_weight(s, x.data(), dy.data(), real(layer_eps), int64_t(rows), int64_t(cols),
                             dw.data());
    expect_within(dw, within(numeric_gradient(of_weight, widen(w), widen(dy)), 200 * eps + 1e-7),
                  "dweight");
  }
}

TEST(KernelsRows, softmax_and_log_softmax_match_double_loops) {
  for (const auto [rows, cols] : grids) {
    const Reals x = noise(int64_t(rows * cols), 7, 6);
    Reals y(x.size(), poison), z(x.size(), poison);
    cpu::Stream s{2};
    k::softmax(s, x.data(), int64_t(rows), int64_t(cols), y.data());
    k::log_softmax(s, x.data(), int64_t(rows), int64_t(cols), z.data());
    Bounded p = within(softmax(widen(x), rows, cols), 0);
    // x - max is off by half an ulp of at most 12, the sum by cols / 8 + 4 roundings.
    for (size_t i = 0; i < p.value.size(); ++i) {
      p.error[i] = p.value[i] * eps * (24 + double(cols) / 8);
    }
    expect_within(y, p, "softmax " + std::to_string(cols));
    expect_within(z, within(log_softmax(widen(x), rows, cols), eps * (24 + double(cols) / 8)),
                  "log softmax " + std::to_string(cols));
    Reals in_place = x;
    k::softmax(s, in_place.data(), int64_t(rows), int64_t(cols), in_place.data());
    expect_same_bits(in_place, y, "softmax in place");
    in_place = x;
    k::log_softmax(s, in_place.data(), int64_t(rows), int64_t(cols), in_place.data());
    expect_same_bits(in_place, z, "log softmax in place");
  }
}

TEST(KernelsRows, softmax_gradients_match_differences) {
  const size_t rows = 3, cols = 21;
  const Reals x = noise(int64_t(rows * cols), 8, 2), dy = noise(int64_t(rows * cols), 9);
  cpu::Stream s{1};
  Reals y(x.size()), dx(x.size(), poison);
  k::softmax(s, x.data(), rows, cols, y.data());
  k::softmax_bwd(s, y.data(), dy.data(), rows, cols, dx.data());
  const auto f = [&](const Doubles& at) { return softmax(at, rows, cols); };
  expect_within(dx, within(numeric_gradient(f, widen(x), widen(dy)), 50 * eps + 1e-9), "softmax");
  Reals in_place = dy;
  k::softmax_bwd(s, y.data(), in_place.data(), rows, cols, in_place.data());
  expect_same_bits(in_place, dx, "softmax in place");

  k::log_softmax(s, x.data(), rows, cols, y.data());
  k::log_softmax_bwd(s, y.data(), dy.data(), rows, cols, dx.data());
  const auto g = [&](const Doubles& at) { return log_softmax(at, rows, cols); };
  expect_within(dx, within(numeric_gradient(g, widen(x), widen(dy)), 100 * eps + 1e-9), "log");
  in_place = dy;
  k::log_softmax_bwd(s, y.data(), in_place.data(), rows, cols, in_place.data());
  expect_same_bits(in_place, dx, "log softmax in place");
}

TEST(KernelsRows, softmax_of_extreme_values) {
  constexpr real inf = std::numeric_limits<real>::infinity();
  constexpr real top = std::numeric_limits<real>::max();
  cpu::Stream s{1};
  Reals y(19);
  for (const real big : {top, real(-top), real(1e30)}) {  // equal values share, whatever their size
    Reals x(19, big);
    k::softmax(s, x.data(), 1, 19, y.data());
    for (real v : y) EXPECT_NEAR(v, 1.0 / 19, eps);
    k::log_softmax(s, x.data(), 1, 19, y.data());
    for (real v : y) EXPECT_NEAR(v, -std::log(19.0), 8 * eps);
  }
  Reals x(19, -top);
  x[18] = top;
  k::softmax(s, x.data(), 1, 19, y.data());
  for (size_t i = 0; i < 19; ++i) EXPECT_EQ(y[i], i == 18 ? 1 : 0);
  x.assign(19, -inf);  // masked elements are exactly zero
  x[2] = x[17] = 5;
  k::softmax(s, x.data(), 1, 19, y.data());
  for (size_t i = 0; i < 19; ++i) EXPECT_EQ(y[i], i == 2 || i == 17 ? real(0.5) : 0);
}

TEST(KernelsRows, nan_fills_its_row_only) {
  for (size_t at : {size_t{0}, size_t{5}, size_t{16}, size_t{19}}) {
    Reals x = noise(60, 1), one(20, 1), y(60);
    x[20 + at] = poison;
    cpu::Stream s{1};
    const auto check = [&](const char* what) {
      for (size_t i = 0; i < 60; ++i) EXPECT_EQ(std::isnan(y[i]), i / 20 == 1) << what << i;
    };
    k::softmax(s, x.data(), 3, 20, y.data());
    check("softmax");
    k::log_softmax(s, x.data(), 3, 20, y.data());
    check("log softmax");
    k::layer_norm(s, x.data(), one.data(), one.data(), real(1e-5), 3, 20, y.data());
    check("layer norm");
    k::layer_norm_bwd(s, x.data(), one.data(), one.data(), real(1e-5), 1, 20, y.data());
  }
}

TEST(KernelsRows, bits_depend_neither_on_threads_nor_on_rows_in_the_call) {
  const int64_t rows = 401, cols = 333;
  const Reals x = noise(rows * cols, 1, 2), dy = noise(rows * cols, 2), w = noise(cols, 3);
  const auto all = [&](int threads, int64_t part) {
    Reals out;
    cpu::Stream s{threads};
    std::vector<Reals> y(6, Reals(x.size(), poison));
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
    for (const Reals& each : y) out.insert(out.end(), each.begin(), each.end());
    Reals dw(static_cast<size_t>(cols));
    k::layer_norm_bwd_weight(s, x.data(), dy.data(), real(1e-5), rows, cols, dw.data());
    out.insert(out.end(), dw.begin(), dw.end());
    return out;
  };
  const Reals one = all(1, rows);
  for (int threads : {2, 3, 8}) expect_same_bits(all(threads, rows), one, "threads");
  expect_same_bits(all(2, 150), one, "parts");
}

TEST(KernelsRows, no_rows_and_no_columns_are_fine) {
  cpu::Stream s{2};
  Reals y(1, real(5));
  k::layer_norm(s, nullptr, nullptr, nullptr, real(1e-5), 0, 8, y.data());
  k::softmax(s, nullptr, 0, 8, y.data());
  k::softmax(s, nullptr, 8, 0, y.data());
  k::log_softmax(s, nullptr, 3, 0, y.data());
  EXPECT_EQ(y[0], 5);
  k::layer_norm_bwd_weight(s, nullptr, nullptr, real(1e-5), 0, 1, y.data());
  EXPECT_EQ(y[0], 0);
}

}  // namespace
}  // namespace whence
