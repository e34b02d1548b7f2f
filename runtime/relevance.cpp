// Relevance by adding nodes: the walk of gradient.cpp, with a rule of the table in place of the
// gradient.
#include <algorithm>
#include <set>

#include "runtime/check.h"
#include "runtime/rule_rows.h"
#include "whence/op.h"
#include "whence/ops.h"

namespace whence {
namespace {

using Record = std::function<void(const RelevanceStep&)>;

class Walk {
 public:
  Walk(Value of, const Values& wrt, const RuleTable& table, const Record& record)
      : graph_(*of.graph),
        rules_(graph_, of.node, table),
        record_(record),
        wanted_(wrt.begin(), wrt.end()) {
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
    contributions_[of] = {seed};
    for (int n = of.node; n >= 0; --n)
      if (leads_[size_t(n)]) visit(n);
  }

  // What has come together at a value; empty if nothing has.
  Value result(Value v) {
    const auto it = contributions_.find(v);
    if (it == contributions_.end()) return {};
    Values& parts = it->second;
    if (parts.size() > 1) parts = {joined(v, parts)};
    return parts[0];
  }

 private:
  Value joined(Value x, const Values& parts) {
    const Rule& rule = rules_.of_fanout(x);
    const auto* clone = std::get_if<rule::Clone>(&rule);
    if (!clone && !std::holds_alternative<rule::Sum>(rule))
      fail(ErrorCode::unsupported, "rule {} is not one for a fanout (Sum or Clone)",
           to_string(rule));
    Value sum, shares;
    for (Value part : parts) {
      if (record_ || !clone) sum = sum ? add(sum, part) : part;
      const Value share = clone ? divide(part, x, clone->by) : Value{};
      if (clone) shares = shares ? add(shares, share) : share;
    }
    const Value met = clone ? mul(x, shares) : sum;
    if (record_ && clone) record_({x, "fanout", to_string(rule), sum, {met}});
    return met;
  }

  void visit(int n) {
    const Node& node = graph_.node(n);
    const Value out{&graph_, n, 0}, r = result(out);
    if (!r || !node.op) return;
    const Rule& rule = rules_.of_node(n);
    Emit e{graph_, n, {}, rules_.merged_norm(n)};
    for (Value v : node.in) e.wanted.push_back(leads_[size_t(v.node)]);
    for (int o = 1; o < int(node.out.size()); ++o)
      e.wanted.push_back(wanted_.contains(Value{&graph_, n, o}));
    if (std::none_of(e.wanted.begin(), e.wanted.end(), [](bool w) { return w; })) return;
    RelevanceStep step{out, std::string(node.op->kind()), to_string(rule), r, {}};
    if (record_) e.absorbed = &step.absorbed;
    const Values parts = node.op->relprop(e, rule, r);
    for (size_t i = 0; i < parts.size(); ++i) {
      if (!parts[i] || !e.wanted[i]) continue;
      const bool input = i < node.in.size();
      contributions_[input ? node.in[i] : Value{&graph_, n, int(i - node.in.size()) + 1}].push_back(
          parts[i]);
      step.parts.push_back(parts[i]);
    }
    if (record_) record_(step);
  }

  Graph& graph_;
  RuleRows rules_;
  const Record& record_;
  std::set<Value> wanted_;
  std::vector<bool> leads_;
  std::map<Value, Values> contributions_;
};

}  // namespace

Values Op::relprop(const Emit& e, const Rule& rule, Value r) const {
  if (std::holds_alternative<rule::Pass>(rule)) {
    if (rearranges()) return vjp(e, std::span(&r, 1));
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

Values relevance(Value of, Value seed, const Values& wrt, const RuleTable& rules,
                 const Record& record) {
  if (!of || !seed) fail_usage("relevance needs a value and a seed");
  if (seed.shape() != of.shape())
    fail_shape("the seed has shape {}, the value it seeds {}", to_string(seed.shape()),
               to_string(of.shape()));
  Walk walk(of, wrt, rules, record);
  walk.run(of, seed);
  Values results;
  for (Value w : wrt) {
    results.push_back(walk.result(w));
    if (!results.back())
      fail(ErrorCode::keys, "'{}' does not depend on '{}', so no relevance comes there",
           of.graph->node(of).name, w.graph->node(w).name);
  }
  return results;
}

}  // namespace whence
