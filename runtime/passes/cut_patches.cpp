// An image that is made for its patches alone is made as patches: patchify(interpolate(...))
// becomes one node. Gradients by the image do not read its value, so they are not in the way.
#include "runtime/ops/image.h"
#include "runtime/passes/passes.h"

namespace whence {

Program cut_patches(Program program) {
  const Graph& g = *program.graph;
  const auto read = readers(program);
  std::map<int, int> cut;  // a point -> the node that cuts it
  for (int n = 0; n < g.size(); ++n) {
    const auto* patches = dynamic_cast<const Patchify*>(g.node(n).op.get());
    if (!patches || patches->inverse) continue;
    const Value image = g.node(n).in[0];
    if (dynamic_cast<const Interpolate*>(g.node(image).op.get()) && read.at(image).size() == 1)
      cut[image.node] = n;
  }
  if (cut.empty()) return program;
  Rewriter rewrite(program);
  for (int n = 0; n < g.size(); ++n) {
    if (cut.contains(n)) continue;
    const auto* patches = dynamic_cast<const Patchify*>(g.node(n).op.get());
    const int point = patches ? g.node(n).in[0].node : -1;
    if (!cut.contains(point) || cut.at(point) != n) {
      rewrite.copy(n);
      continue;
    }
    Values in;
    for (const Value v : g.node(point).in) in.push_back(rewrite(v));
    rewrite.put(Value{program.graph.get(), n, 0}, emit<Interpolate>(std::move(in), patches->patch));
  }
  return rewrite.finish();
}

}  // namespace whence
