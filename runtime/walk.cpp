#include "runtime/walk.h"

#include <algorithm>

#include "whence/ops.h"

namespace whence {

Value sum_to(Value part, const Shape& shape) {
  if (part.shape() == shape) return part;
  std::vector<int> axes;
  const int extra = part.shape().rank() - shape.rank();
  for (int i = 0; i < part.shape().rank(); ++i)
    if (i < extra || (shape[i - extra] == 1 && part.shape()[i] != 1)) axes.push_back(i);
  return reshape(axes.empty() ? part : sum(part, axes), shape);
}

Walk::Walk(Value of, const Values& wrt)
    : graph_(*of.graph), of_(of), wrt_(wrt), wanted_(wrt.begin(), wrt.end()) {
  for (int n = 0; n <= of.node; ++n) {
    const std::vector<bool> from = leading_inputs(n);
    bool leads = std::ranges::find(from, true) != from.end();
    for (int o = 0; o < int(graph_.node(n).out.size()); ++o)
      leads = leads || wanted({&graph_, n, o});
    leads_.push_back(leads);
  }
}

std::vector<bool> Walk::leading_inputs(int node) const {
  std::vector<bool> lead;
  for (Value v : graph_.node(node).in) lead.push_back(leads_[size_t(v.node)]);
  return lead;
}

Values Walk::run(Value seed) {
  arrive(of_, seed);
  for (int n = of_.node; n >= 0; --n)
    if (leads_[size_t(n)]) visit(n);
  Values results;
  for (Value w : wrt_) results.push_back(arrived(w));
  return results;
}

}  // namespace whence
