// Row operations as plain loops in double.
#pragma once

#include "tests/ref/arrays.h"

namespace whence::ref {

inline Doubles layer_norm(const Doubles& x, const Doubles& weight, const Doubles& bias, double e,
                          size_t rows, size_t cols) {
  Doubles y(x.size());
  for (size_t r = 0; r < rows; ++r) {
    const double* row = x.data() + r * cols;
    double mean = 0, var = 0;
    for (size_t c = 0; c < cols; ++c) mean += row[c] / double(cols);
    for (size_t c = 0; c < cols; ++c) var += (row[c] - mean) * (row[c] - mean) / double(cols);
    for (size_t c = 0; c < cols; ++c) {
      y[r * cols + c] = (row[c] - mean) / std::sqrt(var + e) * weight[c] + bias[c];
    }
  }
  return y;
}

inline Doubles log_softmax(const Doubles& x, size_t rows, size_t cols) {
  Doubles y(x.size());
  for (size_t r = 0; r < rows; ++r) {
    const double* row = x.data() + r * cols;
    double top = row[0], sum = 0;
    for (size_t c = 0; c < cols; ++c) top = std::max(top, row[c]);
    for (size_t c = 0; c < cols; ++c) sum += std::exp(row[c] - top);
    for (size_t c = 0; c < cols; ++c) y[r * cols + c] = row[c] - top - std::log(sum);
  }
  return y;
}

inline Doubles softmax(const Doubles& x, size_t rows, size_t cols) {
  Doubles y = log_softmax(x, rows, cols);
  for (double& v : y) v = std::exp(v);
  return y;
}

}  // namespace whence::ref
