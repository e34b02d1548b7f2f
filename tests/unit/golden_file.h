// Golden results as they lie in tests/golden/: float64 safetensors and JSON arrays.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "weights/safetensors.h"
#include "whence/tensor.h"

namespace whence {

inline std::filesystem::path golden_path(const std::string& name) {
  return std::filesystem::path(WHENCE_TEST_DATA) / "golden" / name;
}

inline nlohmann::json golden_json(const std::string& name) {
  std::ifstream file(golden_path(name));
  return nlohmann::json::parse(file);
}

// {"shape": [...], "data": [...]} or {"shape", "dtype", "data"} as a tensor of reals.
inline Tensor json_tensor(const nlohmann::json& array) {
  std::vector<int64_t> shape = array.at("shape");
  std::vector<double> data = array.at("data");
  return Tensor::of(Shape(shape), std::vector<real>(data.begin(), data.end()));
}

// InterpretDL stores the matrices of linear layers as [in, out].
inline Tensor transposed(const Tensor& w) {
  const int64_t rows = w.shape()[0], cols = w.shape()[1];
  Tensor t(Type{{cols, rows}});
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j)
      t.reals()[size_t(j * rows + i)] = w.reals()[size_t(i * cols + j)];
  return t;
}

// |got - want| <= bound * max|want|, element by element; NaN fails.
inline void expect_close(std::span<const real> got, std::span<const real> want, double bound,
                         const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  double largest = 0, worst = 0;
  for (real x : want) largest = std::max(largest, std::abs(double(x)));
  for (size_t i = 0; i < got.size(); ++i) {
    const double d = std::abs(double(got[i]) - double(want[i]));
    worst = d > worst || std::isnan(d) ? d : worst;
  }
  EXPECT_LE(worst, bound * largest)
      << what << ": worst difference " << worst << ", largest value " << largest;
}

}  // namespace whence
