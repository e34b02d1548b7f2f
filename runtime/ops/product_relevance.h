// The relevance rules of products with a weight, written once for linear layers and convolutions.
#pragma once

#include <functional>

#include "runtime/ops/op_common.h"

namespace whence {

// z = x * weight + bias. Other factors, and the transpose, for the same map:
struct Product {
  Value x, weight, bias;  // bias may be empty
  Value z;                // with the bias
  std::function<Value(Value x, Value weight, Value bias)> forward;
  std::function<Value(Value s, Value weight)> back;  // s of z's shape; the result has x's
};

// The product of a node that is linear in input 0 with weight input 1 and bias input 2, where there
// is one. A batch norm that a table merges into it (RelevanceEmit::merged_norm) scales the weight
// and moves the bias: the weight's first axis are the outputs.
Product product_of(const RelevanceEmit& e, decltype(Product::forward) forward,
                   decltype(Product::back) back);

// The relevance of x when z has the relevance r; throws unsupported, with the node's name, for
// other rules.
Value product_relevance(const RelevanceEmit& e, const Product& product, const RelevanceRule& rule,
                        Value r);

}  // namespace whence
