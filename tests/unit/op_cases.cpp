#include "tests/unit/op_cases.h"

#include <fmt/core.h>

#include "tests/ref/functions.h"
#include "whence/ops.h"

namespace whence {
namespace {

using ref::Array;
using ref::Arrays;
using ref::Index;

OpCase unary(const std::string& name, std::function<Value(Value)> op, double (*f)(double),
             double spread = 2) {
  return {name,
          {{{2, 3, 7}, spread}},
          [op](const Values& x) { return op(x[0]); },
          [f](const Arrays& x) { return ref::apply(x[0], f); }};
}

// Pairs of every two ranks; sizes of 1 fall on alternating axes of the two operands.
std::vector<OpCase> broadcast_cases() {
  struct Pair {
    const char* name;
    Value (*op)(Value, Value);
    double (*f)(double, double);
  };
  const Pair pairs[] = {{"add", add, [](double a, double b) { return a + b; }},
                        {"sub", sub, [](double a, double b) { return a - b; }},
                        {"mul", mul, [](double a, double b) { return a * b; }}};
  const Index sizes{2, 3, 2, 4, 3};
  std::vector<OpCase> cases;
  for (int ra = 0; ra <= 5; ++ra)
    for (int rb = 0; rb <= 5; ++rb)
      for (int ones = 0; ones < 3; ++ones) {
        const auto shape = [&](int rank, int phase) {
          Index own(sizes.end() - rank, sizes.end());
          for (int i = 0; i < rank; ++i)
            if (ones > 0 && (i + rank + phase) % (ones + 1) == 0) own[size_t(i)] = 1;
          return Shape(own);
        };
        const Pair& p = pairs[(ra + rb + ones) % 3];
        cases.push_back({fmt::format("{}_of_ranks_{}_{}_ones_{}", p.name, ra, rb, ones),
                         {{shape(ra, 0)}, {shape(rb, 1)}},
                         [p](const Values& x) { return p.op(x[0], x[1]); },
                         [p](const Arrays& x) { return ref::pairwise(x[0], x[1], p.f); }});
      }
  return cases;
}

OpCase product(const std::string& name, const std::string& labels, Shape a, Shape b) {
  return {"einsum_" + name,
          {{a}, {b}},
          [labels](const Values& x) { return einsum(x[0], x[1], labels); },
          [labels](const Arrays& x) { return ref::einsum(x[0], x[1], labels); }};
}

OpCase dense(const std::string& name, Shape x, int64_t outputs, bool bias) {
  OpCase c{"linear_" + name,
           {{x}, {{outputs, x[-1]}}},
           [bias](const Values& v) { return linear(v[0], v[1], bias ? v[2] : Value{}); },
           [bias](const Arrays& v) { return ref::linear(v[0], v[1], bias ? &v[2] : nullptr); }};
  if (bias) c.in.push_back({{outputs}});
  return c;
}

}  // namespace

std::vector<OpCase> elementwise_cases() {
  std::vector<OpCase> cases{
      unary(
          "affine", [](Value x) { return affine(x, real(-1.25), real(0.5)); },
          [](double x) { return -1.25 * x + 0.5; }),
      unary(
          "scale", [](Value x) { return scale(x, real(0.375)); },
          [](double x) { return 0.375 * x; }),
      {"mul_by_itself",
       {{{2, 5}}},
       [](const Values& x) { return mul(x[0], x[0]); },
       [](const Arrays& x) { return ref::apply(x[0], [](double v) { return v * v; }); }},
      {"sub_of_itself_scaled",
       {{{2, 5}}},
       [](const Values& x) { return sub(x[0], scale(x[0], real(0.25))); },
       [](const Arrays& x) { return ref::apply(x[0], [](double v) { return 0.75 * v; }); }},
      {"interpolate",
       {{{3}}, {{3, 2, 5}}},
       [](const Values& x) { return interpolate(x[0], x[1]); },
       [](const Arrays& x) {
         return ref::make({3, 2, 5}, [&](const Index& i) { return x[0]({i[0]}) * x[1](i); });
       }},
      {"interpolate_between",
       {{{2}}, {{2, 3, 3, 5}}, {{2}}, {{2, 3, 3, 5}}},
       [](const Values& x) { return interpolate(x[0], x[1], x[2], x[3]); },
       [](const Arrays& x) {
         return ref::make({2, 3, 3, 5}, [&](const Index& i) {
           return x[0]({i[0]}) * x[1](i) + x[2]({i[0]}) * x[3](i);
         });
       }},
  };
  for (const ref::Function& row : ref::functions)
    cases.push_back(unary(
        facts_of(row.f).name, [f = row.f](Value x) { return whence::unary(facts_of(f).name, x); },
        row.value, row.spread));
  for (OpCase& c : broadcast_cases()) cases.push_back(std::move(c));
  return cases;
}

std::vector<OpCase> product_cases() {
  return {
      product("matrix", "ik,kj->ij", {3, 5}, {5, 4}),
      product("transposed", "ki,jk->ji", {5, 3}, {4, 5}),
      product("weight", "bnc,oc->bno", {2, 3, 5}, {4, 5}),
      product("heads", "bnhd,bmhd->bhnm", {2, 3, 2, 5}, {2, 4, 2, 5}),
      product("split", "bnc,shdc->sbnhd", {2, 3, 5}, {3, 2, 3, 5}),
      product("loop_of_one_operand", "bij,jk->kbi", {2, 3, 5}, {5, 4}),
      product("elementwise", "abc,cab->bca", {2, 3, 5}, {5, 2, 3}),
      product("outer", "a,bc->bac", {3}, {2, 5}),
      product("dot", "abc,cba->", {2, 3, 5}, {5, 3, 2}),
      product("sums_apart", "axby,ycx->abc", {2, 3, 4, 2}, {2, 5, 3}),
      product("row_vector", "bn,bnm->bm", {2, 5}, {2, 5, 3}),
      product("column_vector", "bnm,bm->bn", {2, 5, 3}, {2, 3}),
      product("everything_permuted", "abcde,edcba->badce", {2, 3, 2, 1, 3}, {3, 1, 2, 3, 2}),
      dense("row", {5}, 3, true),
      dense("matrix", {4, 5}, 3, false),
      dense("tokens", {2, 3, 17}, 7, true),
      dense("rank_4", {2, 3, 2, 5}, 19, true),
      dense("one_output", {2, 3, 5}, 1, true),
      dense("one_input", {2, 3, 1}, 4, false),
      {"linear_then_gelu_then_sum",
       {{{2, 3, 9}}, {{9, 9}}, {{9}}},
       [](const Values& v) { return add(v[0], gelu(linear(v[0], v[1], v[2]))); },
       [](const Arrays& v) {
         const Array h = ref::apply(ref::linear(v[0], v[1], &v[2]), [](double x) {
           return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
         });
         return ref::pairwise(v[0], h, [](double a, double b) { return a + b; });
       }},
      {"sum_of_two_linears",
       {{{2, 3, 5}}, {{5, 5}}, {{5, 5}}},
       [](const Values& v) { return add(linear(v[0], v[1]), relu(linear(v[0], v[2]))); },
       [](const Arrays& v) {
         return ref::pairwise(ref::linear(v[0], v[1], nullptr), ref::linear(v[0], v[2], nullptr),
                              [](double a, double b) { return a + std::max(b, 0.0); });
       }},
  };
}

std::vector<OpCase> row_cases() {
  const auto norm = [](const std::string& name, Shape shape, double spread, double shift) {
    const int64_t width = shape[-1];
    return OpCase{"layer_norm_" + name,
                  {{shape, spread, shift}, {{width}, 0.5, 1}, {{width}}},
                  [](const Values& x) { return layer_norm(x[0], x[1], x[2], real(1e-5)); },
                  [](const Arrays& x) { return ref::layer_norm(x[0], x[1], x[2], real(1e-5)); }};
  };
  return {
      norm("tokens", {2, 3, 7}, 1, 0),
      norm("spread", {5, 33}, 30, 0),
      norm("shifted", {3, 11}, 1, 2),
      norm("row", {9}, 1, 0),
      {"softmax",
       {{{2, 3, 7}, 3}},
       [](const Values& x) { return softmax(x[0]); },
       [](const Arrays& x) { return ref::softmax(x[0]); }},
      {"softmax_one_column",
       {{{2, 3, 1}, 3}},
       [](const Values& x) { return softmax(x[0]); },
       [](const Arrays& x) { return ref::softmax(x[0]); }},
      {"log_softmax",
       {{{2, 3, 7}, 3}},
       [](const Values& x) { return log_softmax(x[0]); },
       [](const Arrays& x) { return ref::log_softmax(x[0]); }},
      {"softmax_of_a_row",
       {{{19}, 3}},
       [](const Values& x) { return softmax(x[0]); },
       [](const Arrays& x) { return ref::softmax(x[0]); }},
      {"cross_entropy",
       {{{3, 7}, 2}, {{3, 7}, 0.2, 0.4}},
       [](const Values& x) { return cross_entropy(x[0], x[1]); },
       [](const Arrays& x) {
         const Array terms =
             ref::pairwise(ref::log_softmax(x[0]), x[1], [](double a, double b) { return -a * b; });
         return ref::reduce(terms, {1}, false);
       }},
  };
}

std::vector<OpCase> shape_cases() {
  const auto moved = [](const std::string& name, Shape in, std::function<Value(Value)> op,
                        Shape out, std::function<double(const Array&, const Index&)> element) {
    return OpCase{name,
                  {{in}},
                  [op](const Values& x) { return op(x[0]); },
                  [out, element](const Arrays& x) {
                    return ref::make(out, [&](const Index& at) { return element(x[0], at); });
                  }};
  };
  const auto reduced = [](const std::string& name, Shape in, std::vector<int> axes, bool average) {
    return OpCase{name,
                  {{in}},
                  [=](const Values& x) { return average ? mean(x[0], axes) : sum(x[0], axes); },
                  [=](const Arrays& x) { return ref::reduce(x[0], axes, average); }};
  };
  return {
      moved(
          "reshape", {2, 3, 5},
          [](Value x) {
            return reshape(x, {5, 6});
          },
          {5, 6}, [](const Array& x, const Index& i) { return x.x[size_t(i[0] * 6 + i[1])]; }),
      moved(
          "slice_outer", {4, 3, 5}, [](Value x) { return slice(x, 0, 1, 3); }, {2, 3, 5},
          [](const Array& x, const Index& i) {
            return x({i[0] + 1, i[1], i[2]});
          }),
      moved(
          "slice_rows", {2, 5, 3}, [](Value x) { return slice(x, 1, 2, 4); }, {2, 2, 3},
          [](const Array& x, const Index& i) {
            return x({i[0], i[1] + 2, i[2]});
          }),
      moved(
          "slice_last", {2, 3, 5}, [](Value x) { return slice(x, -1, 0, 4); }, {2, 3, 4},
          [](const Array& x, const Index& i) { return x(i); }),
      moved(
          "pad_rows", {2, 2, 3}, [](Value x) { return pad(x, 1, 1, 4); }, {2, 4, 3},
          [](const Array& x, const Index& i) {
            return i[1] < 1 || i[1] > 2 ? 0 : x({i[0], i[1] - 1, i[2]});
          }),
      moved(
          "pad_last", {2, 3}, [](Value x) { return pad(x, -1, 2, 6); }, {2, 6},
          [](const Array& x, const Index& i) {
            return i[1] < 2 || i[1] > 4 ? 0 : x({i[0], i[1] - 2});
          }),
      moved(
          "expand", {2, 1, 3, 1},
          [](Value x) {
            return expand(x, {2, 4, 3, 5});
          },
          {2, 4, 3, 5},
          [](const Array& x, const Index& i) {
            return x({i[0], 0, i[2], 0});
          }),
      moved(
          "row", {2, 5, 3}, [](Value x) { return row(x, 3); }, {2, 3},
          [](const Array& x, const Index& i) {
            return x({i[0], 3, i[1]});
          }),
      moved(
          "patchify", {2, 3, 6, 4}, [](Value x) { return patchify(x, 2); }, {2, 6, 12},
          [](const Array& x, const Index& i) {
            const int64_t p = i[1], c = i[2] / 4, y = i[2] % 4 / 2, z = i[2] % 2;
            return x({i[0], c, p / 2 * 2 + y, p % 2 * 2 + z});
          }),
      reduced("sum_last", {2, 3, 37}, {2}, false),
      reduced("sum_outer", {5, 3, 2}, {0}, false),
      reduced("sum_apart", {2, 3, 4, 5, 3}, {1, 3}, false),
      reduced("mean_rows", {2, 7, 3}, {1}, true),
      reduced("mean_all", {3, 5}, {0, 1}, true),
      {"concat_rows",
       {{{2, 3, 4}}, {{2, 1, 4}}, {{2, 2, 4}}},
       [](const Values& x) {
         return concat({x[0], x[1], x[2]}, 1);
       },
       [](const Arrays& x) {
         return ref::make({2, 6, 4}, [&](const Index& i) {
           return i[1] < 3   ? x[0](i)
                  : i[1] < 4 ? x[1]({i[0], 0, i[2]})
                             : x[2]({i[0], i[1] - 4, i[2]});
         });
       }},
      {"concat_last_with_a_repeated_part",
       {{{2, 3}}, {{2, 1}}},
       [](const Values& x) {
         return concat({x[0], x[1], x[0]}, -1);
       },
       [](const Arrays& x) {
         return ref::make({2, 7}, [&](const Index& i) {
           return i[1] < 3 ? x[0](i) : i[1] < 4 ? x[1]({i[0], 0}) : x[0]({i[0], i[1] - 4});
         });
       }},
  };
}

std::vector<OpCase> op_cases() {
  std::vector<OpCase> all;
  for (auto part :
       {elementwise_cases, product_cases, row_cases, attention_cases, shape_cases, conv_cases})
    for (OpCase& c : part()) all.push_back(std::move(c));
  return all;
}

}  // namespace whence
