// Attention, forward and backward, as plain loops in double with a running first-order error bound:
// what the input errors and roundings of each formula can amount to in `real`.
#pragma once

#include "kernels/attention.h"
#include "tests/ref/linear.h"

namespace whence::ref {

struct AttentionCase {
  k::AttentionSize size;
  double scale;
  Reals q, k, v, dcontext;

  AttentionCase(k::AttentionSize z, uint64_t seed, double spread = 2)
      : size(z),
        scale(1 / std::sqrt(double(z.width))),
        q(noise(z.batch * z.queries * z.heads * z.width, seed, spread)),
        k(noise(z.batch * z.keys * z.heads * z.width, seed + 1, spread)),
        v(noise(z.batch * z.keys * z.heads * z.width, seed + 2)),
        dcontext(noise(z.batch * z.queries * z.heads * z.width, seed + 3)) {}

  size_t at_q(int64_t b, int64_t i, int64_t h, int64_t d) const {
    return size_t(((b * size.queries + i) * size.heads + h) * size.width + d);
  }
  size_t at_k(int64_t b, int64_t j, int64_t h, int64_t d) const {
    return size_t(((b * size.keys + j) * size.heads + h) * size.width + d);
  }
  size_t at_map(int64_t b, int64_t h, int64_t i, int64_t j) const {
    return size_t(((b * size.heads + h) * size.queries + i) * size.keys + j);
  }
};

// Every result of both kernels. Maps are [B, H, Q, N]; their reductions are taken by the tests.
struct AttentionReference {
  Bounded probs, context, dprobs, dscores, dq, dk, dv;
  explicit AttentionReference(const AttentionCase& c) {
    const k::AttentionSize& z = c.size;
    const auto maps = size_t(z.batch * z.heads * z.queries * z.keys);
    probs = dprobs = dscores = Bounded(maps);
    context = dq = Bounded(c.q.size());
    dk = dv = Bounded(c.k.size());
    for (int64_t b = 0; b < z.batch; ++b)
      for (int64_t h = 0; h < z.heads; ++h)
        for (int64_t i = 0; i < z.queries; ++i) row(c, b, h, i);
    for (size_t i = 0; i < dq.error.size(); ++i) dq.error[i] *= 1.1;
    for (size_t i = 0; i < dk.error.size(); ++i) {
      dk.error[i] *= 1.1;
      dv.error[i] *= 1.1;
    }
  }

 private:
  void row(const AttentionCase& c, int64_t b, int64_t h, int64_t i) {
    const k::AttentionSize& z = c.size;
    softmax(c, b, h, i);
    double dot = 0, dot_error = 0;
    for (int64_t j = 0; j < z.keys; ++j) {
      const size_t m = c.at_map(b, h, i, j);
      double g = 0, size = 0;
      for (int64_t d = 0; d < z.width; ++d) {
        const double term = double(c.dcontext[c.at_q(b, i, h, d)]) * c.v[c.at_k(b, j, h, d)];
        g += term;
        size += std::abs(term);
      }
      dprobs.value[m] = g;
      dprobs.error[m] = chain_error(z.width, size);
      const double p = probs.value[m];
      dot += p * g;
      dot_error +=
          p * dprobs.error[m] + std::abs(g) * probs.error[m] + chain_error(z.keys, std::abs(p * g));
    }
    for (int64_t j = 0; j < z.keys; ++j) {
      const size_t m = c.at_map(b, h, i, j);
      const double p = probs.value[m], e = dprobs.value[m] - dot;
      dscores.value[m] = c.scale * p * e;
      dscores.error[m] = c.scale * (p * (dprobs.error[m] + dot_error) +
                                    std::abs(e) * probs.error[m] + 8 * eps * std::abs(p * e));
      for (int64_t d = 0; d < z.width; ++d) {
        const size_t at_q = c.at_q(b, i, h, d), at_k = c.at_k(b, j, h, d);
        add(context, at_q, p, probs.error[m], c.v[at_k], z.keys);
        add(dv, at_k, p, probs.error[m], c.dcontext[at_q], z.queries);
        add(dq, at_q, dscores.value[m], dscores.error[m], c.k[at_k], z.keys);
        add(dk, at_k, dscores.value[m], dscores.error[m], c.q[at_q], z.queries);
      }
    }
  }
  static void add(Bounded& out, size_t at, double x, double x_error, double y, int64_t terms) {
    out.value[at] += x * y;
    out.error[at] += std::abs(y) * x_error + chain_error(terms, std::abs(x * y));
  }
  // An error e of a score is a relative error e of its exponential.
  void softmax(const AttentionCase& c, int64_t b, int64_t h, int64_t i) {
    const k::AttentionSize& z = c.size;
    double top = -1e300, sum = 0, worst = 0;
    Doubles score(static_cast<size_t>(z.keys));
    for (int64_t j = 0; j < z.keys; ++j) {
      double size = 0;
      for (int64_t d = 0; d < z.width; ++d) {
        const double term = c.scale * c.q[c.at_q(b, i, h, d)] * c.k[c.at_k(b, j, h, d)];
        score[size_t(j)] += term;
        size += std::abs(term);
      }
      top = std::max(top, score[size_t(j)]);
      worst = std::max(worst, chain_error(z.width, size));
    }
    for (double& s : score) sum += (s = std::exp(s - top));
    for (int64_t j = 0; j < z.keys; ++j) {
      const double p = score[size_t(j)] / sum;
      const size_t m = c.at_map(b, h, i, j);
      probs.value[m] = p;
      probs.error[m] = p * (2 * worst + (double(z.keys) + 16) * eps) + 1e-37;
    }
  }
};

}  // namespace whence::ref
