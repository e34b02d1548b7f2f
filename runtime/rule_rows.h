// Which rows of a table fit the nodes of a graph.
#pragma once

#include "whence/rules.h"

namespace whence {

class RuleRows {
 public:
  // For the nodes 0 to `last` of a graph that outlives this.
  RuleRows(Graph& graph, int last);

  // The rule of the first row that fits a node; null if none does.
  template <class Rule>
  const Rule* find(const std::vector<RuleRow<Rule>>& rows, int node) const {
    for (const RuleRow<Rule>& row : rows)
      if (fits(row.kinds, row.name, node)) return &row.rule;
    return nullptr;
  }

 private:
  bool fits(std::string_view kinds, std::string_view name, int node) const;

  Graph& graph_;
  std::vector<bool> first_;  // products of what no other product has made
};

// Does a row's glob fit one of the names that a value has? "*" fits values without one.
bool fits_name(const Graph& graph, std::string_view glob, Value v);

}  // namespace whence
