// Which kernels of attention are launched for what is asked, the portable ones and those on tensor
// cores alike. A variant is a struct whose members launch a kernel each:
//
//   context(p, context, stats)            the context and the statistics of the rows of p
//   capture(p, runs, stats, probs, sums)  P, and its sums over the runs of heads
//
// and for the gradients
//
//   row_stats(weights, kept)              what makes P of scores, and dot
//   queries(kept, dq)
//   keys(parts, kept, results)            dk, dv and the parts of the chain
//   maps(p, runs, kept, results)          G, and sums over the runs of heads
//
// The kernels themselves share no loops: a portable block holds a whole map of 64 x 64 in shared
// memory, a warp on tensor cores pieces of 16 x 16 in registers.
#pragma once

#include "kernels/cuda/attention_scratch.cuh"

namespace whence::WHENCE_GPU::map_tile {

template <class Variant>
void run_attention(Stream& s, const Problem& all, real* context, const k::AttentionCapture& out,
                   const Variant& launch) {
  const k::AttentionSize& z = all.size;
  const bool maps = out.probs || out.head_mean;
  const HeadRuns runs = out.head_mean ? HeadRuns::mean(all) : HeadRuns::single(all);
  RowStats* stats = nullptr;
  real* sums = out.head_mean;
  if (maps || out.row) {
    const int64_t rows = z.batch * z.heads * z.queries, extra = out.head_mean ? runs.scratch(z) : 0;
    stats = static_cast<RowStats*>(
        s.scratch(size_t(rows) * sizeof(RowStats) + size_t(extra) * sizeof(real)));
    if (extra > 0) sums = reinterpret_cast<real*>(stats + rows);
  }
  launch.context(context || maps ? all : all.only_row(out.row_index), context, stats);
  if (maps) launch.capture(all, runs, stats, out.probs, sums);
  if (sums != out.head_mean)
    add_parts(s, sums, z.batch, runs.count, z.queries * z.keys, 1 / real(z.heads), out.head_mean);
  if (out.row) {
    const Problem row = all.only_row(out.row_index);
    launch.capture(row, HeadRuns::single(row), stats, out.row, nullptr);
  }
}

template <class Variant>
void run_attention_bwd(Stream& s, const Problem& p, const k::AttentionGradients& out,
                       const Variant& launch) {
  const k::AttentionSize& z = p.size;
  const bool chain = out.chain_out, dot = out.dq || out.dk;
  const bool means = out.dprobs_mean || out.relevance;
  const ChainParts parts(p.query_tiles());
  const HeadRuns runs = means ? HeadRuns::mean(p) : HeadRuns::single(p);
  const Scratch scratch(s, z, out, dot, parts, runs);
  const Kept& kept = scratch.kept;
  if (dot || out.dv || out.relevance)
    launch.row_stats(nullptr, kept);
  else if (chain)
    launch.row_stats(out.chain_in, kept);
  if (out.dq) launch.queries(kept, out.dq);
  if (out.dk || out.dv || chain)
    launch.keys(parts, kept, KeyResults{out.dk, out.dv, chain ? out.chain_in : nullptr});
  // The parts of a head, then the next head.
  if (chain)
    add_parts(s, kept.chain, z.batch, z.heads * parts.count, z.keys, 1 / real(z.heads),
              out.chain_out);
  const MapResults& sums = scratch.sums;
  if (out.dprobs || means) launch.maps(p, runs, kept, sums);
  const auto add_runs = [&](const real* part, real* mean) {
    if (part != mean)
      add_parts(s, part, z.batch, runs.count, z.queries * z.keys, 1 / real(z.heads), mean);
  };
  add_runs(sums.mean, out.dprobs_mean);
  add_runs(sums.relevance, out.relevance);
  if (out.dprobs_row && z.queries > 0) {
    const Problem row = p.only_row(out.row_index);
    launch.maps(row, HeadRuns::single(row), kept, MapResults{out.dprobs_row, nullptr, nullptr});
  }
}

}  // namespace whence::WHENCE_GPU::map_tile
