#include "runtime/rule_rows.h"

#include <algorithm>

#include "runtime/text.h"
#include "whence/op.h"

namespace whence {
namespace {

// What a row may call several kinds of op at once.
struct Family {
  const char* name;
  bool Traits::*trait;
};
constexpr Family families[] = {{"product", &Traits::product},
                               {"activation", &Traits::activation},
                               {"rectifier", &Traits::rectifier},
                               {"move", &Traits::move}};

bool is_called(const Op& op, bool first, std::string_view name) {
  if (name == "*" || name == op.kind() || (first && name == "first")) return true;
  const Traits traits = op.traits();
  return std::ranges::any_of(families,
                             [&](const Family& f) { return name == f.name && traits.*f.trait; });
}

}  // namespace

RuleRows::RuleRows(Graph& graph, int last) : graph_(graph) {
  std::vector<bool> after_product;  // a product, or something behind one
  for (int n = 0; n <= last; ++n) {
    const Node& node = graph.node(n);
    const bool product = node.op && node.op->traits().product;
    const bool behind =
        std::ranges::any_of(node.in, [&](Value v) { return bool(after_product[size_t(v.node)]); });
    first_.push_back(product && !behind);
    after_product.push_back(product || behind);
  }
}

bool RuleRows::fits(std::string_view kinds, std::string_view name, int node) const {
  bool called = false;
  for (size_t at = 0; !called && at <= kinds.size();) {
    const size_t end = std::min(kinds.find('|', at), kinds.size());
    called = is_called(*graph_.node(node).op, first_[size_t(node)], kinds.substr(at, end - at));
    at = end + 1;
  }
  return called && fits_name(graph_, name, Value{&graph_, node, 0});
}

bool fits_name(const Graph& graph, std::string_view glob, Value v) {
  if (glob == "*") return true;
  return std::ranges::any_of(graph.names_of(v),
                             [&](const std::string& name) { return glob_match(glob, name); });
}

const std::vector<std::string>& rule_kinds() {
  static const std::vector<std::string> kinds = [] {
    std::vector<std::string> all{"*", "first"};
    all.insert(all.end(), op_kinds().begin(), op_kinds().end());
    for (const Family& f : families) all.emplace_back(f.name);
    return all;
  }();
  return kinds;
}

}  // namespace whence
