// The tiny transformer whose relevance was published with every intermediate number: three blocks,
// two heads, five tokens, weights from a hash.
#pragma once

#include "whence/ops.h"
#include "whence/weights.h"

namespace whence {

// Number k of tensor t, in [-1, 1).
inline double tiny_number(uint32_t t, uint32_t k) {
  uint32_t h = 2654435761u * k + 40503u * t + 12345u;
  h ^= h >> 16;
  h *= 2246822519u;
  h ^= h >> 13;
  return double(h) / 2147483648.0 - 1;
}

inline Tensor tiny_tensor(uint32_t t, Shape shape, double scale, double shift = 0) {
  Tensor x(Type{shape});
  for (size_t k = 0; k < x.reals().size(); ++k)
    x.reals()[k] = real(shift + scale * tiny_number(t, uint32_t(k)));
  return x;
}

struct TinyViT {
  Graph graph;
  Weights weights;
  Value image, logits;
  std::vector<Attention> attention;

  explicit TinyViT(int64_t batch, double final_epsilon = 1e-5) {
    image = graph.input("image", Type{{batch, 3, 4, 4}});
    Value x = graph.name(dense("patch", patchify(image, 2), 2, 8), "embed.patches");
    const Value cls = weight("cls", tiny_tensor(0, {1, 1, 8}, .5));
    x = concat({expand(cls, {batch, 1, 8}), x}, 1);
    x = add(x, weight("pos", tiny_tensor(1, {1, 5, 8}, .5)));
    for (int b = 0; b < 3; ++b) x = block(x, b);
    x = norm("norm", x, 40, final_epsilon);
    logits = dense("head", row(x, 0), 42, 3);
  }

 private:
  Value weight(const std::string& name, const Tensor& t) {
    weights.tensors[name] = t;
    return graph.weight(name, t.shape());
  }
  Value dense(const std::string& name, Value x, uint32_t t, int64_t outputs) {
    const Value w = weight(name + ".weight", tiny_tensor(t, {outputs, x.shape()[-1]}, .5));
    return linear(x, w, weight(name + ".bias", tiny_tensor(t + 1, {outputs}, .1)));
  }
  Value norm(const std::string& name, Value x, uint32_t t, double epsilon) {
    const Value w = weight(name + ".weight", tiny_tensor(t, {8}, .1, 1));
    const Value b = weight(name + ".bias", tiny_tensor(t + 1, {8}, .1));
    return graph.name(layer_norm(x, w, b, real(epsilon)), name);
  }
  // Rows [8 part, 8 part + 8) of the fused projection.
  Value projection(const std::string& name, Value x, uint32_t t, int64_t part) {
    const Tensor w = tiny_tensor(t, {24, 8}, .5).slice(8 * part, 8 * part + 8).clone();
    const Tensor b = tiny_tensor(t + 1, {24}, .1).slice(8 * part, 8 * part + 8).clone();
    return linear(x, weight(name + ".weight", w), weight(name + ".bias", b));
  }
  Value block(Value x, int b) {
    const auto t = uint32_t(4 + 12 * b);
    const std::string at = "blocks." + std::to_string(b) + ".";
    const Value y = graph.name(norm(at + "norm1", x, t, 1e-6), at + "attn.in");
    attention.push_back(whence::attention(projection(at + "q", y, t + 2, 0),
                                          projection(at + "k", y, t + 2, 1),
                                          projection(at + "v", y, t + 2, 2), 2, real(0.5)));
    x = add(x, dense(at + "proj", attention.back().context, t + 4, 8));
    const Value z = norm(at + "norm2", x, t + 6, 1e-6);
    return add(x, dense(at + "fc2", gelu(dense(at + "fc1", z, t + 8, 16)), t + 10, 8));
  }
};

}  // namespace whence
