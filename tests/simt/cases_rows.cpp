// Rows of a matrix and sums over axes: warp reductions, sums through shared memory, chunks.
#include "kernels/elementwise.h"
#include "kernels/rows.h"
#include "tests/simt/cases.h"

namespace whence::simt_test {
namespace {

using gpu::Stream;
using ref::noise;
using ref::Reals;

constexpr int64_t rows = 11, cols = 35;  // blocks own 8 rows, lanes every 32nd column
constexpr const char* shape = "11 x 35";
constexpr real eps = real(1e-5);

template <class Launch>
Reals of_rows(Stream& s, Launch launch) {
  return output_of(s, rows * cols, launch);
}

Reals weight_gradient(Stream& s, int64_t m, int64_t n) {
  const Reals x = noise(m * n, 1), dy = noise(m * n, 2);
  return output_of(s, n, [&](real* dweight) {
    k::layer_norm_bwd_weight(s, x.data(), dy.data(), eps, m, n, dweight);
  });
}

std::vector<KernelCase> norm_cases() {
  return {
      {"layer_norm", "", shape, "layer_norm_kernel",
       [](Stream& s) {
         const Reals x = noise(rows * cols, 1), weight = noise(cols, 2), bias = noise(cols, 3);
         return of_rows(s, [&](real* y) {
           k::layer_norm(s, x.data(), weight.data(), bias.data(), eps, rows, cols, y);
         });
       }},
      {"layer_norm_bwd", "", "11 x 35, in place", "layer_norm_bwd_kernel",
       [](Stream& s) {
         const Reals x = noise(rows * cols, 1), weight = noise(cols, 2);
         Reals dx = noise(rows * cols, 3);
         k::layer_norm_bwd(s, x.data(), weight.data(), dx.data(), eps, rows, cols, dx.data());
         s.synchronize();
         return dx;
       }},
      {"layer_norm_bwd_weight", "", shape, "statistics_kernel layer_norm_bwd_weight_kernel",
       [](Stream& s) { return weight_gradient(s, rows, cols); }},
      {.kernel = "layer_norm_bwd_weight",
       .variant = "chunks",
       .sizes = "259 x 35",
       .launches = "statistics_kernel layer_norm_bwd_weight_kernel sum_chunks_kernel",
       .run = [](Stream& s) { return weight_gradient(s, 259, cols); },
       .for_tsan = false},
  };
}

std::vector<KernelCase> softmax_cases() {
  return {
      {"row_largest", "", shape, "row_largest_kernel",
       [](Stream& s) {
         const Reals x = noise(rows * cols, 1);
         return output_of(s, rows, [&](real* y) { k::row_largest(s, x.data(), rows, cols, y); });
       }},
      {"softmax", "", "11 x 35, in place", "softmax_kernel",
       [](Stream& s) {
         Reals y = noise(rows * cols, 1, 4);
         k::softmax(s, y.data(), rows, cols, y.data());
         s.synchronize();
         return y;
       }},
      {"softmax_bwd", "", "11 x 35, in place", "softmax_bwd_kernel",
       [](Stream& s) {
         const Reals y = noise(rows * cols, 1);
         Reals dx = noise(rows * cols, 2);
         k::softmax_bwd(s, y.data(), dx.data(), rows, cols, dx.data());
         s.synchronize();
         return dx;
       }},
      {"log_softmax", "", "11 x 35, in place", "log_softmax_kernel",
       [](Stream& s) {
         Reals y = noise(rows * cols, 1, 4);
         k::log_softmax(s, y.data(), rows, cols, y.data());
         s.synchronize();
         return y;
       }},
      {"log_softmax_bwd", "", "11 x 35, in place", "log_softmax_bwd_kernel",
       [](Stream& s) {
         const Reals y = noise(rows * cols, 1, 2);
         Reals dx = noise(rows * cols, 2);
         k::log_softmax_bwd(s, y.data(), dx.data(), rows, cols, dx.data());
         s.synchronize();
         return dx;
       }},
  };
}

Reals sum_of(Stream& s, const std::array<int64_t, 5>& size, const std::array<bool, 5>& kept) {
  int64_t in = 1, out = 1;
  for (size_t i = 0; i < 5; ++i) {
    in *= size[i];
    if (kept[i]) out *= size[i];
  }
  const Reals x = noise(in, 1);
  return output_of(s, out, [&](real* y) { k::reduce_sum(s, x.data(), size, kept, real(0.3), y); });
}

std::vector<KernelCase> sum_cases() {
  return {
      {"reduce_sum", "columns", "3 terms, 259 sums", "columns_kernel",
       [](Stream& s) {
         return sum_of(s, {1, 1, 1, 3, 259}, {false, false, false, false, true});
       }},
      {"reduce_sum", "tall_columns", "3 x 7 terms, 5 x 7 sums", "columns_kernel",
       [](Stream& s) {
         return sum_of(s, {1, 3, 5, 7, 7}, {false, false, true, false, true});
       }},
      {"reduce_sum", "column_chunks", "259 terms, 35 sums", "columns_kernel columns_kernel",
       [](Stream& s) {
         return sum_of(s, {1, 1, 1, 259, 35}, {false, false, false, false, true});
       }},
      {"reduce_sum", "rows", "3 x 37 terms, 11 sums", "rows_kernel",
       [](Stream& s) {
         return sum_of(s, {1, 1, 3, 11, 37}, {false, false, false, true, false});
       }},
      {"reduce_sum", "row_chunks", "1033 terms, 5 sums", "rows_kernel columns_kernel",
       [](Stream& s) {
         return sum_of(s, {1, 1, 1, 5, 1033}, {false, false, false, true, false});
       }},
  };
}

}  // namespace

std::vector<KernelCase> row_cases() {
  std::vector<KernelCase> table;
  for (const auto& part : {norm_cases(), softmax_cases(), sum_cases()})
    table.insert(table.end(), part.begin(), part.end());
  return table;
}

}  // namespace whence::simt_test
