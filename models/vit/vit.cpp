// The vision transformer, block by block as in Dosovitskiy et al. 2021, section 3.1.
#include "models/vit/vit.h"

#include <cmath>

#include "models/vit/blocks.h"
#include "runtime/check.h"
#include "whence/ops.h"

namespace whence {

Value ViTLayers::dense(std::string_view name, Value x, int64_t outputs, bool bias) const {
  auto s = g.scope(name);
  const Value w = g.weight("weight", {outputs, x.shape()[-1]});
  return linear(x, w, bias ? g.weight("bias", {outputs}) : Value{});
}

Value ViTLayers::norm(std::string_view name, Value x) const {
  auto s = g.scope(name);
  const int64_t width = x.shape()[-1];
  return layer_norm(x, g.weight("weight", {width}), g.weight("bias", {width}), c.norm_epsilon);
}

Value ViTLayers::scaled(std::string_view name, Value x) const {
  return c.layer_scale ? mul(x, g.weight(name, {c.width})) : x;
}

Value ViTLayers::attend(Value x) const {
  auto s = g.scope("attn");
  g.name(x, "in");
  const Value q = g.name(dense("q", x, c.width, c.qkv_bias), "q");
  const Value k = g.name(dense("k", x, c.width, c.qkv_bias), "k");
  const Value v = g.name(dense("v", x, c.width, c.qkv_bias), "v");
  const Attention a = attention(q, k, v, c.heads, real(1 / std::sqrt(double(c.width / c.heads))));
  g.name(a.probs, "probs");
  g.name(a.probs_mean, "probs_mean");
  return g.name(dense("proj", g.name(a.context, "context"), c.width), "out");
}

Value ViTLayers::mlp(Value x) const {
  auto s = g.scope("mlp");
  const Value hidden = g.name(unary(c.activation, g.name(dense("fc1", x, c.mlp), "pre")), "hidden");
  return g.name(dense("fc2", hidden, c.width), "out");
}

// x += attention(norm1(x)); x += mlp(norm2(x))
Value block_of_the_paper(const ViTLayers& l, Value x) {
  x = l.g.name(add(x, l.scaled("scale1", l.attend(l.g.name(l.norm("norm1", x), "norm1")))), "mid");
  return l.g.name(add(x, l.scaled("scale2", l.mlp(l.g.name(l.norm("norm2", x), "norm2")))), "out");
}

namespace {

class Builder : ViTLayers {
 public:
  Builder(Graph& graph, const ViTConfig& config, int64_t batch)
      : ViTLayers{graph, config}, b(batch) {}

  Value run() {
    Value x = embed();
    if (c.pre_norm) x = norm("norm_pre", x);
    const ViTBlock* block = find_vit_block(c.block);
    WHENCE_ASSERT(block);
    for (int64_t i = 0; i < c.depth; ++i) {
      auto s = g.scope("blocks", int(i));
      x = block->join(*this, x);
    }
    return g.name(head(x), "logits");
  }

 private:
  Value token(std::string_view name, int64_t count) {
    return expand(g.weight(name, {1, count, c.width}), {b, count, c.width});
  }

  Value embed() {
    // A method may have put the image there, as points that it computes.
    const Value image =
        g.has("image") ? g.at("image")
                       : g.input("image", Type{{b, c.channels, c.image_height, c.image_width}});
    auto s = g.scope("embed");
    Value x = g.name(dense("patch", patchify(image, c.patch), c.width, c.patch_bias), "patches");
    const int64_t positions = c.position_skips_prefix ? x.shape()[1] : c.tokens();
    const Value position = g.weight("pos", {1, positions, c.width});
    if (c.position_skips_prefix) x = add(x, position);
    Values parts;
    if (c.class_token) parts.push_back(token("cls", 1));
    if (c.distilled) parts.push_back(token("dist", 1));
    if (c.registers > 0) parts.push_back(token("registers", c.registers));
    parts.push_back(x);
    x = concat(parts, 1);
    if (!c.position_skips_prefix) x = add(x, position);
    return g.name(x, "out");
  }

  Value head(Value x) {
    if (c.pooling == ViTConfig::Pooling::mean) {
      const Value patches = slice(x, 1, c.prefix_tokens(), c.tokens());
      return dense("head", g.name(norm("norm", mean(patches, {1})), "norm"), c.classes);
    }
    x = g.name(norm("norm", x), "norm");
    const Value logits = dense("head", row(x, 0), c.classes);
    if (!c.distilled) return logits;
    return scale(add(logits, dense("head_dist", row(x, 1), c.classes)), real(0.5));
  }

  int64_t b;
};

}  // namespace

Value build_vit(Graph& graph, const ViTConfig& config, int64_t batch) {
  return Builder(graph, config, batch).run();
}

}  // namespace whence
