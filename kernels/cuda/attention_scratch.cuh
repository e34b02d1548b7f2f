// What the gradients of attention leave in device scratch from one kernel to the next, in the
// portable and the tensor-core variant alike.
#pragma once

#include "kernels/cuda/attention.cuh"

namespace whence::WHENCE_GPU::map_tile {

inline constexpr int64_t most_chain_parts = 8;

// Part i of the chain has the query tiles [i size, (i + 1) size).
struct ChainParts {
  int64_t size, count;
  explicit ChainParts(int64_t query_tiles)
      : size(std::max<int64_t>(1, pieces(query_tiles, most_chain_parts))),
        count(pieces(query_tiles, size)) {}
};

// What one kernel leaves in scratch for the next.
struct Kept {
  RowStats* stats;  // [B, H, Q]
  real* dot;        // [B, H, Q]         rowsum(P * G), or null
  real* chain;      // [B, H, parts, N]  or null
};

// Does no query of the tile that starts at `weights` take part in the chain?
__device__ inline bool all_zero(const real* weights, int count) {
  bool zero = true;
  for (int i = 0; i < count; ++i) zero = zero && weights[i] == 0;
  return zero;
}

// G [B, H, ...] and the sums over runs of heads [B, runs, ...] of G and max(P * G, 0); null: not
// asked for.
struct MapResults {
  real *dprobs, *mean, *relevance;
};

// dk, dv, and what weighs the queries in the chain (chain_in); null: not asked for.
struct KeyResults {
  real *dk, *dv;
  const real* weights;
};

// What the kernels need of scratch; null where it is not.
struct Scratch {
  Kept kept{};
  MapResults sums{};  // of the runs of heads, or the results themselves
  Scratch(Stream& s, const k::AttentionSize& z, const k::AttentionGradients& out, bool dot,
          const ChainParts& parts, const HeadRuns& runs) {
    const int64_t rows = z.batch * z.heads * z.queries, map = runs.scratch(z);
    const int64_t dots = dot ? rows : 0;
    const int64_t chain = out.chain_out ? z.batch * z.heads * parts.count * z.keys : 0;
    const int64_t maps = (out.dprobs_mean ? map : 0) + (out.relevance ? map : 0);
    kept.stats = static_cast<RowStats*>(
        s.scratch(size_t(rows) * sizeof(RowStats) + size_t(dots + chain + maps) * sizeof(real)));
    real* at = reinterpret_cast<real*>(kept.stats + rows);
    const auto take = [&](bool wanted, int64_t count) {
      return wanted ? (at += count) - count : nullptr;
    };
    kept.dot = take(dot, dots);
    kept.chain = take(out.chain_out, chain);
    sums = {out.dprobs, out.dprobs_mean, out.relevance};
    if (map == 0) return;
    sums.mean = take(out.dprobs_mean, map);
    sums.relevance = take(out.relevance, map);
  }
};

}  // namespace whence::WHENCE_GPU::map_tile
