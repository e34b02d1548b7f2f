// Products and einsums as plain loops in double.
#pragma once

#include "kernels/product.h"
#include "tests/ref/arrays.h"

namespace whence::ref {

// A chain of k fused multiply-adds is off by at most k half-ulps of sum |a b|; 8 for what follows.
inline double chain_error(int64_t k, double magnitude) { return (double(k) + 8) * eps * magnitude; }

inline Bounded product(std::span<const real> a, int64_t a_stride, std::span<const real> b,
                       int64_t stride_n, int64_t stride_k, int64_t m, int64_t n, int64_t k) {
  Bounded c(size_t(m * n));
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0, magnitude = 0;
      for (int64_t x = 0; x < k; ++x) {
        const double term =
            double(a[size_t(i * a_stride + x)]) * b[size_t(j * stride_n + x * stride_k)];
        sum += term;
        magnitude += std::abs(term);
      }
      c.value[size_t(i * n + j)] = sum;
      c.error[size_t(i * n + j)] = chain_error(k, magnitude);
    }
  }
  return c;
}

// Visits every index of every letter of an einsum, one letter after another.
class Einsum {
 public:
  Einsum(std::span<const real> a, std::span<const real> b, const k::Contraction& letters,
         double scale, size_t c_count)
      : out(c_count), a_(a), b_(b), scale_(scale) {
    const k::Contraction::Role* roles[] = {&letters.loops, &letters.rows, &letters.cols,
                                           &letters.sums};
    int64_t terms = 1;
    for (const auto* role : roles)
      for (int i = 0; i < role->count; ++i) axes_.push_back(role->axes[size_t(i)]);
    for (int i = 0; i < letters.sums.count; ++i) terms *= letters.sums.axes[size_t(i)].size;
    visit(0, 0, 0, 0);
    for (double& e : out.error) e = chain_error(terms, e);
  }
  Bounded out;

 private:
  void visit(size_t axis, int64_t at_a, int64_t at_b, int64_t at_c) {
    if (axis == axes_.size()) {
      const double term = scale_ * double(a_[size_t(at_a)]) * double(b_[size_t(at_b)]);
      out.value[size_t(at_c)] += term;
      out.error[size_t(at_c)] += std::abs(term);
      return;
    }
    const k::Axis& x = axes_[axis];
    for (int64_t i = 0; i < x.size; ++i) {
      visit(axis + 1, at_a + i * x.a, at_b + i * x.b, at_c + i * x.c);
    }
  }
  std::span<const real> a_, b_;
  double scale_;
  std::vector<k::Axis> axes_;
};

}  // namespace whence::ref
