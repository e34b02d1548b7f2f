// What kinds of operators there are: one of each is made, and says so itself.
#include <algorithm>

#include "runtime/ops/elementwise.h"
#include "whence/ops.h"

namespace whence {
namespace {

// Of the smallest sizes that fit together.
void one_of_each(Graph& g) {
  const Value x = g.input("x", Type{{1, 1}}), c = g.input("c", Type{{1}});
  const Value tokens = g.input("tokens", Type{{1, 1, 1}});
  const Value image = g.input("image", Type{{1, 1, 1, 1}});
  linear(x, x);
  conv2d(image, image, {});
  attention(tokens, tokens, tokens, 1, 1);
  einsum(x, x, "ab,bc->ac");
  for (const k::Unary f : k::every_unary)
    if (facts_of(f).activation) emit<UnaryOp>({x}, f);  // no model is built of the others
  softmax(x), log_softmax(x);
  layer_norm(x, c, c, 1);
  add(x, x), sub(x, x), mul(x, x), div(x, x);
  affine(x, 1, 0);
  sum(x, {0}), mean(x, {0});
  reshape(x, {1}), concat({x, x}, 0), expand(x, {2, 1});
  slice(pad(x, 0, 0, 2), 0, 0, 1);
  batch_norm(image, c, c, c, c, 1);
  max_pool(image, {1, 1}), average_pool(image, {1, 1});
  for (const Value moved : {patchify(image, 1), channels_last(image)})
    gradient(moved, moved, {image});
}

}  // namespace

const std::vector<std::string>& op_kinds() {
  static const std::vector<std::string> kinds = [] {
    Graph g;
    one_of_each(g);
    std::vector<std::string> all;
    for (int n = 0; n < g.size(); ++n)
      if (const auto& op = g.node(n).op)
        if (const std::string kind(op->kind()); std::ranges::find(all, kind) == all.end())
          all.push_back(kind);
    return all;
  }();
  return kinds;
}

}  // namespace whence
