// Kernels at the sizes of ViT-B/16: 197 tokens of width 768, 12 heads, 3072 hidden elements.
#include "bench/measure.h"
#include "kernels/attention.h"
#include "kernels/elementwise.h"
#include "kernels/product.h"
#include "kernels/random.h"
#include "kernels/rows.h"

namespace whence::bench {
namespace {

struct Sizes {
  int64_t batch = 1, tokens = 197, width = 768, heads = 12, hidden = 3072;
  int64_t image = 224, patch = 16;
  int64_t rows() const { return batch * tokens; }
  int64_t pixels() const { return batch * 3 * image * image; }
  std::string at() const { return "/batch:" + std::to_string(batch); }
};

Sizes sizes(int64_t batch, bool smoke) {
  Sizes z;
  z.batch = batch;
  if (smoke) z.tokens = 5, z.width = 32, z.heads = 2, z.hidden = 64, z.image = 32;
  return z;
}

using Cases = std::vector<Case>;

void products(Cases& out, const Sizes& z) {
  struct Layer {
    const char* name;
    int64_t n, k;
    bool bias, gelu, residual;
  };
  const int64_t w = z.width, h = z.hidden;
  for (const Layer& l : {Layer{"qkv", 3 * w, w, true, false, false},
                         {"proj", w, w, true, false, true},
                         {"fc1", h, w, true, true, false},
                         {"fc2", w, h, true, false, true},
                         {"qkv_bwd", w, 3 * w, false, false, false},
                         {"fc1_bwd", w, h, false, false, false},
                         {"fc2_bwd", h, w, false, false, false}}) {
    const int64_t m = z.rows();
    const double flops = 2.0 * double(m) * double(l.n) * double(l.k);
    out.push_back(case_of(
        std::string("product/") + l.name + z.at(), flops, Ways::precisions, [=](Operands& o) {
          const Operand a = o.normal(m * l.k), b = o.normal(k::packed_count(l.n, l.k)),
                        c = o.room(m * l.n);
          const Operand bias = l.bias ? o.normal(l.n) : Operand{};
          const Operand residual = l.residual ? o.normal(m * l.n) : Operand{};
          return [=](auto& s, int64_t t) {
            k::product(s, a(t), l.k, b(t), m, l.n, l.k,
                       {.bias = bias(t),
                        .activation = l.gelu ? k::Unary(k::Gelu{}) : k::Identity{},
                        .residual = residual(t)},
                       c(t), l.n);
          };
        }));
  }
}

// Operations of one product of attention: scores, or context.
double attention_product(const Sizes& z) {
  return 2.0 * double(z.batch) * double(z.tokens) * double(z.tokens) * double(z.width);
}

void attention(Cases& out, const Sizes& z) {
  const k::AttentionSize size{z.batch, z.heads, z.tokens, z.tokens, z.width / z.heads};
  const int64_t n = z.rows() * z.width, map = z.batch * z.tokens * z.tokens;
  const int64_t lines = z.batch * z.heads * z.tokens;
  struct Capture {
    const char* name;
    int64_t probs, head_mean, row;
  };
  for (const Capture& c : {Capture{"none", 0, 0, 0},
                           {"rows", 0, 0, lines},
                           {"head_mean", 0, map, 0},
                           {"full", z.heads * map, 0, 0}}) {
    out.push_back(case_of(
        std::string("attention/") + c.name + z.at(), 2 * attention_product(z), Ways::precisions,
        [=](Operands& o) {
          const Operand q = o.normal(n), k = o.normal(n), v = o.normal(n), y = o.room(n);
          const auto if_any = [&](int64_t count) { return count ? o.room(count) : Operand{}; };
          const Operand probs = if_any(c.probs), mean = if_any(c.head_mean), row = if_any(c.row);
          return [=](auto& s, int64_t t) {
            k::attention(s, q(t), k(t), v(t), size, real(0.125), y(t),
                         {.probs = probs(t), .head_mean = mean(t), .row = row(t)});
          };
        }));
  }
}

void attention_backward(Cases& out, const Sizes& z) {
  const k::AttentionSize size{z.batch, z.heads, z.tokens, z.tokens, z.width / z.heads};
  const int64_t n = z.rows() * z.width, map = z.batch * z.tokens * z.tokens;
  struct Outputs {
    const char* name;
    double products;
    bool gradients, rows, chain;
    int64_t relevance;
  };
  for (const Outputs& c : {Outputs{"plain", 5, true, false, false, 0},
                           {"rows", 5, true, true, false, 0},
                           {"chain", 5, true, false, true, 0},
                           {"relevance", 5, true, false, false, map},
                           {"chain_alone", 2, false, false, true, 0}}) {
    out.push_back(case_of(
        std::string("attention_bwd/") + c.name + z.at(), c.products * attention_product(z),
        Ways::precisions, [=](Operands& o) {
          const Operand q = o.normal(n), k = o.normal(n), v = o.normal(n), g = o.normal(n);
          const auto room = [&](bool wanted, int64_t count) {
            return wanted ? o.room(count) : Operand{};
          };
          const Operand dq = room(c.gradients, n), dk = room(c.gradients, n),
                        dv = room(c.gradients, n), relevance = room(c.relevance, c.relevance),
                        row = room(c.rows, z.rows() * z.heads), in = room(c.chain, z.rows()),
                        chain = room(c.chain, z.rows());
          return [=](auto& s, int64_t t) {
            k::AttentionGradients to;
            to.dq = dq(t), to.dk = dk(t), to.dv = dv(t);
            to.dprobs_row = row(t), to.relevance = relevance(t);
            to.chain_in = in(t), to.chain_out = chain(t);
            k::attention_bwd(s, q(t), k(t), v(t), g(t), size, real(0.125), to);
          };
        }));
  }
}

void norms(Cases& out, const Sizes& z) {
  const int64_t rows = z.rows(), cols = z.width, n = rows * cols;
  const real eps = real(1e-6);
  const auto norm = [&](const char* name, auto call, bool has_weight, bool has_dy) {
    out.push_back(case_of(name + z.at(), 0, Ways::one, [=](Operands& o) {
      const Operand x = o.normal(n), d = has_dy ? o.normal(n) : Operand{};
      const Operand w = has_weight ? o.normal(cols) : Operand{}, b = o.normal(cols);
      const Operand y = has_weight ? o.room(n) : o.room(cols);
      return [=](auto& s, int64_t t) { call(s, x(t), w(t), b(t), d(t), y(t)); };
    }));
  };
  norm(
      "layer_norm",
      [=](auto& s, real* x, real* w, real* b, real*, real* y) {
        k::layer_norm(s, x, w, b, eps, rows, cols, y);
      },
      true, false);
  norm(
      "layer_norm_bwd",
      [=](auto& s, real* x, real* w, real*, real* d, real* y) {
        k::layer_norm_bwd(s, x, w, d, eps, rows, cols, y);
      },
      true, true);
  norm(
      "layer_norm_bwd_weight",
      [=](auto& s, real* x, real*, real*, real* d, real* y) {
        k::layer_norm_bwd_weight(s, x, d, eps, rows, cols, y);
      },
      false, true);
}

// A case of arrays of one size: y = call(x), or of x and d.
template <class Call>
Case flat(const std::string& name, int64_t inputs, int64_t n, Call call) {
  return case_of(name, 0, Ways::one, [=](Operands& o) {
    const Operand x = inputs > 0 ? o.normal(n) : Operand{};
    const Operand d = inputs > 1 ? o.normal(n) : Operand{}, y = o.room(n);
    return [=](auto& s, int64_t t) { call(s, x(t), d(t), y(t)); };
  });
}

void softmaxes(Cases& out, const Sizes& z) {
  const int64_t lines = z.rows() * z.heads, cols = z.tokens;
  out.push_back(flat("softmax" + z.at(), 1, lines * cols,
                     [=](auto& s, real* x, real*, real* y) { k::softmax(s, x, lines, cols, y); }));
  out.push_back(
      flat("softmax_bwd" + z.at(), 2, lines * cols,
           [=](auto& s, real* x, real* d, real* y) { k::softmax_bwd(s, x, d, lines, cols, y); }));
  out.push_back(
      flat("log_softmax" + z.at(), 1, lines * cols,
           [=](auto& s, real* x, real*, real* y) { k::log_softmax(s, x, lines, cols, y); }));
}

void elementwise(Cases& out, const Sizes& z) {
  const int64_t n = z.rows() * z.hidden;
  const k::Broadcast dense{{1, 1, 1, 1, n}, {0, 0, 0, 0, 1}, {0, 0, 0, 0, 1}};
  out.push_back(case_of("rescale" + z.at(), 0, Ways::one, [=](Operands& o) {
    const Operand x = o.normal(n), x0 = o.normal(n / z.batch), dy = o.normal(n), dx = o.room(n);
    return [=](auto& s, int64_t t) {
      k::rescale(s, k::Gelu{}, real(1e-10), x(t), x0(t), n / z.batch, dy(t), n, dx(t));
    };
  }));
  const std::pair<const char*, k::Unary> functions[] = {
      {"gelu", k::Gelu{}}, {"gelu_tanh", k::GeluTanh{}}, {"gelu_quick", k::GeluQuick{}}};
  for (const auto& [name, f] : functions) {
    out.push_back(flat(name + z.at(), 1, n,
                       [=, f = f](auto& s, real* x, real*, real* y) { k::unary(s, f, x, n, y); }));
  }
  const auto add_pair = [&](const char* name, auto call) {
    out.push_back(flat(name + z.at(), 2, n, call));
  };
  add_pair("gelu_bwd",
           [=](auto& s, real* x, real* d, real* y) { k::unary_bwd(s, k::Gelu{}, x, d, n, y); });
  add_pair("add", [=](auto& s, real* a, real* b, real* y) {
    k::binary(s, k::Binary::add, a, b, dense, y);
  });
  add_pair("mul", [=](auto& s, real* a, real* b, real* y) {
    k::binary(s, k::Binary::mul, a, b, dense, y);
  });
  add_pair("divide", [=](auto& s, real* a, real* b, real* y) {
    k::divide(s, k::Division::guarded, real(1e-9), a, b, dense, y);
  });
  out.push_back(flat("affine" + z.at(), 1, n,
                     [=](auto& s, real* x, real*, real* y) { k::affine(s, x, 2, -1, n, y); }));
  out.push_back(flat("copy_blocks" + z.at(), 1, n, [=](auto& s, real* x, real*, real* y) {
    k::copy_blocks(s, x, z.hidden, z.rows(), z.hidden, y, z.hidden);
  }));
}

void sums(Cases& out, const Sizes& z) {
  const auto sum = [&](const char* name, const std::array<int64_t, 5>& size,
                       const std::array<bool, 5>& kept) {
    int64_t from = 1, to = 1;
    for (size_t i = 0; i < 5; ++i) {
      from *= size[i];
      if (kept[i]) to *= size[i];
    }
    out.push_back(case_of(name + z.at(), 0, Ways::one, [=](Operands& o) {
      const Operand x = o.normal(from), y = o.room(to);
      return [=](auto& s, int64_t t) { k::reduce_sum(s, x(t), size, kept, 1, y(t)); };
    }));
  };
  sum("sum_rows", {1, 1, 1, z.rows(), z.hidden}, {true, true, true, false, true});
  sum("sum_cols", {1, 1, 1, z.rows(), z.hidden}, {true, true, true, true, false});
  sum("sum_heads", {1, z.batch, z.heads, z.tokens, z.tokens}, {true, true, false, true, true});
}

// What runs on images: 32 steps of a path end in one image's sum.
void images(Cases& out, const Sizes& z) {
  const int64_t pixels = z.pixels(), one = pixels / z.batch, steps = 32;
  const k::PatchSize patches{z.batch, 3, z.image, z.image, z.patch};
  out.push_back(flat("patchify" + z.at(), 1, pixels,
                     [=](auto& s, real* x, real*, real* y) { k::patchify(s, x, patches, y); }));
  out.push_back(flat("unpatchify" + z.at(), 1, pixels,
                     [=](auto& s, real* x, real*, real* y) { k::unpatchify(s, x, patches, y); }));
  out.push_back(flat("random_normal" + z.at(), 0, pixels,
                     [=](auto& s, real*, real*, real* y) { k::random_normal(s, {1}, pixels, y); }));
  out.push_back(flat("random_uniform" + z.at(), 0, pixels, [=](auto& s, real*, real*, real* y) {
    k::random_uniform(s, {1}, pixels, y);
  }));
  if (z.batch > 2) return;  // once is enough: it has no batch
  out.push_back(case_of("accumulate/rows:32", 0, Ways::one, [=](Operands& o) {
    const Operand x = o.normal(steps * one), weight = o.uniform(steps), slots = o.zeros(steps),
                  state = o.room(one, 2 * one);  // read and written
    return [=](auto& s, int64_t t) {             // zeros are the slot number 0 as well
      k::accumulate(s, x(t), weight(t), reinterpret_cast<const int32_t*>(slots(t)), steps, one,
                    state(t));
    };
  }));
}

// An einsum of matrices, c[i, k] = sum_j a[i, j] b[j, k], and a vector with a matrix both ways.
void contractions(Cases& out, const Sizes& z) {
  using k::Axis;
  const auto role = [](const Axis& axis) {
    k::Contraction::Role r;
    r.axes[0] = axis;
    r.count = 1;
    return r;
  };
  const auto contraction = [&](const char* name, const k::Contraction& letters, int64_t a,
                               int64_t b, int64_t c, double flops) {
    out.push_back(case_of(name, flops, Ways::precisions, [=](Operands& o) {
      const Operand x = o.normal(a), w = o.normal(b), y = o.room(c);
      return [=](auto& s, int64_t t) { k::contract(s, x(t), w(t), y(t), letters, 1); };
    }));
  };
  const int64_t n = z.tokens, w = z.width, h = z.hidden;
  contraction("contract/ij_jk", {{}, role({n, n, 0, n}), role({n, 0, 1, 1}), role({n, 1, n, 0})},
              n * n, n * n, n * n, 2.0 * double(n * n * n));
  contraction("contract/vector_down", {{}, {}, role({h, 0, 1, 1}), role({w, 1, h, 0})}, w, w * h, h,
              2.0 * double(w * h));
  contraction("contract/vector_along", {{}, {}, role({h, 0, w, 1}), role({w, 1, 1, 0})}, w, w * h,
              h, 2.0 * double(w * h));
}

}  // namespace

std::vector<Case> transformer_cases(const Setup& setup) {
  Cases out;
  for (const int64_t batch : setup.batches) {
    const Sizes z = sizes(batch, setup.smoke);
    if (setup.device.kind != Device::cpu || setup.smoke) products(out, z);
    attention(out, z);
    attention_backward(out, z);
    norms(out, z);
    softmaxes(out, z);
    elementwise(out, z);
    sums(out, z);
    images(out, z);
  }
  contractions(out, sizes(1, setup.smoke));
  return out;
}

}  // namespace whence::bench
