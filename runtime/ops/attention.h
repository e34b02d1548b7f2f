// Attention as one operator with several outputs; what a plan does not keep is not computed.
#pragma once

#include "kernels/attention.h"
#include "runtime/ops/op_common.h"

namespace whence {

// Inputs q [B,Q,H*D], k, v [B,N,H*D]. Outputs context, probs, probs_mean.
struct AttentionOp final : Op {
  AttentionOp(int64_t heads_, real scale_) : heads(heads_), scale(scale_) {}
  std::string_view kind() const override { return "attention"; }
  std::string detail() const override { return fmt::format("heads={}", heads); }
  std::vector<Type> infer(std::span<const Type> in) const override;
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override;
  Values vjp(const Emit& e, std::span<const Value> dy) const override;
  Value inner_gradient(const Emit& e, int output, Value dy) const override;
  Values relprop(const RelevanceEmit& e, const RelevanceRule& rule, Value r) const override;
  RowFlow row_flow(std::span<const Type>) const override {
    return {RowFlow::by_row, 1, 0, false, 1, 0};
  }
  double flops(std::span<const Type> in, std::span<const Type> out) const override;
  int64_t heads;
  real scale;
};

// Inputs q, k. Output [B,H,N]: the probabilities of query row `index`.
struct AttentionRow final : Op {
  AttentionRow(int64_t heads_, real scale_, int64_t index_)
      : heads(heads_), scale(scale_), index(index_) {}
  std::string_view kind() const override { return "attention_row"; }
  std::string detail() const override { return fmt::format("row={}", index); }
  std::vector<Type> infer(std::span<const Type> in) const override;
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override;
  int64_t heads;
  real scale;
  int64_t index;
};

// Inputs q, k, v, dcontext, and r [B,Q] where `chain`. Everything that follows from the cotangent
// of the context; two of these with equal first four inputs are merged by a plan.
struct AttentionGrad final : Op {
  enum Output { dq, dk, dv, dprobs, dprobs_mean, relevance_map, chained, output_count };
  AttentionGrad(int64_t heads_, real scale_, bool chain_ = false)
      : heads(heads_), scale(scale_), chain(chain_) {}
  std::string_view kind() const override { return "attention_bwd"; }
  std::string detail() const override { return chain ? "chain" : ""; }
  std::vector<Type> infer(std::span<const Type> in) const override;
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override;
  // Rows whose dcontext vanishes add nothing to any output and are zero in dq.
  RowFlow row_flow(std::span<const Type> in) const override {
    return {RowFlow::contract, in.size() > 4 ? 0b11001u : 0b1001u, 0b1000, false,
            1u << dq,          1u << dk | 1u << dv | 1u << chained};
  }
  double flops(std::span<const Type> in, std::span<const Type> out) const override;
  int64_t heads;
  real scale;
  bool chain;
};

// Inputs v, dcontext. Output [B,H,N]: G of query row `index`, dcontext[index] v^T.
struct AttentionGradRow final : Op {
  AttentionGradRow(int64_t heads_, int64_t index_) : heads(heads_), index(index_) {}
  std::string_view kind() const override { return "attention_bwd_row"; }
  std::string detail() const override { return fmt::format("row={}", index); }
  std::vector<Type> infer(std::span<const Type> in) const override;
  void run(Stream& s, std::span<const View> in, std::span<const View> out) const override;
  int64_t heads, index;
};

}  // namespace whence
