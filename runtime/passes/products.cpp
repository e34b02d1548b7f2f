// Products and convolutions read packed weights, and take over the activation and the residual sum
// that follow them, in either order, when nobody else reads what is in between.
#include "runtime/ops/conv.h"
#include "runtime/ops/elementwise.h"
#include "runtime/ops/linear.h"
#include "runtime/passes/passes.h"

namespace whence {
namespace {

class ProductPass {
 public:
  ProductPass(const Program& p, Precision precision)
      : program_(p), graph_(*p.graph), precision_(precision), readers_(readers(p)), rewrite_(p) {}

  Program run() {
    for (int n = 0; n < graph_.size(); ++n)
      if (const Node& node = graph_.node(n); is_product(node)) choose(n);
    for (int n = 0; n < graph_.size(); ++n) {
      if (is_product(graph_.node(n))) {
        if (chains_[n].end == n) emit_product(n);
      } else if (auto it = product_of_.find(n); it != product_of_.end()) {
        if (chains_[it->second].end == n) emit_product(it->second);
      } else {
        rewrite_.copy(n);
      }
    }
    return rewrite_.finish();
  }

 private:
  // What is fused into a product: node numbers, -1 where there is none.
  struct Chain {
    int end = -1, activation = -1, sum = -1;
  };

  template <class T>
  const T* op_at(int n) const {
    return dynamic_cast<const T*>(graph_.node(n).op.get());
  }
  static bool is_product(const Node& node) {
    const Op* op = node.op.get();
    return dynamic_cast<const Linear*>(op) || dynamic_cast<const LinearGrad*>(op) ||
           dynamic_cast<const Conv*>(op) || dynamic_cast<const ConvGrad*>(op);
  }

  int only_reader(int n) const {
    auto it = readers_.find(Value{program_.graph.get(), n, 0});
    return it != readers_.end() && it->second.size() == 1 ? it->second[0] : -1;
  }

  // Follows the chain as far as it can be fused: an activation and a sum, each at most once.
  void choose(int product) {
    Chain& chain = chains_[product];
    chain.end = product;
    for (;;) {
      const int next = only_reader(chain.end);
      if (next < 0 || product_of_.contains(next)) return;
      if (op_at<UnaryOp>(next) && chain.activation < 0)
        chain.activation = next;
      else if (is_sum(next) && chain.sum < 0)
        chain.sum = next;
      else
        return;
      product_of_[next] = product;
      chain.end = next;
    }
  }

  bool is_sum(int n) const {
    const Node& node = graph_.node(n);
    const auto* sum = op_at<BinaryOp>(n);
    return sum && sum->f == k::Binary::add && node.in[0].shape() == node.in[1].shape();
  }

  template <class T, class... A>
  Value packed(Value w, A... options) {
    const auto op = std::make_shared<T>(options...);
    auto [it, fresh] = packed_.emplace(std::pair{w, op->detail()}, Value{});
    if (fresh) it->second = rewrite_.graph().add(op, {rewrite_(w)});
    return it->second;
  }

  // The weight of which `w` is the positive or the negative part: both read its panels.
  std::pair<Value, k::Part> part_of(Value w) const {
    const auto* of = op_at<WeightPart>(w.node);
    if (!of || precision_ != Precision::f32) return {w, k::Part::all};
    return {graph_.node(w).in[0], of->part};
  }

  // Gives a packed op what its chain does; `in` has its operands so far, and gets the residual.
  template <class T>
  void fuse(T& op, int product, Values& in) const {
    const Chain& chain = chains_.at(product);
    op.bias = in.size() > 2;
    if (chain.activation >= 0) op.activation = op_at<UnaryOp>(chain.activation)->f;
    op.residual = chain.sum >= 0;
    op.residual_first = op.residual && chain.activation > chain.sum;
    if (!op.residual) return;
    const Values& operands = graph_.node(chain.sum).in;
    in.push_back(rewrite_(operands[belongs(operands[0], product) ? 1 : 0]));
  }

  // Emits the fused product in place of the last node of its chain.
  void emit_product(int product) {
    const Node& node = graph_.node(product);
    Values in{rewrite_(node.in[0]), {}};
    if (node.in.size() > 2) in.push_back(rewrite_(node.in[2]));
    std::shared_ptr<const Op> fused;
    const auto* conv = op_at<Conv>(product);
    const auto* conv_grad = op_at<ConvGrad>(product);
    if (conv || conv_grad) {
      const k::ConvSize size =
          conv ? conv_size(node.in[0].shape(), node.in[1].shape(), conv->window)
               : conv_size(conv_grad->image, node.in[1].shape(), conv_grad->window);
      in[1] = packed<ConvPack>(node.in[1], size, !conv);
      auto op = std::make_shared<PackedConv>(size, !conv);
      fuse(*op, product, in);
      fused = op;
    } else {
      const auto [weight, part] = part_of(node.in[1]);
      in[1] = packed<Pack>(weight, op_at<LinearGrad>(product) != nullptr);
      auto op = std::make_shared<PackedProduct>(node.op->kind(), node.out[0].shape[-1]);
      op->part = part;
      fuse(*op, product, in);
      fused = op;
    }
    rewrite_.put(Value{program_.graph.get(), chains_[product].end, 0},
                 rewrite_.graph().add(std::move(fused), std::move(in)));
  }

  bool belongs(Value v, int product) const {
    auto it = product_of_.find(v.node);
    return v.node == product || (it != product_of_.end() && it->second == product);
  }

  const Program& program_;
  const Graph& graph_;
  Precision precision_;
  std::map<Value, std::vector<int>> readers_;
  Rewriter rewrite_;
  std::map<int, int> product_of_;                          // fused node -> its product
  std::map<int, Chain> chains_;                            // of each product
  std::map<std::pair<Value, std::string>, Value> packed_;  // by weight and order
};

}  // namespace

Program pack_products(Program program, Precision precision) {
  return ProductPass(program, precision).run();
}

}  // namespace whence
