// Nodes that differentiate one attention by one cotangent share its probabilities: they become one
// node. A chained row r comes from blocks above, so the merged node can stand where the first of
// the group stood; where that would close a cycle, nothing is merged.
#include <algorithm>
#include <queue>
#include <tuple>

#include "runtime/ops/attention.h"
#include "runtime/passes/passes.h"

namespace whence {
namespace {

const AttentionGrad* grad_op(const Node& node) {
  return dynamic_cast<const AttentionGrad*>(node.op.get());
}

// unit[n]: the node that n is merged into (itself where nothing is merged).
std::vector<int> units(const Graph& g) {
  std::vector<int> unit;
  std::map<std::tuple<Values, int64_t, real>, int> leaders;
  std::map<int, bool> chained;
  for (int n = 0; n < g.size(); ++n) {
    unit.push_back(n);
    const AttentionGrad* op = grad_op(g.node(n));
    if (!op) continue;
    const Values operands(g.node(n).in.begin(), g.node(n).in.begin() + 4);
    const auto it = leaders.emplace(std::tuple{operands, op->heads, op->scale}, n).first;
    if (op->chain && chained[it->second]) continue;  // one chain a step
    if (op->chain) chained[it->second] = true;
    unit.back() = it->second;
  }
  return unit;
}

// Units in an order that respects every input, lowest first; shorter than expected if there is a
// cycle.
std::vector<int> order(const Graph& g, const std::vector<int>& unit) {
  std::map<int, std::vector<int>> feeds;
  std::map<int, int> waiting;
  for (int n = 0; n < g.size(); ++n) {
    waiting[unit[size_t(n)]];
    for (Value v : g.node(n).in) {
      feeds[unit[size_t(v.node)]].push_back(unit[size_t(n)]);
      ++waiting[unit[size_t(n)]];
    }
  }
  std::priority_queue<int, std::vector<int>, std::greater<>> ready;
  for (const auto& [u, count] : waiting)
    if (count == 0) ready.push(u);
  std::vector<int> sorted;
  while (!ready.empty()) {
    const int u = ready.top();
    ready.pop();
    sorted.push_back(u);
    for (int next : feeds[u])
      if (--waiting[next] == 0) ready.push(next);
  }
  return sorted.size() == waiting.size() ? sorted : std::vector<int>{};
}

}  // namespace

Program merge_attention(Program program) {
  const Graph& g = *program.graph;
  const std::vector<int> unit = units(g);
  const std::vector<int> sorted = order(g, unit);
  if (sorted.empty()) return program;
  std::map<int, std::vector<int>> members;
  for (int n = 0; n < g.size(); ++n) members[unit[size_t(n)]].push_back(n);
  Rewriter rewrite(program);
  for (int u : sorted) {
    if (members[u].size() == 1) {
      rewrite.copy(u);
      continue;
    }
    const AttentionGrad& first = *grad_op(g.node(u));
    Values in;
    for (int i = 0; i < 4; ++i) in.push_back(rewrite(g.node(u).in[size_t(i)]));
    bool chain = false;
    for (int n : members[u])
      if (grad_op(g.node(n))->chain) {
        in.push_back(rewrite(g.node(n).in[4]));
        chain = true;
      }
    const Value now = emit<AttentionGrad>(std::move(in), first.heads, first.scale, chain);
    for (int n : members[u])
      for (int o = 0; o < AttentionGrad::output_count; ++o)
        rewrite.put(Value{program.graph.get(), n, o}, Value{now.graph, now.node, o});
  }
  return rewrite.finish();
}

}  // namespace whence
