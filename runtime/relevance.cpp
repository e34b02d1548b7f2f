// Relevance by adding nodes: on the way back every op hands on what came to it by the rule that
// the table has for it.
#include <algorithm>

#include "runtime/check.h"
#include "runtime/ops/conv.h"
#include "runtime/rule_rows.h"
#include "runtime/walk.h"
#include "whence/op.h"
#include "whence/ops.h"

namespace whence {
namespace {

using Record = std::function<void(const RelevanceStep&)>;

// The batch norm that becomes part of a product because nothing else reads it, by product.
std::map<int, int> merged_norms(const Graph& graph, int last) {
  std::vector<int> readers(size_t(last) + 1);
  for (int n = 0; n <= last; ++n)
    for (Value v : graph.node(n).in) ++readers[size_t(v.node)];
  std::map<int, int> norms;
  for (int n = 0; n <= last; ++n) {
    const Node& node = graph.node(n);
    if (!dynamic_cast<const BatchNorm*>(node.op.get())) continue;
    const Node& product = graph.node(node.in[0]);
    if (product.op && product.op->traits().product && readers[size_t(node.in[0].node)] == 1)
      norms[node.in[0].node] = n;
  }
  return norms;
}

class RelevanceWalk final : public Walk {
 public:
  RelevanceWalk(Value of, const Values& wrt, const RuleTable& table, const Record& record)
      : Walk(of, wrt), table_(table), rows_(graph_, of.node), record_(record) {
    if (table.merge_norms) norms_ = merged_norms(graph_, of.node);
  }

 private:
  void arrive(Value at, Value part) override { parts_[at].push_back(sum_to(part, at.shape())); }

  Value arrived(Value at) override {
    const auto it = parts_.find(at);
    if (it == parts_.end()) return {};
    Values& parts = it->second;
    if (parts.size() > 1) parts = {joined(at, parts)};
    return parts[0];
  }

  Value joined(Value x, const Values& parts) {
    const FanoutRule& rule = rule_of_fanout(x);
    const auto* clone = std::get_if<rule::Clone>(&rule);
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

  void visit(int n) override {
    const Node& node = graph_.node(n);
    const Value out{&graph_, n, 0}, r = arrived(out);
    if (!r || !node.op) return;
    RelevanceEmit e{{graph_, n, leading_inputs(n)}};
    for (int o = 1; o < int(node.out.size()); ++o)
      e.wanted_inside.push_back(wanted({&graph_, n, o}));
    if (const auto norm = norms_.find(n); norm != norms_.end()) e.merged_norm = norm->second;
    const auto any = [](const std::vector<bool>& of) {
      return std::ranges::find(of, true) != of.end();
    };
    if (!any(e.wanted) && !any(e.wanted_inside)) return;
    const RelevanceRule& rule = rule_of(n);
    RelevanceStep step{out, std::string(node.op->kind()), to_string(rule), r, {}};
    if (record_) e.absorbed = &step.absorbed;
    const Values parts = node.op->relprop(e, rule, r);
    for (size_t i = 0; i < parts.size(); ++i) {
      const bool input = i < node.in.size();
      const size_t inside = i - node.in.size();
      if (!parts[i] || !(input ? e.wanted[i] : e.wanted_inside[inside])) continue;
      arrive(input ? node.in[i] : Value{&graph_, n, int(inside) + 1}, parts[i]);
      step.parts.push_back(parts[i]);
    }
    if (record_) record_(step);
  }

  const RelevanceRule& rule_of(int node) const {
    if (const RelevanceRule* rule = rows_.find(table_.rows, node)) return *rule;
    fail_without(graph_.node(node).op->kind(), Value{&graph_, node, 0});
  }
  const FanoutRule& rule_of_fanout(Value x) const {
    for (const FanoutRow& row : table_.fanouts)
      if (fits_name(graph_, row.name, x)) return row.rule;
    fail_without("fanout", x);
  }
  [[noreturn]] void fail_without(std::string_view kind, Value v) const {
    const auto names = graph_.names_of(v);
    fail(ErrorCode::unsupported, "the relevance rules '{}' have none for {} '{}'", table_.name,
         kind, names.empty() ? "" : names[0]);
  }

  const RuleTable& table_;
  RuleRows rows_;
  std::map<int, int> norms_;
  const Record& record_;
  std::map<Value, Values> parts_;
};

}  // namespace

std::string to_string(const RelevanceRule& rule) {
  const std::string name = std::visit([](const auto& one) { return one.name; }, rule);
  if (const auto* ab = std::get_if<rule::AlphaBeta>(&rule))
    return fmt::format("{}({}, {}{})", name, ab->alpha, ab->beta, ab->joint ? ", joint" : "");
  if (const auto* epsilon = std::get_if<rule::Epsilon>(&rule))
    return fmt::format("{}({})", name, epsilon->by.epsilon);
  if (const auto* gamma = std::get_if<rule::Gamma>(&rule))
    return fmt::format("{}({})", name, gamma->gamma);
  return name;
}
std::string to_string(const FanoutRule& rule) {
  return std::visit([](const auto& one) { return one.name; }, rule);
}
std::string to_string(const GradientRule& rule) {
  return std::visit([](const auto& one) { return one.name; }, rule);
}

Values relevance(Value of, Value seed, const Values& wrt, const RuleTable& rules,
                 const Record& record) {
  if (!of || !seed) fail_usage("relevance needs a value and a seed");
  if (seed.shape() != of.shape())
    fail_shape("the seed has shape {}, the value it seeds {}", to_string(seed.shape()),
               to_string(of.shape()));
  Values results = RelevanceWalk(of, wrt, rules, record).run(seed);
  for (size_t i = 0; i < wrt.size(); ++i)
    if (!results[i])
      fail(ErrorCode::keys, "'{}' does not depend on '{}', so no relevance comes there",
           of.graph->node(of).name, wrt[i].graph->node(wrt[i]).name);
  return results;
}

}  // namespace whence
