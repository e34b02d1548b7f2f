// Quadrature on [0, 1] for path methods.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace whence {

struct Quadrature {
  std::vector<double> alpha, weight;
};

// Rules, each with n nodes:
//   endpoint_mean      i/(n-1), weights 1/n: the mean over both ends included (InterpretDL)
//   riemann_left, riemann_right, riemann_middle   i/n, (i+1)/n, (i+1/2)/n, weights 1/n
//   riemann_trapezoid  i/(n-1), weights 1/n halved at the ends, so they sum to (n-1)/n (Captum)
//   gausslegendre      Legendre nodes of order n
//   trapezoid, midpoint, gauss   the rules of the textbooks; the last two equal riemann_middle,
//   gausslegendre
// Throws usage for another name or too few nodes (trapezoids and Riemann sums need two, others
// one).
Quadrature quadrature(std::string_view rule, int n);
const std::vector<std::string>& quadrature_rules();

}  // namespace whence
