// A table's rows on one graph: which rule a node has.
#pragma once

#include "whence/rules.h"

namespace whence {

class RuleRows {
 public:
  // For the nodes 0 to `last`. Graph and table outlive this.
  RuleRows(Graph& graph, int last, const RuleTable& table);
  const Rule& of_node(int node) const;    // throws unsupported if no row fits
  const Rule* find_node(int node) const;  // null if no row fits
  const Rule& of_fanout(Value x) const;   // throws unsupported if no row fits
  // The batch norm that is part of this product, -1 where there is none.
  int merged_norm(int product) const;

 private:
  const Rule* find(std::string_view kind, bool first, Value v) const;
  [[noreturn]] void fail_without(std::string_view kind, Value v) const;
  bool is_product(int node) const;
  Graph& graph_;
  const RuleTable& table_;
  std::vector<bool> after_product_;  // the node is, or depends on, a product
  std::vector<bool> first_;          // a product that depends on no other
  std::vector<int> norm_;            // of a product: the node of its batch norm, or -1
};

}  // namespace whence
