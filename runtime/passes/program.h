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

// Restricts computations to the rows (elements of axis 1) that are read, and to those that are not
// known to be zero. A readout of one token thus needs one query row of the last attention, one row
// of every op after it, and as much of its backward pass.
Program restrict_rows(Program program);

// Gradients, relevance maps and chains of one attention become outputs of one step, which computes
// probabilities and their gradient once.
Program merge_attention(Program program);

// Points that are read as patches alone are made as patches.
Program cut_patches(Program program);

// A batch norm that is its convolution's only reader becomes part of the convolution's weights, and
// so does its gradient.
Program fold_norms(Program program);

// Weights of products are packed in the weights stage; an activation and a residual sum that are a
// product's only reader become its epilogue. In f32 products with the positive or the negative part
// of a weight read the panels of the weight itself.
Program pack_products(Program program, Precision precision);

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

// Without what leads to no kept value. Inputs stay.
Program prune(Program program);

// For every value of the graph, the nodes that read it (kept values count as read once more).
std::map<Value, std::vector<int>> readers(const Program& program);

}  // namespace whence
