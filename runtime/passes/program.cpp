#include "runtime/passes/program.h"

#include <algorithm>
#include <set>

#include "runtime/check.h"

namespace whence {

void Rewriter::put(Value old, Value now) {
  map_[old] = now;
  const std::string& name = from_.graph->node(old).name;
  if (old.output == 0 && now.output == 0 && !name.empty() && !to_.graph->has(name))
    to_.graph->name(now, name);
}

void Rewriter::copy(int id) {
  const Node& node = from_.graph->node(id);
  Value now;
  if (!node.op) {
    Graph& g = *to_.graph;
    now = g.append_input(node);
    map_[Value{from_.graph.get(), id, 0}] = now;
    return;
  }
  Values in;
  for (Value v : node.in) in.push_back((*this)(v));
  now = to_.graph->add(node.op, std::move(in));
  for (int o = 0; o < int(node.out.size()); ++o)
    put(Value{from_.graph.get(), id, o}, Value{now.graph, now.node, o});
}

Program Rewriter::finish() {
  for (Value v : from_.kept) to_.kept.push_back((*this)(v));
  for (const auto& [caller, old] : from_.inputs)
    if (has(old)) to_.inputs[caller] = (*this)(old);
  return std::move(to_);
}

Program extract(const Values& keep, const Values& given) {
  if (keep.empty()) fail_usage("a plan needs at least one value to keep");
  const Graph& source = *keep[0].graph;
  const std::set<Value> cut(given.begin(), given.end());
  std::vector<bool> needed(size_t(source.size()), false);
  for (Value v : keep) {
    if (v.graph != &source) fail_usage("the values to keep belong to different graphs");
    if (!cut.contains(v)) needed[size_t(v.node)] = true;
  }
  for (int n = source.size() - 1; n >= 0; --n)
    if (needed[size_t(n)])
      for (Value v : source.node(n).in)
        if (!cut.contains(v)) needed[size_t(v.node)] = true;

  Program p;
  std::map<Value, Value> map;
  for (Value v : given) {
    Node input;
    input.out = {v.type()};
    input.stage = std::max(Stage::data, source.node(v).stage);
    const auto names = source.names_of(v);
    input.name = names.empty() ? "given" : names[0];
    p.inputs[v] = map[v] = p.graph->append_input(input);
  }
  for (int n = 0; n < source.size(); ++n) {
    if (!needed[size_t(n)]) continue;
    const Node& node = source.node(n);
    const Value old{keep[0].graph, n, 0};
    if (!node.op) {
      map[old] = p.graph->append_input(node);
      p.inputs[old] = map[old];
      continue;
    }
    Values in;
    for (Value v : node.in) in.push_back(map.at(v));
    const Value now = p.graph->add(node.op, std::move(in));
    if (!node.name.empty() && !p.graph->has(node.name))
      p.graph->name(now, node.name);  // a given value has it
    for (int o = 0; o < int(node.out.size()); ++o)
      map.emplace(Value{keep[0].graph, n, o}, Value{now.graph, now.node, o});
  }
  for (Value v : keep) p.kept.push_back(map.at(v));
  return p;
}

std::map<Value, std::vector<int>> readers(const Program& program) {
  std::map<Value, std::vector<int>> found;
  for (int n = 0; n < program.graph->size(); ++n)
    for (Value v : program.graph->node(n).in) found[v].push_back(n);
  for (Value v : program.kept) found[v].push_back(-1);
  return found;
}

}  // namespace whence
