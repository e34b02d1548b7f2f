// Attention on tensor cores with factors rounded to bf16 (Precision::bf16): what attention() and
// attention_bwd() do where the stream asks for it, and the softmax that their kernels share.
#pragma once

#include "kernels/attention.h"
#include "kernels/cuda/gpu.cuh"
#ifndef WHENCE_F64
#include "kernels/cuda/attention_scratch.cuh"
#include "kernels/cuda/tensor_tile.cuh"
#endif

namespace whence::k {

#ifdef WHENCE_F64
// The double-precision build has no tensor cores.
inline bool attention_on_tensor_cores(Precision, int64_t) { return false; }
inline void tensor_attention(gpu::Stream&, const real*, const real*, const real*,
                             const AttentionSize&, real, real*, const AttentionCapture&) {}
inline void tensor_attention_bwd(gpu::Stream&, const real*, const real*, const real*, const real*,
                                 const AttentionSize&, real, const AttentionGradients&) {}
#else
// Whole 8x8 matrices, and sums that fit into registers; other widths are computed in f32. Decided
// by the width alone, so that bits do not depend on what shares a call.
inline bool attention_on_tensor_cores(Precision precision, int64_t width) {
  return precision == Precision::bf16 && width > 0 && width % 8 == 0 && width <= 128;
}
void tensor_attention(gpu::Stream& s, const real* q, const real* k, const real* v,
                      const AttentionSize& z, real scale, real* context,
                      const AttentionCapture& out);
void tensor_attention_bwd(gpu::Stream& s, const real* q, const real* k, const real* v,
                          const real* dcontext, const AttentionSize& z, real scale,
                          const AttentionGradients& out);

// G and, with the `stats` [B, H, Q], max(P * G, 0), with their sums over runs of heads.
void tensor_attention_maps(gpu::Stream& s, const gpu::map_tile::Problem& p,
                           const gpu::map_tile::HeadRuns& runs,
                           const gpu::map_tile::RowStats* stats,
                           const gpu::map_tile::MapResults& out);
#endif

}  // namespace whence::k

#ifndef WHENCE_F64

namespace whence::WHENCE_GPU::tensor_tile {

// Scores times scale log2(e) are exponents of two.
__device__ inline float to_exponents(real scale) { return scale * 1.44269504f; }
__device__ inline float probability(const RowStats& row, float score, float factor) {
  return std::exp2((score - row.top) * factor) * row.inverse;
}

// Softmax statistics of a thread's two rows while tiles of keys come one after the other: the
// largest score so far and this thread's part of the sum of exponentials relative to it.
struct RowSoftmax {
  float top[2] = {lowest, lowest}, sum[2] = {};

  // A row whose scores are all -inf so far has exponentials of 0, and a sum of 0 in the end.
  __device__ float origin(int h) const { return top[h] == lowest ? 0.f : top[h]; }

  // s becomes exp(scale (s - top)), 0 from `cols` on; what was summed up before counts decay times.
  __device__ void add(int cols, float factor, Piece (&s)[steps], float (&decay)[2]) {
    const map_tile::LargerNumber larger;
    for (int h = 0; h < 2; ++h) {
      float best = top[h];
      for (int i = 0; i < steps; ++i)
        for (int b = 0; b < 2; ++b)
          for (int e = 2 * h; e < 2 * h + 2; ++e)
            if (own_col(i * step, b, e) < cols) best = larger(best, s[i][b][e]);
      best = join_lanes(best, larger);
      decay[h] = best == top[h]     ? 1.f
                 : top[h] == lowest ? 0.f
                                    : std::exp2((top[h] - best) * factor);
      top[h] = best;
      sum[h] *= decay[h];
      for (int i = 0; i < steps; ++i)
        for (int b = 0; b < 2; ++b)
          for (int e = 2 * h; e < 2 * h + 2; ++e) {
            float& x = s[i][b][e];
            x = own_col(i * step, b, e) < cols ? std::exp2((x - origin(h)) * factor) : 0.f;
            sum[h] += x;
          }
    }
  }
  // All threads of the warp call.
  __device__ RowStats finish(int h) const { return {origin(h), 1 / join_lanes(sum[h], Add{})}; }
};

// x becomes P of a piece; 0 from `cols` on. `rows` are those of the thread's two rows.
__device__ inline void to_probabilities(const RowStats (&rows)[2], int first, int cols,
                                        float factor, Piece& x) {
  for (int b = 0; b < 2; ++b)
    for (int e = 0; e < 4; ++e)
      x[b][e] = own_col(first, b, e) < cols ? probability(rows[e / 2], x[b][e], factor) : 0.f;
}

// The statistics of a thread's two rows; probabilities are 0 in rows that do not exist.
__device__ inline void load_stats(const RowStats* of_tile, int height, RowStats (&rows)[2]) {
  for (int h = 0; h < 2; ++h) rows[h] = own_row(h) < height ? of_tile[own_row(h)] : RowStats{0, 0};
}

}  // namespace whence::WHENCE_GPU::tensor_tile

#endif
