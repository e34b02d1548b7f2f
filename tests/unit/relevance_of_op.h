// The relevance of one op's inputs, and comparison with printed numbers.
#pragma once

#include <gtest/gtest.h>

#include <functional>

#include "whence/plan.h"
#include "whence/rules.h"

namespace whence {

constexpr double relevance_bound = sizeof(real) == 8 ? 2e-9 : 1e-5;

// Printed digits are good to 1e-9.
inline void expect_values(std::span<const real> got, const std::vector<double>& want,
                          const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  double largest = 0;
  for (double x : want) largest = std::max(largest, std::abs(x));
  for (size_t i = 0; i < want.size(); ++i)
    EXPECT_LE(std::abs(double(got[i]) - want[i]), relevance_bound * largest + 1e-9)
        << what << ": element " << i << " is " << got[i] << ", not " << want[i];
}

using BuildOp = std::function<Value(const Values&)>;

// The relevance of the first `wanted` inputs of one op.
inline std::vector<Tensor> explain_op(const std::vector<Tensor>& x, size_t wanted, const Tensor& r,
                                      const RuleTable& rules, const BuildOp& build) {
  Graph g;
  Values in;
  for (size_t i = 0; i < x.size(); ++i) in.push_back(g.input("x" + std::to_string(i), x[i].type()));
  const Value y = build(in), seed = g.input("seed", y.type(), Stage::seed);
  const Values of = relevance(y, seed, Values(in.begin(), in.begin() + int64_t(wanted)), rules);
  Values kept = of;
  kept.push_back(y);  // some rules read none of the inputs
  Plan plan(kept);
  for (size_t i = 0; i < x.size(); ++i) plan.set(in[i], x[i]);
  plan.set(seed, r);
  plan.forward();
  plan.backward();
  std::vector<Tensor> results;
  for (Value v : of) results.push_back(plan.get(v));
  return results;
}

inline RuleTable one_rule(const std::string& kind, RelevanceRule rule) {
  return {"test", {{kind, "*", std::move(rule)}}};
}

// Numbers as a tensor of reals.
inline Tensor reals(Shape shape, const std::vector<double>& values) {
  return Tensor::of(shape, std::vector<real>(values.begin(), values.end()));
}

// [B, C, H, W] -> [B, H, W, C]
inline Tensor channels_last_of(const Tensor& x) {
  const Shape& s = x.shape();
  Tensor y(Type{{s[0], s[2], s[3], s[1]}});
  const int64_t area = s[2] * s[3];
  for (int64_t b = 0; b < s[0]; ++b)
    for (int64_t c = 0; c < s[1]; ++c)
      for (int64_t p = 0; p < area; ++p)
        y.reals()[size_t((b * area + p) * s[1] + c)] = x.reals()[size_t((b * s[1] + c) * area + p)];
  return y;
}

}  // namespace whence
