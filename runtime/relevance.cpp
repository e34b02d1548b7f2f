// Relevance by adding nodes: the walk of gradient.cpp, with a rule of the table in place of the
// gradient.
#include <algorithm>
#include <set>

#include "runtime/check.h"
#include "runtime/text.h"
#include "whence/op.h"
#include "whence/ops.h"
#include "whence/rules.h"

namespace whence {
namespace {

bool fits(const RuleRow& row, std::string_view kind, const std::vector<std::string>& names) {
  bool of_kind = row.kinds == "*";
  for (size_t at = 0; !of_kind && at <= row.kinds.size();) {
    const size_t end = std::min(row.kinds.find('|', at), row.kinds.size());
    of_kind = std::string_view(row.kinds).substr(at, end - at) == kind;
    at = end + 1;
  }
  return of_kind && (row.name == "*" || std::any_of(names.begin(), names.end(), [&](const auto& n) {
                       return glob_match(row.name, n);
                     }));
}

class Walk {
 public:
  Walk(Value of, const Values& wrt, const RuleTable& rules)
      : graph_(*of.graph), rules_(rules), wanted_(wrt.begin(), wrt.end()) {
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
  const Rule& rule_for(std::string_view kind, Value v) const {
    const auto names = graph_.names_of(v);
    for (const RuleRow& row : rules_.rows)
      if (fits(row, kind, names)) return row.rule;
    fail(ErrorKind::unsupported, ErrorCode::unsupported,
         "the relevance rules '{}' have none for {} '{}'", rules_.name, kind,
         names.empty() ? "" : names[0]);
  }

  Value joined(Value x, const Values& parts) const {
    const Rule& rule = rule_for("fanout", x);
    const bool clone = std::holds_alternative<rule::Clone>(rule);
    if (!clone && !std::holds_alternative<rule::Sum>(rule))
      fail(ErrorKind::unsupported, ErrorCode::unsupported,
           "rule {} is not one for a fanout (Sum or Clone)", to_string(rule));
    Value sum;
    for (Value part : parts) {
      const Value term = clone ? safe_div(part, x) : part;
      sum = sum ? add(sum, term) : term;
    }
    return clone ? mul(x, sum) : sum;
  }

  void visit(int n) {
    const Node& node = graph_.node(n);
    const Value out{&graph_, n, 0}, r = result(out);
    if (!r || !node.op) return;
    const Rule& rule = rule_for(node.op->kind(), out);
    Emit e{graph_, n, {}};
    for (Value v : node.in) e.wanted.push_back(leads_[size_t(v.node)]);
    for (int o = 1; o < int(node.out.size()); ++o)
      e.wanted.push_back(wanted_.contains(Value{&graph_, n, o}));
    if (std::none_of(e.wanted.begin(), e.wanted.end(), [](bool w) { return w; })) return;
    const Values parts = node.op->relprop(e, rule, r);
    for (size_t i = 0; i < parts.size(); ++i) {
      if (!parts[i] || !e.wanted[i]) continue;
      const bool input = i < node.in.size();
      contributions_[input ? node.in[i] : Value{&graph_, n, int(i - node.in.size()) + 1}].push_back(
          parts[i]);
    }
  }

  Graph& graph_;
  const RuleTable& rules_;
  std::set<Value> wanted_;
  std::vector<bool> leads_;
  std::map<Value, Values> contributions_;
};

RuleTable chefer(std::string name, const rule::AlphaBeta& linear, const Rule& sum) {
  return {std::move(name),
          {{"linear", "embed.patches", rule::ZBox{}},
           {"linear", "*", linear},
           {"attention", "*", rule::Halves{}},
           {"add", "*", sum},
           {"mul|slice|mean", "*", rule::Proportional{}},
           {"relu|gelu|gelu_tanh|gelu_quick|tanh|layer_norm|softmax|affine|reshape|concat|patchify",
            "*", rule::Pass{}},
           // One product makes queries, keys and values there: their inputs' parts add up.
           {"fanout", "*norm1", rule::Sum{}},
           {"fanout", "*", rule::Clone{}}}};
}

}  // namespace

std::string to_string(const Rule& rule) {
  constexpr const char* names[] = {"Pass",      "Proportional", "Halves", "ByMass",
                                   "AlphaBeta", "ZBox",         "Sum",    "Clone"};
  std::string text = names[rule.index()];
  if (const auto* ab = std::get_if<rule::AlphaBeta>(&rule))
    text += fmt::format("({}, {}{})", ab->alpha, ab->beta, ab->joint ? ", joint" : "");
  return text;
}

const RuleTable& chefer_stable() {
  static const RuleTable table = chefer("chefer-stable", {1, 0, true}, rule::ByMass{});
  return table;
}
const RuleTable& chefer_classic() {
  static const RuleTable table = chefer("chefer-classic", {1, 0, false}, rule::Proportional{});
  return table;
}

Values Op::relprop(const Emit& e, const Rule& rule, Value r) const {
  const Node& node = e.graph.node(e.node);
  if (std::holds_alternative<rule::Pass>(rule)) {
    if (rearranges()) return vjp(e, std::span(&r, 1));
    if (r.shape() == e.in(0).shape()) return {r};
  }
  if (std::holds_alternative<rule::Proportional>(rule)) {
    const Value share = safe_div(r, e.out());
    Values parts = vjp(e, std::span(&share, 1));
    for (size_t i = 0; i < parts.size(); ++i)
      if (parts[i] && e.wanted[i]) parts[i] = mul(e.in(int(i)), parts[i]);
    return parts;
  }
  fail(ErrorKind::unsupported, ErrorCode::unsupported,
       "{} '{}' does not know the relevance rule {}", kind(), node.name, to_string(rule));
}

Values relevance(Value of, Value seed, const Values& wrt, const RuleTable& rules) {
  if (!of || !seed) fail_usage("relevance needs a value and a seed");
  if (seed.shape() != of.shape())
    fail_shape("the seed has shape {}, the value it seeds {}", to_string(seed.shape()),
               to_string(of.shape()));
  Walk walk(of, wrt, rules);
  walk.run(of, seed);
  Values results;
  for (Value w : wrt) {
    results.push_back(walk.result(w));
    if (!results.back())
      fail(ErrorKind::name, ErrorCode::keys,
           "'{}' does not depend on '{}', so no relevance comes there", of.graph->node(of).name,
           w.graph->node(w).name);
  }
  return results;
}

}  // namespace whence
