// Attention and what follows from the cotangent of its context.
#include <fmt/core.h>

#include "tests/unit/op_cases.h"
#include "whence/ops.h"

namespace whence {
namespace {

using ref::Array;
using ref::Arrays;
using ref::Index;

struct Sizes {
  std::string name;
  int64_t batch, queries, keys, width, heads;
  double scale() const { return 1 / std::sqrt(double(width / heads)); }
};

// Everything in double from q, k, v and dcontext.
struct Reference {
  Array probs, g;  // [B,H,Q,N]
  Reference(const Arrays& x, const Sizes& s)
      : probs(ref::attention_probs(x[0], x[1], s.heads, real(s.scale()))),
        g(ref::head_products(x[3], x[2], s.heads, 1)) {}
  Array relevance() const {
    return ref::head_mean(probs, g, [](double p, double d) { return std::max(p * d, 0.0); });
  }
};

std::vector<OpInput> inputs(const Sizes& s, bool cotangent, bool differentiable = true) {
  std::vector<OpInput> in{{{s.batch, s.queries, s.width}, 1.5, 0, differentiable},
                          {{s.batch, s.keys, s.width}, 1.5, 0, differentiable},
                          {{s.batch, s.keys, s.width}, 1, 0, differentiable}};
  if (cotangent) in.push_back({{s.batch, s.queries, s.width}, 1, 0, false});
  return in;
}

Attention of(const Values& x, const Sizes& s) {
  return attention(x[0], x[1], x[2], s.heads, real(s.scale()));
}

Array row_of(const Array& maps, int64_t row) {
  return ref::make({maps.shape[0], maps.shape[1], maps.shape[3]}, [&](const Index& at) {
    return maps({at[0], at[1], row, at[2]});
  });
}

std::vector<OpCase> cases_of(const Sizes& s) {
  const auto by_cotangent = [&](const std::string& name,
                                std::function<Value(const Attention&, Value)> build,
                                std::function<Array(const Reference&)> pick) {
    return OpCase{name + s.name, inputs(s, true, false),
                  [=](const Values& x) { return build(of(x, s), x[3]); },
                  [=](const Arrays& x) { return pick(Reference(x, s)); }};
  };
  OpCase chain{"attention_relevance_chain" + s.name, inputs(s, true, false),
               [s](const Values& x) { return attention_relevance_chain(of(x, s), x[3], x[4]); },
               [s](const Arrays& x) {
                 return ref::einsum(x[4], Reference(x, s).relevance(), "bq,bqn->bn");
               }};
  chain.in.push_back({{s.batch, s.queries}, 1, 0, false});
  const auto probs = [s](const Arrays& x) {
    return ref::attention_probs(x[0], x[1], s.heads, real(s.scale()));
  };
  const int64_t row = s.queries - 1;
  return {
      {"attention_context" + s.name, inputs(s, false),
       [s](const Values& x) { return of(x, s).context; },
       [=](const Arrays& x) { return ref::attention_context(probs(x), x[2]); }},
      {"attention_probs" + s.name, inputs(s, false, false),
       [s](const Values& x) { return of(x, s).probs; }, probs},
      {"attention_probs_mean" + s.name, inputs(s, false, false),
       [s](const Values& x) { return of(x, s).probs_mean; },
       [=](const Arrays& x) { return ref::reduce(probs(x), {1}, true); }},
      {"attention_row" + s.name, inputs(s, false, false),
       [=](const Values& x) { return attention_row(of(x, s), row); },
       [=](const Arrays& x) { return row_of(probs(x), row); }},
      by_cotangent(
          "attention_gradient_row",
          [row](const Attention& a, Value d) { return attention_gradient_row(a, d, row); },
          [row](const Reference& r) { return row_of(r.g, row); }),
      by_cotangent(
          "attention_gradient",
          [](const Attention& a, Value d) { return gradient(a.context, d, {a.probs})[0]; },
          [](const Reference& r) { return r.g; }),
      by_cotangent("attention_gradient_mean", attention_gradient_mean,
                   [](const Reference& r) { return ref::reduce(r.g, {1}, true); }),
      by_cotangent("attention_relevance", attention_relevance,
                   [](const Reference& r) { return r.relevance(); }),
      chain,
  };
}

}  // namespace

std::vector<OpCase> attention_cases() {
  std::vector<OpCase> all;
  for (const Sizes& s : {Sizes{"", 2, 5, 5, 6, 2}, Sizes{"_one_head", 3, 4, 4, 3, 1},
                         Sizes{"_more_keys", 2, 3, 7, 10, 2}, Sizes{"_one_query", 2, 1, 4, 6, 3}})
    for (OpCase& c : cases_of(s)) all.push_back(std::move(c));
  return all;
}

}  // namespace whence
