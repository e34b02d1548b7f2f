// Reverse accumulation (Linnainmaa 1970) by adding nodes: walk back from `of`, ask each op for its
// contribution to the inputs that lead to a wanted value, and add contributions where they meet.
#include <algorithm>

#include "runtime/check.h"
#include "runtime/rule_rows.h"
#include "runtime/walk.h"
#include "whence/op.h"
#include "whence/ops.h"

namespace whence {
namespace {

using Rules = std::vector<GradientRow>;

class GradientWalk final : public Walk {
 public:
  // The rows' rules replace the ops' own gradients. samples: Emit::samples.
  GradientWalk(Value of, const Values& wrt, const Rules& rules, std::optional<int64_t> samples)
      : Walk(of, wrt),
        rules_(rules),
        rows_(graph_, of.node),
        samples_(samples),
        batch_(of.shape().rank() ? of.shape()[0] : 0) {}

 private:
  void arrive(Value at, Value part) override {
    part = sum_to(part, shape_of_cotangent(at));
    auto [it, first] = cotangents_.emplace(at, part);
    if (!first) it->second = add(it->second, part);
  }

  Value arrived(Value at) override {
    const auto it = cotangents_.find(at);
    return it == cotangents_.end() ? Value{} : it->second;
  }

  Shape shape_of_cotangent(Value at) const {
    const Shape& s = at.shape();
    if (!samples_) return s;
    if (s.rank() == 0 || s[0] != batch_)
      fail_shape("Rescale: '{}' has shape {}, and the batch {} samples", graph_.node(at.node).name,
                 to_string(s), batch_);
    return s.with(0, *samples_);
  }

  void visit(int n) override {
    const Node& node = graph_.node(n);
    Values dy;
    for (int o = 0; o < int(node.out.size()); ++o) dy.push_back(arrived({&graph_, n, o}));
    if (!node.op || std::ranges::none_of(dy, [](Value d) { return bool(d); })) return;
    const Emit e{graph_, n, leading_inputs(n), samples_};
    if (std::ranges::find(e.wanted, true) != e.wanted.end()) {
      const GradientRule* rule = rows_.find(rules_, n);
      const Values parts = rule && dy[0] ? node.op->vjp_by(e, *rule, dy[0]) : node.op->vjp(e, dy);
      for (size_t i = 0; i < parts.size(); ++i)
        if (parts[i] && e.wanted[i]) arrive(node.in[i], parts[i]);
    }
    for (int o = 1; o < int(node.out.size());
         ++o)  // inner values of the op, which nothing below may read
      if (wanted({&graph_, n, o}) && dy[0])
        arrive({&graph_, n, o}, node.op->inner_gradient(e, o, dy[0]));
  }

  const Rules& rules_;
  RuleRows rows_;
  std::optional<int64_t> samples_;
  int64_t batch_;
  std::map<Value, Value> cotangents_;
};

// Emit::samples of a gradient; throws what does not fit.
std::optional<int64_t> samples_of(const Shape& of, const Shape& seed, const Rules& rules) {
  const bool with_references = std::ranges::any_of(rules, [](const GradientRow& row) {
    return std::holds_alternative<rule::Rescale>(row.rule);
  });
  if (!with_references && seed == of) return {};
  if (!with_references)
    fail_shape("the seed has shape {}, the value it seeds {}", to_string(seed), to_string(of));
  const int64_t n = seed.rank() ? seed[0] : 0, references = of.rank() ? of[0] - n : 0;
  if (n < 1 || seed != of.with(0, n) || (references != n && references != 1))
    fail_shape(
        "the seed has shape {}, and the value it seeds {}: Rescale needs a reference for "
        "each sample or one for all",
        to_string(seed), to_string(of));
  return n;
}

Values gradient_by(Value of, Value seed, const Values& wrt, Unused unused, const Rules& rules) {
  if (!of || !seed) fail_usage("a gradient needs a value and a seed");
  const auto samples = samples_of(of.shape(), seed.shape(), rules);
  Values results = GradientWalk(of, wrt, rules, samples).run(seed);
  for (size_t i = 0; i < wrt.size(); ++i) {
    if (results[i]) continue;
    if (unused == Unused::error)
      fail(ErrorCode::keys, "'{}' does not depend on '{}', so it has no gradient there",
           of.graph->node(of).name, wrt[i].graph->node(wrt[i]).name);
    results[i] = scale(wrt[i], 0);
  }
  return results;
}

}  // namespace

Values gradient(Value of, Value seed, const Values& wrt, Unused unused) {
  return gradient_by(of, seed, wrt, unused, {});
}
Values gradient(Value of, Value seed, const Values& wrt, const Rules& rules) {
  return gradient_by(of, seed, wrt, Unused::error, rules);
}

}  // namespace whence
