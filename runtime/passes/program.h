// Program: what a plan is going to run, as a graph of its own. Each pass reads one and writes
// another.
#pragma once

#include <map>
#include <memory>

#include "whence/device.h"
#include "whence/op.h"

namespace whence {

struct Program {
  std::unique_ptr<Graph> graph = std::make_unique<Graph>();
  Values kept;  // what `keep` asked for, in its order
  std::map<Value, Value>
      inputs;  // from the caller's inputs and given values to this graph's inputs
};

// The part of the caller's graph that `keep` needs. Values in `given` become inputs.
Program extract(const Values& keep, const Values& given);

// Copies a program node by node. A pass replaces what it changes with `put`, and copies the rest.
class Rewriter {
 public:
  explicit Rewriter(const Program& from) : from_(from) {}
  Graph& graph() { return *to_.graph; }
  Value operator()(Value old) const { return map_.at(old); }
  bool has(Value old) const { return map_.contains(old); }
  void put(Value old, Value now);  // `now` stands for `old` from here on, and takes its name
  void copy(int node);             // with its inputs replaced
  Program finish();

 private:
  const Program& from_;
  Program to_;
  std::map<Value, Value> map_;
};

// For every value of the graph, the nodes that read it (kept values count as read once more).
std::map<Value, std::vector<int>> readers(const Program& program);

}  // namespace whence
