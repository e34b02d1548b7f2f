// Scaled dot-product attention, forward and backward, with the captures that explanation methods
// read. Capture is an output of the kernel, never a reason to materialise [B,H,N,N] maps.
//
// Letters: B samples, H heads, Q query rows, N keys, D width of a head. q and context are
// [B, Q, H*D], k and v are [B, N, H*D] (head h is columns h*D .. h*D+D-1); maps are
// [query, key]; rows of P sum to 1.
//   S = scale q k^T    P = softmax_rows(S)    context = P v
//   G = dcontext v^T   dS = P * (G - rowsum(P * G))
//   dq = scale dS k    dk = scale dS^T q      dv = P^T dcontext
// An output pointer that is null is not computed.
#pragma once

#include "kernels/kernel.h"

namespace whence::k {

struct AttentionSize {
  int64_t batch, heads, queries, keys, width;
};

struct AttentionCapture {
  real* probs = nullptr;      // [B, H, Q, N]  P
  real* head_mean = nullptr;  // [B, Q, N]     mean over heads of P
  real* row = nullptr;        // [B, H, N]     P of the query row `row_index`
  int64_t row_index = 0;
};
WHENCE_KERNEL(attention, const real* q, const real* k, const real* v, const AttentionSize& size,
              real scale, real* context /* [B,Q,H*D] or null */, const AttentionCapture& capture);

struct AttentionGradients {
  real* dq = nullptr;           // [B, Q, H*D]
  real* dk = nullptr;           // [B, N, H*D]
  real* dv = nullptr;           // [B, N, H*D]
  real* dprobs = nullptr;       // [B, H, Q, N]  G
  real* dprobs_mean = nullptr;  // [B, Q, N]     mean over heads of G
  real* dprobs_row = nullptr;   // [B, H, N]     G of the query row `row_index`
  int64_t row_index = 0;
  real* relevance =
      nullptr;  // [B, Q, N]     mean over heads of max(P * G, 0)  (Chefer et al. 2021, eq. 5)
  // chain_out[b, n] = sum_q chain_in[b, q] * mean_h max(P * G, 0)[b, q, n]: one row vector pushed
  // through the relevance map without the map ever reaching memory.
  const real* chain_in = nullptr;  // [B, Q]
  real* chain_out = nullptr;       // [B, N]
};
WHENCE_KERNEL(attention_bwd, const real* q, const real* k, const real* v, const real* dcontext,
              const AttentionSize& size, real scale, const AttentionGradients& out);

}  // namespace whence::k
