#include "runtime/ops/attention.h"

#include "runtime/ops/norm.h"
#include "whence/rules.h"

namespace whence {
namespace {

k::AttentionSize size_of(const Shape& q, const Shape& keys, int64_t heads) {
  return {q[0], heads, q[1], keys[1], q[2] / heads};
}

const AttentionOp& op_of(const Attention& a) {
  const auto* op = dynamic_cast<const AttentionOp*>(a.context.graph->node(a.context).op.get());
  if (!op) fail_usage("the value is not the context of an attention");
  return *op;
}

Value operand(const Attention& a, int i) { return a.context.graph->node(a.context).in[size_t(i)]; }

Value grad_output(const Attention& a, Value dcontext, int output, Value r = {}) {
  const AttentionOp& op = op_of(a);
  Values in{operand(a, 0), operand(a, 1), operand(a, 2), dcontext};
  if (r) in.push_back(r);
  Value v = emit<AttentionGrad>(std::move(in), op.heads, op.scale, bool(r));
  v.output = output;
  return v;
}

}  // namespace

std::vector<Type> AttentionOp::infer(std::span<const Type> in) const {
  expect_real(kind(), in);
  const Shape &q = in[0].shape, &k = in[1].shape, &v = in[2].shape;
  if (q.rank() != 3 || k.rank() != 3 || k != v || q[0] != k[0] || q[2] != k[2])
    fail_shape("attention: q {}, k {}, v {} must be [B, Q, W], [B, N, W], [B, N, W]", to_string(q),
               to_string(k), to_string(v));
  if (heads < 1 || q[2] % heads != 0)
    fail_shape("attention: a width of {} is not divisible by {} heads", q[2], heads);
  return {Type{q}, Type{{q[0], heads, q[1], k[1]}}, Type{{q[0], q[1], k[1]}}};
}

void AttentionOp::run(Stream& s, std::span<const View> in, std::span<const View> out) const {
  k::AttentionCapture capture;
  capture.probs = out[1].out();
  capture.head_mean = out[2].out();
  const auto size = size_of(in[0].shape(), in[1].shape(), heads);
  on(s, [&](auto& q) {
    k::attention(q, in[0].in(), in[1].in(), in[2].in(), size, scale, out[0].out(), capture);
  });
}

Values AttentionOp::vjp(const Emit& e, std::span<const Value> dy) const {
  if (dy[1] || dy[2])
    fail(ErrorCode::unsupported,
         "attention: a gradient through captured probabilities is not supported; write the softmax "
         "and "
         "the two products out instead");
  const Value dq = emit<AttentionGrad>({e.in(0), e.in(1), e.in(2), dy[0]}, heads, scale);
  Values d(3);
  for (int i = 0; i < 3; ++i)
    if (e.wants(i)) d[size_t(i)] = Value{&e.graph, dq.node, i};
  return d;
}

Value AttentionOp::inner_gradient(const Emit& e, int output, Value dy) const {
  if (output != 1) return Op::inner_gradient(e, output, dy);
  return grad_output({e.out(0), {}, {}}, dy, AttentionGrad::dprobs);
}

namespace {

Value by_head(Value x, int64_t heads) {  // [B, N, H*D] -> [B, N, H, D]
  const Shape& s = x.shape();
  return reshape(x, {s[0], s[1], heads, s[2] / heads});
}

}  // namespace

// context = P V and scores = Q K^T share their relevance between their factors: in Halves half of
// each one's proportional part, in Taylor by twice the product. Between them lies the softmax of
// scale * scores, which passes or is expanded.
Values AttentionOp::relprop(const RelevanceEmit& e, const RelevanceRule& rule, Value r) const {
  const bool halves = std::holds_alternative<rule::Halves>(rule);
  const auto* taylor = std::get_if<rule::Taylor>(&rule);
  const auto* constant = std::get_if<rule::ConstantProbabilities>(&rule);
  if (!halves && !taylor && !constant) return Op::relprop(e, rule, r);
  const Value q = by_head(e.in(0), heads), k = by_head(e.in(1), heads), v = by_head(e.in(2), heads);
  const auto quotient = [&](Value a, Value b) {
    if (taylor) return divide(a, whence::scale(b, 2), taylor->by);
    return divide(a, b, constant ? constant->by : Stabiliser{Stabiliser::guarded, 1e-9});
  };
  const auto part = [&](Value x, Value back) {
    return halves ? whence::scale(mul(x, back), real(0.5)) : mul(x, back);
  };
  const auto part_of = [&](int i, Value x, Value back) {
    return e.wants(i) ? reshape(part(x, back), e.in(i).shape()) : Value{};
  };
  const Value share = by_head(quotient(r, e.out()), heads), probs = e.out(1);
  Values all(5);
  if (e.wants(2)) all[2] = part_of(2, v, einsum(probs, share, "bhqn,bqhd->bnhd"));
  if (constant) return all;
  all[3] = part(probs, einsum(share, v, "bqhd,bnhd->bhqn"));
  if (!e.wants(0) && !e.wants(1)) return all;
  const Value scores = einsum(q, k, "bqhd,bnhd->bhqn");
  Value of_scores = all[3];
  if (taylor) of_scores = softmax_relevance(whence::scale(scores, scale), probs, of_scores);
  const Value by_score = quotient(of_scores, scores);
  if (e.wants(0)) all[0] = part_of(0, q, einsum(by_score, k, "bhqn,bnhd->bqhd"));
  if (e.wants(1)) all[1] = part_of(1, k, einsum(by_score, q, "bhqn,bqhd->bnhd"));
  return all;
}

double AttentionOp::flops(std::span<const Type> in, std::span<const Type>) const {
  return 4.0 * double(in[0].shape.count()) * double(in[1].shape[1]);
}

std::vector<Type> AttentionRow::infer(std::span<const Type> in) const {
  const Shape &q = in[0].shape, &k = in[1].shape;
  if (index < 0 || index >= q[1]) fail_shape("attention_row: row {} of {}", index, q[1]);
  return {Type{{q[0], heads, k[1]}}};
}

void AttentionRow::run(Stream& s, std::span<const View> in, std::span<const View> out) const {
  k::AttentionCapture capture;
  capture.row = out[0].out();
  capture.row_index = index;
  const auto size = size_of(in[0].shape(), in[1].shape(), heads);
  on(s, [&](auto& q) {
    k::attention(q, in[0].in(), in[1].in(), nullptr, size, scale, nullptr, capture);
  });
}

std::vector<Type> AttentionGrad::infer(std::span<const Type> in) const {
  const Shape &q = in[0].shape, &k = in[1].shape;
  if (in[3].shape != q)
    fail_shape("attention_bwd: the cotangent has shape {}, the context {}", to_string(in[3].shape),
               to_string(q));
  if (chain && in[4].shape != Shape{q[0], q[1]})
    fail_shape("attention_bwd: the chained row has shape {}, [{}, {}] is needed",
               to_string(in[4].shape), q[0], q[1]);
  const Type map{{q[0], q[1], k[1]}};
  return {Type{q}, Type{k}, Type{k}, Type{{q[0], heads, q[1], k[1]}}, map, map, Type{{q[0], k[1]}}};
}

void AttentionGrad::run(Stream& s, std::span<const View> in, std::span<const View> out) const {
  k::AttentionGradients g;
  g.dq = out[dq].out();
  g.dk = out[dk].out();
  g.dv = out[dv].out();
  g.dprobs = out[dprobs].out();
  g.dprobs_mean = out[dprobs_mean].out();
  g.relevance = out[relevance_map].out();
  g.chain_out = out[chained].out();
  if (chain) g.chain_in = in[4].in();
  const auto size = size_of(in[0].shape(), in[1].shape(), heads);
  on(s, [&](auto& q) {
    k::attention_bwd(q, in[0].in(), in[1].in(), in[2].in(), in[3].in(), size, scale, g);
  });
}

double AttentionGrad::flops(std::span<const Type> in, std::span<const Type>) const {
  return 10.0 * double(in[0].shape.count()) * double(in[1].shape[1]);
}

std::vector<Type> AttentionGradRow::infer(std::span<const Type> in) const {
  const Shape &v = in[0].shape, &d = in[1].shape;
  if (index < 0 || index >= d[1]) fail_shape("attention_bwd_row: row {} of {}", index, d[1]);
  return {Type{{v[0], heads, v[1]}}};
}

void AttentionGradRow::run(Stream& s, std::span<const View> in, std::span<const View> out) const {
  k::AttentionGradients g;
  g.dprobs_row = out[0].out();
  g.row_index = index;
  const auto size = size_of(in[1].shape(), in[0].shape(), heads);
  on(s, [&](auto& q) {
    k::attention_bwd(q, nullptr, nullptr, in[0].in(), in[1].in(), size, real(1), g);
  });
}

Attention attention(Value q, Value k, Value v, int64_t heads, real scale) {
  const Value c = emit<AttentionOp>({q, k, v}, heads, scale);
  return {c, {c.graph, c.node, 1}, {c.graph, c.node, 2}};
}

Value attention_row(const Attention& a, int64_t row) {
  const AttentionOp& op = op_of(a);
  return emit<AttentionRow>({slice(operand(a, 0), 1, row, row + 1), operand(a, 1)}, op.heads,
                            op.scale, int64_t(0));
}
Value attention_gradient_row(const Attention& a, Value dcontext, int64_t row) {
  return emit<AttentionGradRow>({operand(a, 2), slice(dcontext, 1, row, row + 1)}, op_of(a).heads,
                                int64_t(0));
}
Value attention_gradient_mean(const Attention& a, Value dcontext) {
  return grad_output(a, dcontext, AttentionGrad::dprobs_mean);
}
Value attention_relevance(const Attention& a, Value dcontext) {
  return grad_output(a, dcontext, AttentionGrad::relevance_map);
}
Value attention_relevance_chain(const Attention& a, Value dcontext, Value r) {
  return grad_output(a, dcontext, AttentionGrad::chained, r);
}

}  // namespace whence
