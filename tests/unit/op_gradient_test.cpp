// Gradients of every operator against central differences of its definition in double.
#include <gtest/gtest.h>

#include "tests/unit/op_graph.h"
#include "whence/error.h"

namespace whence {
namespace {

std::vector<OpCase> differentiable_cases() {
  std::vector<OpCase> all;
  for (OpCase& c : op_cases())
    if (std::any_of(c.in.begin(), c.in.end(), [](const OpInput& in) { return in.differentiable; }))
      all.push_back(std::move(c));
  return all;
}

constexpr double step = 1e-5;

// d sum(reference * seed) / d x_i, element by element.
ref::Array difference(const OpCase& c, ref::Arrays x, size_t i, const ref::Array& seed) {
  const auto total = [&] {
    const ref::Array y = c.reference(x);
    double sum = 0;
    for (size_t j = 0; j < y.x.size(); ++j) sum += y.x[j] * seed.x[j];
    return sum;
  };
  ref::Array slope(x[i].shape);
  for (size_t j = 0; j < slope.x.size(); ++j) {
    const double at = x[i].x[j];
    x[i].x[j] = at + step;
    const double above = total();
    x[i].x[j] = at - step;
    slope.x[j] = (above - total()) / (2 * step);
    x[i].x[j] = at;
  }
  return slope;
}

class OpGradient : public testing::TestWithParam<OpCase> {};

TEST_P(OpGradient, equals_differences_of_the_definition) {
  const OpCase& c = GetParam();
  const OpGraph g(c, true);
  const auto results = run_case(c, g, g.results(), {.threads = 2});
  const ref::Arrays x = case_arrays(c);
  const ref::Array seed(case_seed(g.seed));
  // Two sums of doubles, each off by a few roundings of its size, are subtracted and divided by the
  // step.
  const ref::Array y = c.reference(x);
  double size = 0;
  for (size_t j = 0; j < y.x.size(); ++j) size += std::abs(y.x[j] * seed.x[j]);
  const double noise = 8 * 2.2e-16 * size / step;
  for (size_t i = 0, k = 1; i < c.in.size(); ++i)
    if (c.in[i].differentiable)
      expect_close(results[k++], difference(c, x, i, seed), c.gradient_bound,
                   fmt::format("{} by input {}", c.name, i), noise);
}

// One gradient asked for alone is the gradient asked for together with others.
TEST_P(OpGradient, needs_no_other_gradient) {
  const OpCase& c = GetParam();
  OpGraph g(c);
  const auto together = run_case(c, g, g.grads, {.threads = 1});
  for (size_t k = 0; k < g.wrt.size(); ++k) {
    const Values alone = gradient(g.y, g.seed, {g.wrt[k]});
    expect_same_bits(run_case(c, g, alone, {.threads = 1})[0], together[k]);
  }
}

// Where one row (element of axis 1) is read, restricting the computation to it changes nothing.
TEST_P(OpGradient, of_a_single_row_needs_that_row_only) {
  const OpCase& c = GetParam();
  OpGraph g(c);
  const Shape& s = g.y.shape();
  if (s.rank() < 2) return;
  for (int64_t row : {int64_t(0), s[1] - 1}) {
    const Value z = slice(g.y, 1, row, row + 1);
    const Value seed = slice(g.seed, 1, row, row + 1);
    Values keep = gradient(z, seed, g.wrt);
    keep.push_back(z);
    const auto whole = run_case(c, g, keep, {.threads = 1, .without = {"restrict_rows"}}),
               rows = run_case(c, g, keep, {.threads = 2});
    // Sums that leave zeros out may be vectorised over other lanes: one rounding, not one bit.
    for (size_t i = 0; i < keep.size(); ++i)
      expect_near(rows[i], whole[i], sizeof(real) == 4 ? 1e-6 : 1e-15);
  }
}

INSTANTIATE_TEST_SUITE_P(Table, OpGradient, testing::ValuesIn(differentiable_cases()),
                         [](const auto& c) { return c.param.name; });

TEST(OpGradientOf, what_does_not_depend_is_an_error_or_zero) {
  Graph g;
  const Value x = g.input("x", Type{{2, 3}}), other = g.input("other", Type{{2, 3}});
  const Value y = g.name(relu(x), "y"), seed = g.input("seed", y.type(), Stage::seed);
  try {
    gradient(y, seed, {x, other});
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "'y' does not depend on 'other', so it has no gradient there");
  }
  const Values zero = gradient(y, seed, {x, other}, Unused::zero);
  Plan plan(zero);
  plan.set(x, Tensor::of({2, 3}, {1, -2, 3, -4, 5, -6}));
  plan.set(other, random_tensor({2, 3}, 1));
  plan.set(seed, Tensor::of({2, 3}, {1, 2, 3, 4, 5, 6}));
  plan.forward();
  plan.backward();
  expect_near(plan.get(zero[0]), Tensor::of({2, 3}, {1, 0, 3, 0, 5, 0}), 0);
  expect_near(plan.get(zero[1]), Tensor(Type{{2, 3}}), 0);
}

TEST(OpGradientOf, a_value_by_itself_is_the_seed) {
  Graph g;
  const Value x = g.input("x", Type{{2, 3}}), y = scale(x, 2);
  const Value seed = g.input("seed", y.type(), Stage::seed);
  const Values d = gradient(y, seed, {y, x});
  EXPECT_EQ(d[0], seed);
}

TEST(OpGradientOf, paths_that_meet_add_up) {
  Graph g;
  const Value x = g.input("x", Type{{1, 2}});
  const Value h = scale(x, 3), y = add(mul(h, h), sub(h, x));  // 9 x^2 + 2 x
  const Value seed = g.input("seed", y.type(), Stage::seed);
  const Values d = gradient(y, seed, {x, h});  // 18 x + 2; by h alone 2 h + 1
  Plan plan(d);
  plan.set(x, Tensor::of({1, 2}, {1, -2}));
  plan.set(seed, Tensor::of({1, 2}, {1, 10}));
  plan.forward();
  plan.backward();
  expect_near(plan.get(d[0]), Tensor::of({1, 2}, {20, -340}), 1e-6);
  expect_near(plan.get(d[1]), Tensor::of({1, 2}, {7, -110}), 1e-6);
}

TEST(OpGradientOf, captured_probabilities_are_not_differentiated_through) {
  Graph g;
  const Value x = g.input("x", Type{{2, 3, 4}});
  const Attention a = attention(x, x, x, 2, 1);
  const Value seed = g.input("seed", a.probs.type(), Stage::seed);
  EXPECT_THROW(gradient(a.probs, seed, {x}), Error);
}

}  // namespace
}  // namespace whence
