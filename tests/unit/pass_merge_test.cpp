// Attention gradients that share a step, products that take over what follows them, and memory that
// is taken over: fewer steps, equal values.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include "models/vit/vit.h"
#include "tests/unit/random_tensors.h"
#include "whence/error.h"
#include "whence/op.h"
#include "whence/ops.h"
#include "whence/plan.h"

namespace whence {
namespace {

constexpr double rounding = sizeof(real) == 4 ? 1e-6 : 1e-14;

// Every input of the graph that the plan has, by position.
void set_inputs(Plan& plan, const Graph& graph, bool poisoned = false) {
  for (int n = 0; n < graph.size(); ++n) {
    const Value v{const_cast<Graph*>(&graph), n, 0};
    if (graph.node(n).op || graph.node(n).weight) continue;
    Tensor t = random_tensor(v.shape(), 40 + uint64_t(n));
    if (poisoned) std::fill(t.reals().begin(), t.reals().end(), real(NAN));
    try {
      plan.set(v, t);
    } catch (const Error& e) {
      if (e.kind() != ErrorKind::name) throw;
    }
  }
}

std::vector<Tensor> results(Plan& plan, const Graph& graph, const Values& keep) {
  plan.bind(random_weights(graph, 3));
  for (bool poisoned : {true, false}) {
    set_inputs(plan, graph, poisoned);
    plan.forward();
    plan.backward();
  }
  std::vector<Tensor> all;
  for (Value v : keep) all.push_back(plan.get(v));
  return all;
}

// --- merge_attention -----------------------------------------------------------------------------

TEST(MergePass, a_block_differentiates_its_attention_once) {
  ViTConfig c;
  c.image_height = c.image_width = 16;
  c.patch = 8;
  c.width = 8;
  c.depth = 3;
  c.heads = 2;
  c.mlp = 12;
  c.classes = 4;
  Graph g;
  const Value logits = build_vit(g, c, 2);
  const Value seed = g.input("seed", logits.type(), Stage::seed);
  Values wrt = g.match("blocks.*.attn.context"), keep;
  const Values probs = g.match("blocks.*.attn.probs");
  wrt.insert(wrt.end(), probs.begin(), probs.end());
  wrt.push_back(g.at("image"));
  const Values d = gradient(logits, seed, wrt);
  // From the last block down, a chained row, a head mean, and G of every head; and the image's
  // gradient.
  Value r = unit_row(g, 2, c.tokens(), 0);
  for (int i = int(c.depth) - 1; i >= 0; --i) {
    const auto at = [&](const char* part) {
      return g.at(fmt::format("blocks.{}.attn.{}", i, part));
    };
    const Attention a{at("context"), at("probs"), at("probs_mean")};
    keep.push_back(attention_gradient_mean(a, d[size_t(i)]));
    keep.push_back(attention_relevance(a, d[size_t(i)]));
    r = add(r, attention_relevance_chain(a, d[size_t(i)], r));
  }
  keep.push_back(r);
  keep.insert(keep.end(), d.begin(), d.end());
  Plan plan(keep);
  // One a block; in the last block one runs over the row that is read, and one gives the maps of
  // all rows.
  EXPECT_EQ(plan.steps("attention_bwd"), 4) << plan.describe();
  const auto together = results(plan, g, keep);
  for (size_t i = 0; i < keep.size(); ++i) {
    Plan alone({keep[i]}, {.threads = 1, .without = {"restrict_rows"}});
    expect_near(results(alone, g, {keep[i]})[0], together[i], 4 * rounding);
  }
}

TEST(MergePass, attentions_that_differ_are_not_merged) {
  Graph g;
  const Value x = g.input("x", Type{{2, 4, 6}});
  const Attention two = attention(x, x, x, 2, 1), three = attention(x, x, x, 3, 1),
                  half = attention(x, x, x, 2, real(0.5));
  const Value y = add(add(two.context, three.context), half.context);  // one cotangent for all
  const Value seed = g.input("seed", y.type(), Stage::seed);
  const Value d = gradient(y, seed, {x})[0];
  Plan plan({d});
  EXPECT_EQ(plan.steps("attention_bwd"), 3);
  Tensor sum(Type{{2, 4, 6}});
  for (const Attention& a : {two, three, half}) {
    const Value part = gradient(a.context, seed, {x})[0];
    Plan alone({part});
    const Tensor t = results(alone, g, {part})[0];
    for (size_t i = 0; i < sum.reals().size(); ++i) sum.reals()[i] += t.reals()[i];
  }
  expect_near(results(plan, g, {d})[0], sum, 4 * rounding);
}

TEST(MergePass, two_chains_through_one_attention_stay_two) {
  Graph g;
  const Value x = g.input("x", Type{{2, 4, 6}}), d = g.input("d", Type{{2, 4, 6}});
  const Value r = g.input("r", Type{{2, 4}});
  const Attention a = attention(x, x, x, 2, 1);
  const Value once = attention_relevance_chain(a, d, r),
              twice = attention_relevance_chain(a, d, once);
  const Value map = attention_relevance(a, d);
  const Value want = einsum(einsum(r, map, "bq,bqn->bn"), map, "bq,bqn->bn");
  Plan plan({twice, want});
  EXPECT_EQ(plan.steps("attention_bwd"), 2);
  const auto got = results(plan, g, {twice, want});
  expect_near(got[0], got[1], 4 * rounding);
}

// --- pack_products -------------------------------------------------------------------------------

struct Mlp {
  Graph g;
  Value x = g.input("x", Type{{2, 5, 6}});
  Value hidden = linear(x, g.weight("weight", {6, 6}), g.weight("bias", {6}));
  Value active = gelu(hidden), y = add(x, active);
};

TEST(ProductPass, activation_and_residual_become_the_epilogue) {
  Mlp m;
  Plan fused({m.y}), apart({m.y, m.hidden, m.active}), half({m.y, m.active});
  EXPECT_EQ(fused.steps(Stage::data), 1);
  EXPECT_EQ(apart.steps(Stage::data), 3);
  EXPECT_EQ(half.steps(Stage::data), 2);
  EXPECT_EQ(fused.steps(Stage::weights), 1);
  const Tensor y = results(fused, m.g, {m.y})[0];
  expect_near(results(apart, m.g, {m.y})[0], y, rounding);
  expect_near(results(half, m.g, {m.y})[0], y, rounding);
}

TEST(ProductPass, what_is_read_twice_or_broadcast_is_not_fused) {
  Mlp m;
  const Value twice = mul(m.hidden, m.active);  // the product is read by the activation and here
  const Value doubled = add(linear(m.x, m.g.at("weight")), linear(m.x, m.g.at("weight")));
  const Value row = m.g.input("row", Type{{6}});
  const Value shifted = add(linear(m.x, m.g.at("weight")), row);
  Plan plan({twice, doubled, shifted});
  // product, activation, product of both; two products, one with the sum; a product and a broadcast
  // sum
  EXPECT_EQ(plan.steps(Stage::data), 3 + 2 + 2);
  const auto got = results(plan, m.g, {twice, doubled, shifted});
  Values everything{twice, doubled, shifted};
  for (int n = 0; n < m.g.size(); ++n)
    if (m.g.node(n).op && m.g.node(n).op->kind() == "linear") everything.push_back({&m.g, n, 0});
  Plan apart(everything);
  const auto want = results(apart, m.g, everything);
  for (size_t i = 0; i < got.size(); ++i) expect_near(got[i], want[i], rounding);
}

TEST(ProductPass, a_weight_is_packed_once_for_all_plans_that_share_it) {
  Mlp m;
  const Weights w = random_weights(m.g, 3);
  Plan a({m.y}), b({m.y, m.hidden});
  a.bind(w);
  b.bind(w);
  EXPECT_EQ(a.derived_bytes(), b.derived_bytes());
  EXPECT_GE(a.derived_bytes(), 36 * sizeof(real));
}

// Rules of relevance tell the signs of weights apart; that costs no memory.
TEST(ProductPass, parts_of_a_weight_read_the_panels_of_the_weight) {
  Graph g;
  const Value x = g.input("x", Type{{2, 5, 6}}), w = g.weight("w", {7, 6});
  const Value wp = positive_part(w), wn = negative_part(w);
  const Value other = scale(relu(scale(w, -2)), -1);  // no part
  const Values parts{linear(x, wp), linear(x, wn), linear(x, w)};
  Plan shared(parts);
  EXPECT_EQ(shared.steps(Stage::weights), 1);
  Plan apart({linear(x, other), wp});
  EXPECT_EQ(apart.steps(Stage::weights), 5);  // three for `other`, its panels, and the part itself
  const Weights weights = random_weights(g, 3);
  const Tensor in = random_tensor({2, 5, 6}, 1);
  shared.bind(weights);
  shared.set(x, in);
  shared.forward();
  const Tensor& whole = weights.tensors.at("w");
  for (size_t i = 0; i < 2; ++i) {
    Graph alone;
    const Value y = linear(alone.input("x", Type{{2, 5, 6}}), alone.weight("w", {7, 6}));
    Weights part;
    part.tensors["w"] = whole.clone();
    for (real& v : part.tensors["w"].reals())
      v = i == 0 ? std::max(v, real(0)) : std::min(v, real(0));
    Plan plan({y});
    plan.bind(part);
    plan.set(alone.at("x"), in);
    plan.forward();
    expect_same_bits(shared.get(parts[i]), plan.get(y));
  }
}

TEST(ProductPass, a_weight_of_which_a_part_is_read_may_be_computed) {
  Graph g;
  const Value x = g.input("x", Type{{2, 5, 6}}), w = g.weight("w", {6, 6}),
              a = g.weight("a", {6, 6});
  const Value wholes[] = {scale(w, 2),        relu(w),  scale(w, 3), linear(a, w),
                          relu(linear(a, w)), add(w, a)};
  for (const Value whole : wholes)
    for (const Value part : {positive_part(whole), negative_part(whole)}) {
      const Value y = linear(x, part);
      Plan fused({y}), apart({y, whole, part});
      const Tensor want = results(apart, g, {part})[0], got = results(fused, g, {y})[0];
      Graph alone;
      const Value z = linear(alone.input("x", Type{{2, 5, 6}}), alone.weight("w", {6, 6}));
      Weights given;
      given.tensors["w"] = want;
      Plan plan({z});
      plan.bind(given);
      plan.set(alone.at("x"), random_tensor({2, 5, 6}, 40));  // as set_inputs has it
      plan.forward();
      expect_same_bits(got, plan.get(z));
    }
}

// --- memory --------------------------------------------------------------------------------------

TEST(Memory, an_operand_that_is_part_of_the_memory_taken_over_is_seen) {
  Graph g;
  const Value x = g.input("x", Type{{4, 3}});
  const Value copy = scale(x, 2);
  const Value first = slice(copy, 0, 0, 1);  // shares the memory of `copy`
  const Value y = mul(copy, first);  // row 0 of the result would change `first` for rows 1..3
  Plan plan({y});
  plan.set(x, random_tensor({4, 3}, 1));
  plan.forward();
  const Tensor in = random_tensor({4, 3}, 1), out = plan.get(y);
  for (size_t i = 0; i < 12; ++i)
    EXPECT_NEAR(out.reals()[i], 4 * double(in.reals()[i]) * double(in.reals()[i % 3]), 1e-5) << i;
}

TEST(Memory, a_given_value_hides_its_node_only_where_it_is_read) {
  Graph g;
  const Value x = g.input("x", Type{{2, 4, 6}});
  const Attention a = attention(x, x, x, 2, 1);
  g.name(a.context, "context");
  g.name(a.probs, "probs");
  const Value y = scale(a.context, 3);
  Plan plan({y, a.probs}, {.given = {a.context}, .threads = 1});
  const Tensor given = random_tensor({2, 4, 6}, 8);
  plan.set(x, random_tensor({2, 4, 6}, 9));
  plan.set(a.context, given);
  plan.forward();
  for (size_t i = 0; i < given.reals().size(); ++i)
    EXPECT_EQ(plan.get(y).reals()[i], 3 * given.reals()[i]);
  double sum = 0;
  const Tensor probs = plan.get(a.probs);
  for (real p : probs.reals()) sum += double(p);
  EXPECT_NEAR(sum, 2 * 2 * 4, 1e-4);  // every row of probabilities sums to 1
}

// Random graphs: what is kept decides what shares memory, and must decide nothing else.
TEST(Memory, random_graphs_give_the_same_bits_whatever_shares_memory) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    uint64_t state = seed * 0x9E3779B97F4A7C15u;
    const auto pick = [&](size_t n) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      return size_t(state >> 33) % n;
    };
    Graph g;
    const Shape shape{2, 5, 4};
    Values pool{g.input("a", Type{shape}), g.input("b", Type{shape}),
                g.input("s", Type{shape}, Stage::seed)};
    const Value w = g.weight("weight", {4, 4});
    for (int i = 0; i < 24; ++i) {
      const Value x = pool[pick(pool.size())], y = pool[pick(pool.size())];
      switch (pick(9)) {
        case 0:
          pool.push_back(add(x, y));
          break;
        case 1:
          pool.push_back(scale(mul(x, y), real(0.25)));
          break;
        case 2:
          pool.push_back(tanh(linear(x, w)));
          break;
        case 3:
          pool.push_back(reshape(reshape(x, {10, 4}), shape));
          break;
        case 4:
          pool.push_back(add(x, slice(y, 0, 1, 2)));
          break;
        case 5:
          pool.push_back(pad(slice(x, 1, 2, 4), 1, 1, 5));
          break;
        case 6:
          pool.push_back(softmax(x));
          break;
        case 7:
          pool.push_back(add(x, gelu(linear(y, w))));
          break;
        case 8:
          pool.push_back(concat({slice(x, 0, 1, 2), slice(y, 0, 0, 1)}, 0));
          break;
      }
    }
    const Values few{pool.back(), pool[pick(pool.size())]};
    Values all = few;
    all.insert(all.end(), pool.begin(), pool.end());
    Plan shared(few, {.threads = 1, .without = {"restrict_rows"}}),
        apart(all, {.threads = 2, .without = {"restrict_rows"}});
    const auto a = results(shared, g, few), b = results(apart, g, few);
    SCOPED_TRACE(fmt::format("seed {}", seed));
    for (size_t i = 0; i < few.size(); ++i) expect_near(a[i], b[i], rounding);
    EXPECT_LE(shared.bytes(), apart.bytes());
    // The row pass on top, and a second seed pass without a forward pass.
    Plan rows(few, {.threads = 2});
    const auto c = results(rows, g, few);
    for (size_t i = 0; i < few.size(); ++i) expect_near(c[i], b[i], 4 * rounding);
    rows.backward();
    for (size_t i = 0; i < few.size(); ++i) expect_same_bits(rows.get(few[i]), c[i]);
  }
}

}  // namespace
}  // namespace whence
