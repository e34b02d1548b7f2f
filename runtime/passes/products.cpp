// Products read packed weights, and take over the activation and the residual sum that follow them
// when nobody else reads what is in between.
#include "runtime/ops/elementwise.h"
#include "runtime/ops/linear.h"
#include "runtime/passes/program.h"

namespace whence {
namespace {

class ProductPass {
 public:
  explicit ProductPass(const Program& p)
      : program_(p), graph_(*p.graph), readers_(readers(p)), rewrite_(p) {}

  Program run() {
    for (int n = 0; n < graph_.size(); ++n)
      if (const Node& node = graph_.node(n); is_product(node)) choose(n);
    for (int n = 0; n < graph_.size(); ++n) {
      if (is_product(graph_.node(n))) {
        if (last_of_[n] == n) emit_product(n, n);
      } else if (auto it = product_of_.find(n); it != product_of_.end()) {
        if (last_of_[it->second] == n) emit_product(it->second, n);
      } else {
        rewrite_.copy(n);
      }
    }
    return rewrite_.finish();
  }

 private:
  static bool is_product(const Node& node) {
    return dynamic_cast<const Linear*>(node.op.get()) ||
           dynamic_cast<const LinearGrad*>(node.op.get());
  }

  int only_reader(int n) const {
    auto it = readers_.find(Value{program_.graph.get(), n, 0});
    return it != readers_.end() && it->second.size() == 1 ? it->second[0] : -1;
  }

  // Follows the chain product -> activation -> sum as far as it can be fused.
  void choose(int product) {
    int end = product;
    int next = only_reader(end);
    if (next >= 0 && dynamic_cast<const UnaryOp*>(graph_.node(next).op.get())) {
      product_of_[next] = product;
      end = next;
      next = only_reader(end);
    }
    if (next >= 0 && !product_of_.contains(next)) {
      const Node& node = graph_.node(next);
      const auto* sum = dynamic_cast<const BinaryOp*>(node.op.get());
      if (sum && sum->f == k::Binary::add && node.in[0] != node.in[1] &&
          node.in[0].shape() == node.in[1].shape()) {
        product_of_[next] = product;
        end = next;
      }
    }
    last_of_[product] = end;
  }

  Value packed(Value w, bool transposed) {
    auto [it, fresh] = packed_.emplace(std::pair{w, transposed}, Value{});
    if (fresh) it->second = emit<Pack>({rewrite_(w)}, transposed);
    return it->second;
  }

  // Emits the fused product in place of node `end`.
  void emit_product(int product, int end) {
    const Node& node = graph_.node(product);
    const bool forward = dynamic_cast<const Linear*>(node.op.get());
    auto op = std::make_shared<PackedProduct>(node.op->kind(), node.out[0].shape[-1]);
    Values in{rewrite_(node.in[0]), packed(node.in[1], !forward)};
    if (forward && node.in.size() > 2) {
      op->bias = true;
      in.push_back(rewrite_(node.in[2]));
    }
    for (const auto& [n, p] : product_of_) {
      if (p != product) continue;
      if (const auto* f = dynamic_cast<const UnaryOp*>(graph_.node(n).op.get()))
        op->activation = f->f;
    }
    if (const auto* sum =
            end == product ? nullptr : dynamic_cast<const BinaryOp*>(graph_.node(end).op.get())) {
      const Values& operands = graph_.node(end).in;
      const bool first_is_product = belongs(operands[0], product);
      op->residual = sum != nullptr;
      in.push_back(rewrite_(operands[first_is_product ? 1 : 0]));
    }
    rewrite_.put(Value{program_.graph.get(), end, 0},
                 rewrite_.graph().add(std::move(op), std::move(in)));
  }

  bool belongs(Value v, int product) const {
    auto it = product_of_.find(v.node);
    return v.node == product || (it != product_of_.end() && it->second == product);
  }

  const Program& program_;
  const Graph& graph_;
  std::map<Value, std::vector<int>> readers_;
  Rewriter rewrite_;
  std::map<int, int> product_of_;  // fused node -> its product
  std::map<int, int> last_of_;     // product -> last node of its chain
  std::map<std::pair<Value, bool>, Value> packed_;
};

}  // namespace

Program pack_products(Program program) { return ProductPass(program).run(); }

}  // namespace whence
