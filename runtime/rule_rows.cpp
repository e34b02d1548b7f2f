#include "runtime/rule_rows.h"

#include <algorithm>

#include "runtime/check.h"
#include "runtime/text.h"
#include "whence/op.h"

namespace whence {
namespace {

bool fits(const RuleRow& row, std::string_view kind, bool first,
          const std::vector<std::string>& names) {
  bool of_kind = row.kinds == "*";
  for (size_t at = 0; !of_kind && at <= row.kinds.size();) {
    const size_t end = std::min(row.kinds.find('|', at), row.kinds.size());
    const std::string_view one = std::string_view(row.kinds).substr(at, end - at);
    of_kind = one == kind || (first && one == "first");
    at = end + 1;
  }
  return of_kind && (row.name == "*" || std::any_of(names.begin(), names.end(), [&](const auto& n) {
                       return glob_match(row.name, n);
                     }));
}

}  // namespace

RuleRows::RuleRows(Graph& graph, int last, const RuleTable& table) : graph_(graph), table_(table) {
  const size_t nodes = size_t(last) + 1;
  after_product_.resize(nodes);
  first_.resize(nodes);
  norm_.resize(nodes, -1);
  std::vector<int> readers(nodes);
  for (int n = 0; n <= last; ++n) {
    const bool below = std::ranges::any_of(
        graph.node(n).in, [&](Value v) { return bool(after_product_[size_t(v.node)]); });
    first_[size_t(n)] = is_product(n) && !below;
    after_product_[size_t(n)] = is_product(n) || below;
    for (Value v : graph.node(n).in) ++readers[size_t(v.node)];
  }
  for (int n = 0; table.merge_norms && n <= last; ++n) {
    const Node& node = graph.node(n);
    if (!node.op || node.op->kind() != "batch_norm") continue;
    const int product = node.in[0].node;
    if (is_product(product) && readers[size_t(product)] == 1) norm_[size_t(product)] = n;
  }
}

bool RuleRows::is_product(int node) const {
  const Op* op = graph_.node(node).op.get();
  return op && (op->kind() == "linear" || op->kind() == "conv2d");
}

const Rule* RuleRows::find(std::string_view kind, bool first, Value v) const {
  const auto names = graph_.names_of(v);
  for (const RuleRow& row : table_.rows)
    if (fits(row, kind, first, names)) return &row.rule;
  return nullptr;
}

void RuleRows::fail_without(std::string_view kind, Value v) const {
  const auto names = graph_.names_of(v);
  fail(ErrorCode::unsupported, "the relevance rules '{}' have none for {} '{}'", table_.name, kind,
       names.empty() ? "" : names[0]);
}

const Rule* RuleRows::find_node(int node) const {
  const Value out{&graph_, node, 0};
  return find(graph_.node(node).op->kind(), first_[size_t(node)], out);
}

const Rule& RuleRows::of_node(int node) const {
  if (const Rule* rule = find_node(node)) return *rule;
  fail_without(graph_.node(node).op->kind(), Value{&graph_, node, 0});
}

const Rule& RuleRows::of_fanout(Value x) const {
  if (const Rule* rule = find("fanout", false, x)) return *rule;
  fail_without("fanout", x);
}

int RuleRows::merged_norm(int product) const { return norm_[size_t(product)]; }

}  // namespace whence
