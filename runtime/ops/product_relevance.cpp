#include "runtime/ops/product_relevance.h"

#include <algorithm>

#include "runtime/ops/conv.h"
#include "whence/rules.h"

namespace whence {
namespace {

// Of inputs and biases; of weights see positive_part.
Value positive(Value x) { return relu(x); }
Value negative(Value x) { return scale(relu(scale(x, -1)), -1); }  // min(x, 0)

// Is x >= 0 whatever the input? Then rules need no part for negative inputs.
bool non_negative(Value x) {
  const Node& node = x.graph->node(x);
  if (!node.op) return false;
  const Traits traits = node.op->traits();
  if (traits.non_negative == Traits::always) return true;
  return (traits.move || traits.non_negative == Traits::if_inputs_are) &&
         std::ranges::all_of(node.in, [](Value v) { return non_negative(v); });
}

// Where a product's inputs are all 1, or all a given constant: the image of that, for each place.
Value ones_like_input(const Product& p) {
  return constant(*p.x.graph, p.x.shape().with(0, 1), {1});
}

class Rules {
 public:
  Rules(const RelevanceEmit& e, const Product& product, Value r) : e_(e), p(product), r_(r) {}

  Value operator()(const rule::Epsilon& rule) const {
    const Value z = rule.bias || !p.bias ? p.z : p.forward(p.x, p.weight, {});
    const Value s = divide(r_, z, rule.by);
    absorb(s, rule.bias ? p.bias : Value{});
    return share(p.weight, s);
  }
  Value operator()(const rule::PositiveWeights& rule) const {
    const Value w = positive_part(p.weight);
    const Value s = divide(r_, p.forward(p.x, w, p.bias), rule.by);
    absorb(s, p.bias);
    return share(w, s);
  }
  Value operator()(const rule::Gamma& rule) const {
    const auto grown = [&](Value w, Value part) { return add(w, scale(part, real(rule.gamma))); };
    const Value wp = grown(p.weight, positive_part(p.weight));
    if (!rule.generalised) {
      const Value s = divide(r_, p.forward(p.x, wp, p.bias), rule.by);
      absorb(s, p.bias);
      return share(wp, s);
    }
    const Value wn = grown(p.weight, negative_part(p.weight));
    const Value bp = p.bias ? grown(p.bias, positive(p.bias)) : Value{};
    const Value bn = p.bias ? grown(p.bias, negative(p.bias)) : Value{};
    // Of outputs above 0, and of those below: their own sign's contributions grow.
    const Value above = where_positive(p.z, r_), below = where_positive(scale(p.z, -1), r_);
    return add(signed_share(wp, wn, bp, above, true, rule.by),
               signed_share(wn, wp, bn, below, true, rule.by));
  }
  Value operator()(const rule::AlphaBeta& rule) const {
    const Value wp = positive_part(p.weight), wn = negative_part(p.weight);
    const bool bias = rule.bias && p.bias;
    Value result;
    if (rule.alpha != 0) {
      const Value b = bias ? positive(p.bias) : Value{};
      result = signed_share(wp, wn, b, r_, rule.joint, rule.by, rule.alpha);
      if (rule.alpha != 1) result = scale(result, real(rule.alpha));
    }
    if (rule.beta != 0) {
      const Value b = bias ? negative(p.bias) : Value{};
      const Value against =
          scale(signed_share(wn, wp, b, r_, rule.joint, rule.by, -rule.beta), real(-rule.beta));
      result = result ? add(result, against) : against;
    }
    return result ? result : scale(p.x, 0);
  }
  Value operator()(const rule::ZBox& rule) const {
    const Value wp = positive_part(p.weight), wn = negative_part(p.weight);
    const Value low = bound(rule.low, true), high = bound(rule.high, false);
    const auto corner = [&](Value at, Value w) {  // a bound of the sample is a factor of ones
      return at.shape().count(1, at.shape().rank()) == 1
                 ? mul(p.forward(ones_like_input(p), w, {}), at)
                 : p.forward(at, w, {});
    };
    const Value plain = p.bias ? p.forward(p.x, p.weight, {}) : p.z;
    const Value z = sub(sub(plain, corner(low, wp)), corner(high, wn));
    const Value s = divide(r_, z, rule.by);
    return sub(sub(share(p.weight, s), mul(p.back(s, wp), low)), mul(p.back(s, wn), high));
  }
  Value operator()(const rule::WSquare& rule) const {
    const Value w = mul(p.weight, p.weight), b = p.bias ? mul(p.bias, p.bias) : Value{};
    const Value s = divide(r_, p.forward(ones_like_input(p), w, b), rule.by);
    absorb(s, b);
    return p.back(s, w);
  }
  Value operator()(const rule::Flat& rule) const {
    const Value w = constant(*p.x.graph, p.weight.shape(), {1});
    return p.back(divide(r_, p.forward(ones_like_input(p), w, {}), rule.by), w);
  }
  template <class Other>
  Value operator()(const Other& rule) const {
    fail(ErrorCode::unsupported, "{} '{}' does not know the rule {}",
         e_.graph.node(e_.node).op->kind(), e_.graph.node(e_.node).name,
         to_string(RelevanceRule(rule)));
  }

