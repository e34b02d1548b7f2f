// simple version
#include "kernels/attention.h"

#include <vector>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/row.h"

namespace whence::k {
using namespace cpu;
namespace {
struct Maps {
  std::vector<real> p, g;
};
void probabilities(const real* q, const real* k, const AttentionSize& z, int64_t b, int64_t h,
                   real scale, std::vector<real>& p) {
  const int64_t w = z.heads * z.width;
  p.assign(size_t(z.queries * z.keys), 0);
  for (int64_t i = 0; i < z.queries; ++i) {
    real* row = p.data() + i * z.keys;
    for (int64_t j = 0; j < z.keys; ++j)
      for (int64_t d = 0; d < z.width; ++d)
        row[j] += q[(b * z.queries + i) * w + h * z.width + d] *
                  k[(b * z.keys + j) * w + h * z.width + d];
    softmax_row(row, z.keys, scale, row);
  }
}
}  // namespace

void attention(Stream& s, const real* q, const real* k, const real* v, const AttentionSize& z,
               real scale, real* context, const AttentionCapture& out) {
  const int64_t w = z.heads * z.width, nn = z.keys;
  parallel_items(s, z.batch, [&](int64_t b) {
    std::vector<real> p;
    for (int64_t h = 0; h < z.heads; ++h) {
      probabilities(q, k, z, b, h, scale, p);
      for (int64_t i = 0; i < z.queries; ++i)
        for (int64_t d = 0; d < z.width && context; ++d) {
          real sum = 0;
          for (int64_t j = 0; j < nn; ++j)
            sum += p[size_t(i * nn + j)] * v[(b * nn + j) * w + h * z.width + d];
          context[(b * z.queries + i) * w + h * z.width + d] = sum;
        }
      for (int64_t i = 0; i < z.queries; ++i)
        for (int64_t j = 0; j < nn; ++j) {
          const real x = p[size_t(i * nn + j)];
          if (out.probs) out.probs[((b * z.heads + h) * z.queries + i) * nn + j] = x;
          if (out.row && i == out.row_index) out.row[(b * z.heads + h) * nn + j] = x;
          if (out.head_mean) {
            real& y = out.head_mean[(b * z.queries + i) * nn + j];
            y = (h ? y : real(0)) + x / real(z.heads);
          }
        }
    }
  });
}

void attention_bwd(Stream& s, const real* q, const real* k, const real* v, const real* dcontext,
                   const AttentionSize& z, real scale, const AttentionGradients& out) {
  const int64_t w = z.heads * z.width, nn = z.keys, nq = z.queries;
  parallel_items(s, z.batch, [&](int64_t b) {
    std::vector<real> p, g(size_t(nq * nn)), ds(size_t(nq * nn));
    for (int64_t h = 0; h < z.heads; ++h) {
      probabilities(q, k, z, b, h, scale, p);
      const auto at_q = [&](int64_t i) { return (b * nq + i) * w + h * z.width; };
      const auto at_k = [&](int64_t j) { return (b * nn + j) * w + h * z.width; };
      for (int64_t i = 0; i < nq; ++i) {
        real dot = 0;
        for (int64_t j = 0; j < nn; ++j) {
          real sum = 0;
          for (int64_t d = 0; d < z.width; ++d) sum += dcontext[at_q(i) + d] * v[at_k(j) + d];
          g[size_t(i * nn + j)] = sum;
          dot += sum * p[size_t(i * nn + j)];
        }
        for (int64_t j = 0; j < nn; ++j) {
          const size_t m = size_t(i * nn + j);
          const real r = std::max(p[m] * g[m], real(0)) / real(z.heads);
          ds[m] = p[m] * (g[m] - dot) * scale;
          if (out.dprobs) out.dprobs[((b * z.heads + h) * nq + i) * nn + j] = g[m];
          if (out.dprobs_row && i == out.row_index)
            out.dprobs_row[(b * z.heads + h) * nn + j] = g[m];
          if (out.dprobs_mean) {
            real& y = out.dprobs_mean[(b * nq + i) * nn + j];
            y = (h ? y : real(0)) + g[m] / real(z.heads);
          }
          if (out.relevance) {
            real& y = out.relevance[(b * nq + i) * nn + j];
            y = (h ? y : real(0)) + r;
          }
          if (out.chain_out) {
            real& y = out.chain_out[b * nn + j];
            y = (h || i ? y : real(0)) + out.chain_in[b * nq + i] * r;
          }
        }
      }
      for (int64_t d = 0; d < z.width; ++d) {
        for (int64_t i = 0; i < nq && out.dq; ++i) {
          real sum = 0;
          for (int64_t j = 0; j < nn; ++j) sum += ds[size_t(i * nn + j)] * k[at_k(j) + d];
          out.dq[at_q(i) + d] = sum;
        }
        for (int64_t j = 0; j < nn; ++j) {
          real sum_k = 0, sum_v = 0;
          for (int64_t i = 0; i < nq; ++i) {
            sum_k += ds[size_t(i * nn + j)] * q[at_q(i) + d];
            sum_v += p[size_t(i * nn + j)] * dcontext[at_q(i) + d];
          }
          if (out.dk) out.dk[at_k(j) + d] = sum_k;
          if (out.dv) out.dv[at_k(j) + d] = sum_v;
        }
      }
    }
  });
}
}  // namespace whence::k
