#include "explain/methods/quadrature.h"

#include <cmath>
#include <numbers>

#include "runtime/check.h"
#include "runtime/text.h"

namespace whence {
namespace {

// Roots of the Legendre polynomial by Newton's method from the Chebyshev-like first guess.
Quadrature gauss_legendre(int n) {
  Quadrature q;
  q.alpha.resize(size_t(n));
  q.weight.resize(size_t(n));
  for (int i = 0; i < n; ++i) {
    double x = std::cos(std::numbers::pi * (n - i - 0.25) / (n + 0.5)), slope = 1;
    for (int iteration = 0; iteration < 100; ++iteration) {
      double p = 1, before = 0;
      for (int k = 1; k <= n; ++k) {  // (k) P_k = (2k-1) x P_{k-1} - (k-1) P_{k-2}
        const double next = ((2 * k - 1) * x * p - (k - 1) * before) / k;
        before = p;
        p = next;
      }
      slope = n * (x * p - before) / (x * x - 1);
      const double step = p / slope;
      x -= step;
      if (std::abs(step) < 1e-16) break;
    }
    q.alpha[size_t(i)] = (1 + x) / 2;
    q.weight[size_t(i)] = 1 / ((1 - x * x) * slope * slope);
  }
  return q;
}

}  // namespace

const std::vector<std::string>& quadrature_rules() {
  static const std::vector<std::string> rules{
      "endpoint_mean", "trapezoid",      "midpoint",          "gauss",        "riemann_left",
      "riemann_right", "riemann_middle", "riemann_trapezoid", "gausslegendre"};
  return rules;
}

Quadrature quadrature(std::string_view rule, int n) {
  const bool both_ends = rule == "trapezoid" || rule == "riemann_trapezoid";
  const bool riemann = rule.starts_with("riemann");
  if (n < (both_ends || riemann ? 2 : 1))
    fail_usage("{} steps given, rule {} needs at least {}", n, rule, both_ends || riemann ? 2 : 1);
  if (rule == "gausslegendre" || rule == "gauss") return gauss_legendre(n);
  Quadrature q;
  for (int i = 0; i < n; ++i) {
    const bool end = i == 0 || i == n - 1;
    double at = 0, w = 1.0 / n;
    if (rule == "endpoint_mean") {
      at = n == 1 ? 0.0 : double(i) / (n - 1);
    } else if (rule == "riemann_trapezoid" || rule == "trapezoid") {
      at = double(i) / (n - 1);
      w = (end ? 0.5 : 1.0) / (rule == "trapezoid" ? n - 1 : n);
    } else if (rule == "riemann_left") {
      at = double(i) / n;
    } else if (rule == "riemann_right") {
      at = double(i + 1) / n;
    } else if (rule == "riemann_middle" || rule == "midpoint") {
      at = (i + 0.5) / n;
    } else {
      fail_usage("there is no quadrature rule '{}'; there are {}", printable(rule),
                 listing(quadrature_rules()));
    }
    q.alpha.push_back(at);
    q.weight.push_back(w);
  }
  return q;
}

}  // namespace whence
