// y = s (W x + b - mean) + bias with s = weight / sqrt(variance + eps) is a convolution with the
// weights s W and the bias s (b - mean) + bias; its gradient by x is that of the weights s W.
// Both are computed in the weights stage, so that runs never come across the norm.
#include "runtime/ops/conv.h"
#include "runtime/passes/passes.h"

namespace whence {
namespace {

class FoldPass {
 public:
  explicit FoldPass(const Program& p)
      : program_(p), graph_(*p.graph), readers_(readers(p)), rewrite_(p) {}

  Program run() {
    for (int n = 0; n < graph_.size(); ++n) {
      const Node& node = graph_.node(n);
      if (const auto* norm = dynamic_cast<const BatchNorm*>(node.op.get()))
        if (const int conv = folded_conv(node); conv >= 0) merged_[conv] = n, norms_[n] = norm->eps;
      if (dynamic_cast<const ConvGrad*>(node.op.get()))
        if (const int norm = folded_grad(node); norm >= 0) merged_[norm] = n;
    }
    for (int n = 0; n < graph_.size(); ++n) {
      const Node& node = graph_.node(n);
      if (merged_.contains(n)) continue;
      if (norms_.contains(n))
        emit_conv(n, graph_.node(node.in[0]));
      else if (dynamic_cast<const ConvGrad*>(node.op.get()) && merged_.contains(node.in[0].node))
        emit_grad(n, graph_.node(node.in[0]));
      else
        rewrite_.copy(n);
    }
    return rewrite_.finish();
  }

 private:
  bool read_once(Value v) const {
    const auto it = readers_.find(v);
    return it != readers_.end() && it->second.size() == 1;
  }
  bool constant(Value v) const { return graph_.node(v).stage == Stage::weights; }
  bool constants(const Values& in, size_t from) const {
    for (size_t i = from; i < in.size(); ++i)
      if (!constant(in[i])) return false;
    return true;
  }

  // The convolution that a norm can be folded into, or -1.
  int folded_conv(const Node& norm) const {
    const Node& conv = graph_.node(norm.in[0]);
    const bool fits = dynamic_cast<const Conv*>(conv.op.get()) && read_once(norm.in[0]) &&
                      constants(conv.in, 1) && constants(norm.in, 1);
    return fits ? norm.in[0].node : -1;
  }
  // The norm's gradient that a convolution's gradient can take over, or -1.
  int folded_grad(const Node& conv) const {
    const Node& norm = graph_.node(conv.in[0]);
    const bool fits = dynamic_cast<const BatchNormGrad*>(norm.op.get()) && read_once(conv.in[0]) &&
                      constants(conv.in, 1) && constants(norm.in, 1);
    return fits ? conv.in[0].node : -1;
  }

  // s, and s W, from operands of the program that is rewritten.
  Value scale_of(Value weight, Value variance, real eps) {
    auto& s = scales_[{weight, variance, eps}];
    if (!s) s = emit<NormScale>({rewrite_(weight), rewrite_(variance)}, eps);
    return s;
  }
  Value scaled(Value w, Value s) {
    auto& product = scaled_[{w, s}];
    if (!product) product = mul(rewrite_(w), reshape(s, {s.shape()[0], 1, 1, 1}));
    return product;
  }

  void emit_conv(int norm_id, const Node& conv) {
    const Values& norm = graph_.node(norm_id).in;  // x, weight, bias, mean, variance
    const Value s = scale_of(norm[1], norm[4], norms_.at(norm_id));
    const Value mean = rewrite_(norm[3]);
    const Value away = conv.in.size() > 2 ? sub(rewrite_(conv.in[2]), mean) : scale(mean, -1);
    const Value bias = add(mul(away, s), rewrite_(norm[2]));
    rewrite_.put(
        {program_.graph.get(), norm_id, 0},
        rewrite_.graph().add(conv.op, {rewrite_(conv.in[0]), scaled(conv.in[1], s), bias}));
  }

  void emit_grad(int conv_id, const Node& norm) {
    const Node& conv = graph_.node(conv_id);
    const real eps = static_cast<const BatchNormGrad&>(*norm.op).eps;
    const Value s = scale_of(norm.in[1], norm.in[2], eps);
    rewrite_.put({program_.graph.get(), conv_id, 0},
                 rewrite_.graph().add(conv.op, {rewrite_(norm.in[0]), scaled(conv.in[1], s)}));
  }

  const Program& program_;
  const Graph& graph_;
  std::map<Value, std::vector<int>> readers_;
  Rewriter rewrite_;
  std::map<int, int> merged_;  // a node that disappears -> the one it becomes part of
  std::map<int, real> norms_;  // a norm that becomes a convolution -> its epsilon
  std::map<std::tuple<Value, Value, real>, Value> scales_;
  std::map<std::pair<Value, Value>, Value> scaled_;  // by the old weight and the new scale
};

}  // namespace

Program fold_norms(Program program) { return FoldPass(program).run(); }

}  // namespace whence
