// Reverse accumulation (Linnainmaa 1970) by adding nodes: walk back from `of`, ask each op for its
// contribution to the inputs that lead to a wanted value, and add contributions where they meet.
#include <algorithm>
#include <optional>
#include <set>

#include "runtime/check.h"
#include "runtime/rule_rows.h"
#include "whence/op.h"
#include "whence/ops.h"

namespace whence {
namespace {

// Sums a cotangent over the axes along which its value was broadcast.
Value sum_to(Value dy, const Shape& shape) {
  if (dy.shape() == shape) return dy;
  std::vector<int> axes;
  const int extra = dy.shape().rank() - shape.rank();
  for (int i = 0; i < dy.shape().rank(); ++i)
    if (i < extra || (shape[i - extra] == 1 && dy.shape()[i] != 1)) axes.push_back(i);
  return reshape(axes.empty() ? dy : sum(dy, axes), shape);
}

class Reverse {
 public:
  // With a table its rows' rules replace the ops' own. samples: Emit::samples.
  Reverse(Value of, const Values& wrt, const RuleTable* table, int64_t samples)
      : graph_(*of.graph),
        wanted_(wrt.begin(), wrt.end()),
        samples_(samples),
        batch_(of.shape().rank() ? of.shape()[0] : 0) {
    if (table) rules_.emplace(graph_, of.node, *table);
    // leads[n]: node n is wanted or reads something that leads to a wanted value.
    leads_.resize(size_t(of.node) + 1, false);
    for (int n = 0; n <= of.node; ++n) {
      const Node& node = graph_.node(n);
      leads_[size_t(n)] = std::any_of(node.in.begin(), node.in.end(),
                                      [&](Value v) { return bool(leads_[size_t(v.node)]); });
      for (int o = 0; o < int(node.out.size()); ++o)
        if (wanted_.contains(Value{&graph_, n, o})) leads_[size_t(n)] = true;
    }
  }

  void run(Value of, Value seed) {
    meet(of, seed);
    for (int n = of.node; n >= 0; --n)
      if (leads_[size_t(n)]) visit(n);
  }

  Value result(Value w) const {
    auto it = cotangents_.find(w);
    return it == cotangents_.end() ? Value{} : it->second;
  }

 private:
  void meet(Value at, Value contribution) {
    contribution = sum_to(contribution, shape_of_cotangent(at));
    auto [it, first] = cotangents_.emplace(at, contribution);
    if (!first) it->second = add(it->second, contribution);
  }

  Shape shape_of_cotangent(Value at) const {
    const Shape& s = at.shape();
    if (!samples_) return s;
    if (s.rank() == 0 || s[0] != batch_)
      fail_shape("Rescale: '{}' has shape {}, and the batch {} samples", graph_.node(at.node).name,
                 to_string(s), batch_);
    return s.with(0, samples_);
  }

  void visit(int n) {
    const int outputs = int(graph_.node(n).out.size());
    Values dy(static_cast<size_t>(outputs));
    bool reached = false;
    for (int o = 0; o < outputs; ++o)
      if (Value d = result(Value{&graph_, n, o})) dy[size_t(o)] = d, reached = true;
    const Node& node = graph_.node(n);
    if (!reached || !node.op) return;
    Emit e{graph_, n, {}, -1, nullptr, samples_};
    for (Value v : node.in) e.wanted.push_back(leads_[size_t(v.node)]);
    if (std::any_of(e.wanted.begin(), e.wanted.end(), [](bool w) { return w; })) {
      const Rule* rule = rules_ ? rules_->find_node(n) : nullptr;
      const Values contributions =
          rule && dy[0] ? node.op->relprop(e, *rule, dy[0]) : node.op->vjp(e, dy);
      for (size_t i = 0; i < contributions.size(); ++i)
        if (contributions[i] && e.wanted[i]) meet(node.in[i], contributions[i]);
    }
    for (int o = 1; o < outputs; ++o)  // inner values of the op, which nothing below may read
      if (wanted_.contains(Value{&graph_, n, o}) && dy[0])
        meet(Value{&graph_, n, o}, node.op->inner_gradient(e, o, dy[0]));
  }

  Graph& graph_;
  std::optional<RuleRows> rules_;
  std::set<Value> wanted_;
  int64_t samples_, batch_;
  std::vector<bool> leads_;
  std::map<Value, Value> cotangents_;
};

bool has_rescale(const RuleTable* rules) {
  return rules && std::ranges::any_of(rules->rows, [](const RuleRow& row) {
           return std::holds_alternative<rule::Rescale>(row.rule);
         });
}

// Emit::samples of a gradient; throws what does not fit.
int64_t samples_of(const Shape& of, const Shape& seed, bool with_references) {
  if (!with_references && seed == of) return 0;
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

Values gradient_by(Value of, Value seed, const Values& wrt, Unused unused, const RuleTable* rules) {
  if (!of || !seed) fail_usage("a gradient needs a value and a seed");
  Reverse reverse(of, wrt, rules, samples_of(of.shape(), seed.shape(), has_rescale(rules)));
  reverse.run(of, seed);
  Values results;
  for (Value w : wrt) {
    Value g = reverse.result(w);
    if (!g && unused == Unused::error)
      fail(ErrorCode::keys, "'{}' does not depend on '{}', so it has no gradient there",
           of.graph->node(of).name, w.graph->node(w).name);
    results.push_back(g ? g : scale(w, 0));
  }
  return results;
}

}  // namespace

Value Emit::in(int i) const {
  const Value v = whole(i);
  return samples && wants(i) ? slice(v, 0, 0, samples) : v;
}
Value Emit::out(int i) const {
  const Value v{&graph, node, i};
  return samples ? slice(v, 0, 0, samples) : v;
}

Values gradient(Value of, Value seed, const Values& wrt, Unused unused) {
  return gradient_by(of, seed, wrt, unused, nullptr);
}
Values gradient(Value of, Value seed, const Values& wrt, const RuleTable& rules) {
  return gradient_by(of, seed, wrt, Unused::error, &rules);
}

}  // namespace whence