 private:
  Value share(Value w, Value s) const { return mul(p.x, p.back(s, w)); }

  // Adds the share that a bias has of the relevance s times z.
  void absorb(Value s, Value bias, double factor = 1) const {
    if (!e_.absorbed || !bias) return;
    const Value part = scale(mul(s, bias), real(factor));
    *e_.absorbed = *e_.absorbed ? add(*e_.absorbed, part) : part;
  }

  // x+ times w and x- times v: the shares of r in products that have one sign. The bias takes its
  // own, `factor` times.
  Value signed_share(Value w, Value v, Value bias, Value r, bool joint, Stabiliser by,
                     double factor = 1) const {
    if (non_negative(p.x)) {
      const Value s = divide(r, p.forward(p.x, w, bias), by);
      absorb(s, bias, factor);
      return share(w, s);
    }
    const Value xp = positive(p.x), xn = negative(p.x);
    const Value first = p.forward(xp, w, bias), second = p.forward(xn, v, {});
    const auto part = [&](Value x, Value weight, Value s) { return mul(x, p.back(s, weight)); };
    if (joint) {
      const Value s = divide(r, add(first, second), by);
      absorb(s, bias, factor);
      return add(part(xp, w, s), part(xn, v, s));
    }
    return add(part(xp, w, divide(r, first, by)), part(xn, v, divide(r, second, by)));
  }

  // [B, 1, ...]: the smallest or largest input of each sample; or the given one, [1, ...].
  Value bound(const std::vector<double>& given, bool lowest) const {
    const Shape& x = p.x.shape();
    if (given.empty()) {
      Shape ones = x;
      for (int i = 1; i < ones.rank(); ++i) ones[i] = 1;
      if (!lowest) return reshape(largest(p.x), ones);
      return scale(reshape(largest(scale(p.x, -1)), ones), -1);
    }
    // A channel's inputs lie side by side in patches.
    const int64_t each = x[-1] / int64_t(given.size());
    std::vector<double> values;
    for (double v : given) values.insert(values.end(), size_t(each), v);
    if (int64_t(values.size()) != x[-1])
      fail_shape("{} bounds of ZBox for {} channels of '{}'", given.size(), x[-1],
                 e_.graph.node(e_.node).name);
    return constant(*p.x.graph, x.with(0, 1), values);
  }

  const RelevanceEmit& e_;
  const Product& p;
  Value r_;
};

}  // namespace

Product product_of(const RelevanceEmit& e, decltype(Product::forward) forward,
                   decltype(Product::back) back) {
  Product p{e.in(0), e.in(1), {}, e.out(), std::move(forward), std::move(back)};
  if (e.graph.node(e.node).in.size() > 2) p.bias = e.in(2);
  if (!e.merged_norm) return p;
  const Node& norm = e.graph.node(*e.merged_norm);  // x, weight, bias, mean, variance
  const real eps = static_cast<const BatchNorm&>(*norm.op).eps;
  const Value s = emit<NormScale>({norm.in[1], norm.in[4]}, eps);
  Shape of_rows = p.weight.shape();
  for (int i = 1; i < of_rows.rank(); ++i) of_rows[i] = 1;
  const Value away = p.bias ? sub(p.bias, norm.in[3]) : scale(norm.in[3], -1);
  p.weight = mul(p.weight, reshape(s, of_rows));
  p.bias = add(mul(away, s), norm.in[2]);
  p.z = Value{&e.graph, *e.merged_norm, 0};
  return p;
}

Value product_relevance(const RelevanceEmit& e, const Product& product, const RelevanceRule& rule,
                        Value r) {
  return std::visit(Rules(e, product, r), rule);
}

}  // namespace whence
