// The walk that gradients and relevance share: from a value back through every node that leads from
// a wanted one to it, the last node first. What travels, and how it adds up, is theirs.
#pragma once

#include <set>

#include "whence/graph.h"

namespace whence {

// Sums what came to a value of this shape over the axes along which the value was broadcast.
Value sum_to(Value part, const Shape& shape);

class Walk {
 public:
  // From `of` to the values of `wrt`.
  Walk(Value of, const Values& wrt);
  virtual ~Walk() = default;
  Walk(const Walk&) = delete;
  Walk& operator=(const Walk&) = delete;

  // What comes to each value of `wrt` when `seed` comes to `of`; empty where nothing does.
  Values run(Value seed);

 protected:
  // A part comes to a value.
  virtual void arrive(Value at, Value part) = 0;
  // All that has come to a value, as one; empty if nothing has. No part comes to it later.
  virtual Value arrived(Value at) = 0;
  // Hands what has come to the outputs of a node on to its inputs.
  virtual void visit(int node) = 0;

  bool wanted(Value v) const { return wanted_.contains(v); }
  std::vector<bool> leading_inputs(int node) const;  // those that lead from a wanted value
  Graph& graph_;

 private:
  Value of_;
  Values wrt_;
  std::set<Value> wanted_;
  std::vector<bool> leads_;  // a node that computes a wanted value or reads what leads from one
};

}  // namespace whence
