// Seeded tensors and element-wise comparisons for tests.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "whence/graph.h"
#include "whence/weights.h"

namespace whence {

// Standard-normal-like values (sum of four uniforms) from a splitmix64 sequence: equal on every
// machine.
inline Tensor random_tensor(Shape shape, uint64_t seed, double spread = 1) {
  Tensor t(Type{shape});
  uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
  for (real& x : t.reals()) {
    double sum = 0;
    for (int i = 0; i < 4; ++i) {
      uint64_t z = (state += 0x9E3779B97F4A7C15u);
      z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
      z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
      sum += double((z ^ (z >> 31)) >> 11) * 0x1p-53 - 0.5;
    }
    x = real(spread * sum * std::sqrt(3.0));
  }
  return t;
}

// A tensor for every weight of the graph: matrices scaled by their inputs, norms near one.
inline Weights random_weights(const Graph& graph, uint64_t seed) {
  Weights w;
  for (int n = 0; n < graph.size(); ++n) {
    const Node& node = graph.node(n);
    if (!node.weight) continue;
    const Shape& s = node.out[0].shape;
    const bool norm = node.name.find("norm") != std::string::npos && node.name.ends_with("weight");
    Tensor t =
        random_tensor(s, seed + uint64_t(n), s.rank() == 2 ? 1.5 / std::sqrt(double(s[1])) : 0.3);
    if (norm)
      for (real& x : t.reals()) x = 1 + x;
    w.tensors[node.name] = t;
  }
  return w;
}

// |a - b| <= bound * max|b|, element by element; NaN fails.
inline void expect_near(const Tensor& a, const Tensor& b, double bound) {
  ASSERT_EQ(a.shape(), b.shape());
  double largest = 0;
  for (real x : b.reals()) largest = std::max(largest, std::abs(double(x)));
  for (size_t i = 0; i < a.reals().size(); ++i)
    ASSERT_LE(std::abs(double(a.reals()[i]) - double(b.reals()[i])), bound * largest)
        << "element " << i;
}

inline void expect_same_bits(const Tensor& a, const Tensor& b) {
  ASSERT_EQ(a.shape(), b.shape());
  for (size_t i = 0; i < a.reals().size(); ++i)
    ASSERT_EQ(0, std::memcmp(&a.reals()[i], &b.reals()[i], sizeof(real)))
        << "element " << i << ": " << a.reals()[i] << " and " << b.reals()[i];
}

}  // namespace whence
