// What an op does that does not say otherwise.
#include "whence/op.h"

#include "runtime/check.h"
#include "whence/ops.h"
#include "whence/rules.h"

namespace whence {

Value Emit::in(int i) const {
  const Value v = whole(i);
  return samples && wants(i) ? slice(v, 0, 0, *samples) : v;
}
Value Emit::out(int i) const {
  const Value v{&graph, node, i};
  return samples ? slice(v, 0, 0, *samples) : v;
}

Values Op::vjp(const Emit&, std::span<const Value>) const {
  fail(ErrorCode::unsupported, "{} has no gradient rule", kind());
}

Value Op::inner_gradient(const Emit&, int output, Value) const {
  fail(ErrorCode::unsupported, "{} has no gradient by its output {}", kind(), output);
}

Values Op::vjp_by(const Emit& e, const GradientRule& rule, Value) const {
  fail(ErrorCode::unsupported, "{} '{}' does not know the rule {}", kind(),
       e.graph.node(e.node).name, to_string(rule));
}

Values Op::relprop(const RelevanceEmit& e, const RelevanceRule& rule, Value r) const {
  if (std::holds_alternative<rule::Pass>(rule)) {
    if (traits().move) return vjp(e, std::span(&r, 1));
    if (r.shape() == e.in(0).shape()) return {r};
  }
  const auto* norm = std::get_if<rule::Norm>(&rule);
  const auto* epsilon = std::get_if<rule::Epsilon>(&rule);
  if (norm || epsilon) {
    const Value share = divide(r, e.out(), norm ? norm->by : epsilon->by);
    Values parts = vjp(e, std::span(&share, 1));
    for (size_t i = 0; i < parts.size(); ++i)
      if (parts[i] && e.wanted[i]) parts[i] = mul(e.in(int(i)), parts[i]);
    return parts;
  }
  fail(ErrorCode::unsupported, "{} '{}' does not know the rule {}", kind(),
       e.graph.node(e.node).name, to_string(rule));
}

}  // namespace whence
