// The operators of ops.h as a table: how to build one, on which inputs, and what it computes.
// Forward and gradient tests walk over the same rows.
#pragma once

#include <functional>
#include <ostream>

#include "tests/ref/tensor_ops.h"
#include "tests/unit/random_tensors.h"
#include "whence/graph.h"

namespace whence {

struct OpInput {
  Shape shape;
  double spread = 1;
  double shift = 0;
  bool differentiable = true;
};

struct OpCase {
  std::string name;
  std::vector<OpInput> in;
  std::function<Value(const Values&)> build;
  std::function<ref::Array(const ref::Arrays&)> reference;
  // Largest error allowed, relative to the largest element. A sum of n products in float is off by
  // at most n * 6e-8 of the sum of magnitudes; sizes here stay below 50 terms, and random signs do
  // the rest.
  double forward_bound = sizeof(real) == 4 ? 2e-6 : 4e-15;
  // In double the differences, of step 1e-5, are themselves good to about 1e-10 times third
  // derivatives.
  double gradient_bound = sizeof(real) == 4 ? 1e-5 : 1e-8;
};

inline std::ostream& operator<<(std::ostream& out, const OpCase& c) { return out << c.name; }

std::vector<OpCase> op_cases();
std::vector<OpCase> elementwise_cases();  // the parts of op_cases
std::vector<OpCase> product_cases();
std::vector<OpCase> row_cases();
std::vector<OpCase> attention_cases();
std::vector<OpCase> shape_cases();
std::vector<OpCase> conv_cases();

// Seeded by position, so that a case's numbers do not depend on other cases.
inline Tensor case_input(const OpCase& c, size_t i) {
  Tensor t = random_tensor(c.in[i].shape, 100 + i, c.in[i].spread);
  for (real& x : t.reals()) x += real(c.in[i].shift);
  return t;
}

inline ref::Arrays case_arrays(const OpCase& c) {
  ref::Arrays arrays;
  for (size_t i = 0; i < c.in.size(); ++i) arrays.emplace_back(case_input(c, i));
  return arrays;
}

// |got - want| <= bound * max|want| (at least 1e-3 * bound) + noise of `want` itself; NaN fails.
inline void expect_close(const Tensor& got, const ref::Array& want, double bound,
                         const std::string& what, double noise = 0) {
  ASSERT_EQ(got.shape(), want.shape) << what;
  double largest = 1e-3;
  for (double x : want.x) largest = std::max(largest, std::abs(x));
  for (size_t i = 0; i < want.x.size(); ++i)
    ASSERT_LE(std::abs(double(got.reals()[i]) - want.x[i]), bound * largest + noise)
        << what << ": element " << i << " is " << got.reals()[i] << ", not " << want.x[i];
}

}  // namespace whence
