// Relevance rules of products, re-derived on dense matrices in double from their formulas.
#pragma once

#include <algorithm>
#include <vector>

#include "whence/rules.h"

namespace whence::ref {

// z_o = sum_i w[o][i] x[i] + b[o]; linked[o][i]: does output o read input i at all?
struct Dense {
  std::vector<std::vector<double>> w, linked;
  std::vector<double> b;        // empty: none
  std::vector<size_t> channel;  // of each input
  size_t outputs() const { return w.size(); }
  size_t inputs() const { return w[0].size(); }
  double bias(size_t o) const { return b.empty() ? 0 : b[o]; }
};
using Row = std::vector<double>;

inline double quotient(double a, double b, Stabiliser by) {
  const double e = by.epsilon;
  if (by.kind == Stabiliser::guarded) return b == 0 ? 0 : b + e == 0 ? a / e : a / (b + e);
  if (by.kind == Stabiliser::away) return a / (b >= 0 ? b + e : b - e);
  return a / (b + e);
}
inline double plus(double v) { return std::max(v, 0.0); }
inline double minus(double v) { return std::min(v, 0.0); }

// R_i = sum_o c(o, i) R_o / (sum_j c(o, j) + extra(o)) for contributions c.
template <class C, class E>
Row shares(const Dense& d, const Row& r, Stabiliser by, C contribution, E extra) {
  Row out(d.inputs(), 0.0);
  for (size_t o = 0; o < d.outputs(); ++o) {
    double z = extra(o);
    for (size_t i = 0; i < d.inputs(); ++i) z += contribution(o, i);
    for (size_t i = 0; i < d.inputs(); ++i) out[i] += contribution(o, i) * quotient(r[o], z, by);
  }
  return out;
}

inline Row combined(double a, const Row& x, double b, const Row& y) {
  Row sum(x.size());
  for (size_t i = 0; i < x.size(); ++i) sum[i] = a * x[i] + b * y[i];
  return sum;
}

class DenseRules {
 public:
  DenseRules(const Dense& dense, const Row& input, const Row& relevance)
      : d(dense), x(input), r(relevance) {}

  Row operator()(const rule::Epsilon& k) const {
    return shares(
        d, r, k.by, [&](size_t o, size_t i) { return x[i] * d.w[o][i]; },
        [&](size_t o) { return k.bias ? d.bias(o) : 0; });
  }
  Row operator()(const rule::PositiveWeights& k) const {
    return shares(
        d, r, k.by, [&](size_t o, size_t i) { return x[i] * plus(d.w[o][i]); },
        [&](size_t o) { return d.bias(o); });
  }
  // A contribution of the output's own sign counts 1 + gamma times.
  Row operator()(const rule::Gamma& k) const {
    if (!k.generalised)
      return shares(
          d, r, k.by,
          [&](size_t o, size_t i) { return x[i] * (d.w[o][i] + k.gamma * plus(d.w[o][i])); },
          [&](size_t o) { return d.bias(o); });
    Row sign(d.outputs()), kept = r;
    for (size_t o = 0; o < d.outputs(); ++o) {
      double z = d.bias(o);
      for (size_t i = 0; i < d.inputs(); ++i) z += d.w[o][i] * x[i];
      sign[o] = z > 0 ? 1 : -1;
      if (z == 0) kept[o] = 0;
    }
    const auto grown = [&](size_t o, double c) {
      return c + k.gamma * (sign[o] > 0 ? plus(c) : minus(c));
    };
    return shares(
        d, kept, k.by, [&](size_t o, size_t i) { return grown(o, x[i] * d.w[o][i]); },
        [&](size_t o) { return grown(o, d.bias(o)); });
  }
  Row operator()(const rule::AlphaBeta& k) const {
    const auto half = [&](double sign, double of_x) {  // products of one sign, of x's sign or both
      return shares(
          d, r, k.by,
          [&](size_t o, size_t i) {
            const double c = x[i] * d.w[o][i];
            return of_x != 0 && of_x * x[i] < 0 ? 0 : sign > 0 ? plus(c) : minus(c);
          },
          [&](size_t o) { return !k.bias    ? 0
                                 : sign > 0 ? plus(d.bias(o))
                                            : minus(d.bias(o)); });
    };
    const auto part = [&](double sign) {
      return k.joint ? half(sign, 0) : combined(1, half(sign, 1), 1, half(sign, -1));
    };
    return combined(k.alpha, part(1), -k.beta, part(-1));
  }
  Row operator()(const rule::ZBox& k) const {
    const auto [low, high] = std::minmax_element(x.begin(), x.end());
    const auto bound = [&](const std::vector<double>& given, double of_sample, size_t i) {
      return given.empty() ? of_sample : given[given.size() == 1 ? 0 : d.channel[i]];
    };
    return shares(
        d, r, k.by,
        [&](size_t o, size_t i) {
          return x[i] * d.w[o][i] - bound(k.low, *low, i) * plus(d.w[o][i]) -
                 bound(k.high, *high, i) * minus(d.w[o][i]);
        },
        [](size_t) { return 0.0; });
  }
  Row operator()(const rule::WSquare& k) const {
    return shares(
        d, r, k.by, [&](size_t o, size_t i) { return d.w[o][i] * d.w[o][i]; },
        [&](size_t o) { return d.bias(o) * d.bias(o); });
  }
  Row operator()(const rule::Flat& k) const {
    return shares(
        d, r, k.by, [&](size_t o, size_t i) { return d.linked[o][i]; }, [](size_t) { return 0.0; });
  }
  template <class Other>
  Row operator()(const Other&) const {
    return {};
  }

 private:
  const Dense& d;
  const Row &x, &r;
};

inline Row dense_relevance(const Dense& d, const Row& x, const Row& r, const RelevanceRule& rule) {
  return std::visit(DenseRules(d, x, r), rule);
}

}  // namespace whence::ref
