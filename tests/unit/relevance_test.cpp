// Relevance rules: published numbers, conservation, independence of the batch, what is refused. The
// numbers were computed in double with the papers' own code on these inputs.
#include <gtest/gtest.h>

#include "tests/unit/random_tensors.h"
#include "tests/unit/relevance_of_op.h"
#include "tests/unit/tiny_vit_relevance.h"
#include "whence/error.h"
#include "whence/plan.h"
#include "whence/rules.h"

namespace whence {
namespace {

constexpr double bound = relevance_bound;

TEST(Relevance, division_keeps_the_published_order_of_operations) {
  Graph g;
  const Value a = g.input("a", Type{{2, 4}}), b = g.input("b", Type{{2, 4}});
  const Value y = divide(a, b, {Stabiliser::guarded, 1e-9});
  Plan plan({y});
  plan.set(a, Tensor::of({2, 4}, {1, 1, 3, real(1e-9), real(1e-9), real(1e-9), real(1e-9), 0}));
  plan.set(b, Tensor::of({2, 4}, {2, -2, 0, real(1e-9), real(-2e-9), real(-1e-9), real(5e-10), 0}));
  plan.forward();
  const double exact = sizeof(real) == 8;
  expect_values(
      plan.view(y),
      {exact ? 0.49999999975 : 0.5, exact ? -0.50000000025 : -0.5, 0, 0.5, -1, 1, 2.0 / 3, 0},
      "a // b");
}

TEST(Relevance, products_follow_alpha_and_beta) {
  const Tensor x = Tensor::of({2, 3}, {1, -2, real(.5), 0, 3, -1});
  const Tensor w = Tensor::of({2, 3}, {real(.5), -1, 2, 1, 1, real(-.5)});
  const Tensor r = Tensor::of({2, 2}, {1, real(.5), real(-.25), 2});
  const auto run = [&](const rule::AlphaBeta& rule) {
    return explain_op({x, w}, 1, r, one_rule("linear", rule),
                      [](const Values& in) { return linear(in[0], in[1]); })[0];
  };
  // The first output of the second row has no positive contribution: its relevance is lost,
  // exactly.
  expect_values(run({1, 0, true}).reals(),
                {.642857142, .571428571, .285714286, 0, 1.714285714, .285714286}, "joint");
  expect_values(run({2, 1, true}).reals(),
                {1.285714285, .698412698, .515873016, 0, 3.578571428, .671428571}, "joint, 2 1");
  expect_values(run({1, 0, false}).reals(),
                {.833333333, .999999999, .666666666, 0, 1.999999999, 1.999999996}, "apart");
  expect_values(run({2, 1, false}).reals(),
                {1.666666665, 1.499999999, .83333333, 0, 4.249999999, 4.249999992}, "apart, 2 1");
}

TEST(Relevance, pixels_are_boxed_by_the_range_of_their_sample) {
  // Two pixels of three channels; the smallest input is -1, the largest 2.
  const Tensor x = Tensor::of({1, 2, 3}, {1, real(.5), 0, -1, 2, real(-.5)});
  const Tensor w = Tensor::of({1, 3}, {1, real(-.5), 2}), r = Tensor::of({1, 2, 1}, {1, real(.5)});
  const auto one = explain_op({x, w}, 1, r, one_rule("linear", rule::ZBox{}),
                              [](const Values& in) { return linear(in[0], in[1]); })[0];
  expect_values(one.reals(), {.421052631, .157894737, .421052631, 0, 0, .5}, "z box");
}

TEST(Relevance, sums_are_shared_in_proportion_or_by_mass_of_each_sample) {
  const auto two = [](const Values& in) { return add(in[0], in[1]); };
  const Tensor a = Tensor::of({1, 4}, {1, -2, 3, real(.5)});
  const Tensor b = Tensor::of({1, 4}, {real(.5), 1, -1, real(.5)});
  const Tensor r = Tensor::of({1, 4}, {1, 2, -1, real(.5)});
  const auto mass = explain_op({a, b}, 2, r, one_rule("add", rule::ByMass{}), two);
  expect_values(mass[0].reals(), {.384615384, 2.307692305, -.865384613, .144230769}, "by mass");
  expect_values(mass[1].reals(), {-.192307692, 1.153846154, -.288461538, -.144230769}, "by mass");
  const auto plain = explain_op({a, b}, 2, r, one_rule("add", rule::Norm{}), two);
  expect_values(plain[0].reals(), {.666666666, 4.000000004, -1.499999999, .25}, "in proportion");
  expect_values(plain[1].reals(), {.333333333, -2.000000002, .5, .25}, "in proportion");

  const auto twice = [](const Tensor& x, real other) {  // x, and a sample of another size
    Tensor both(Type{{2, 4}});
    for (size_t i = 0; i < 4; ++i) {
      both.reals()[i] = x.reals()[i];
      both.reals()[4 + i] = other * x.reals()[3 - i] + real(0.1);
    }
    return both;
  };
  const auto batch =
      explain_op({twice(a, 3), twice(b, -2)}, 2, twice(r, 5), one_rule("add", rule::ByMass{}), two);
  for (size_t i = 0; i < 2; ++i) expect_same_bits(batch[i].slice(0, 1).clone(), mass[i]);
}

TEST(Relevance, readers_of_one_value_meet_in_a_clone_or_a_sum) {
  const Tensor x = Tensor::of({1, 3}, {1, -2, 0});
  const BuildOp build = [](const Values& in) {
    return concat({scale(in[0], 1), scale(in[0], 1)}, 1);
  };
  const Tensor r =
      Tensor::of({1, 6}, {real(.3), real(.1), real(.7), real(.2), real(-.4), real(.5)});
  const auto run = [&](FanoutRule fanout) {
    return explain_op(
        {x}, 1, r,
        {"test", {{"affine", "*", rule::Pass{}}, {"concat", "*", rule::Norm{}}}, {{"*", fanout}}},
        build)[0];
  };
  expect_values(run(rule::Clone{}).reals(), {.5, -.3, 0}, "clone");
  expect_values(run(rule::Sum{}).reals(), {.5, -.3, 0}, "sum");  // concat drops it where x is 0
}

TEST(Relevance, attention_gives_halves_to_probabilities_and_values) {
  // One head of width 2; the scores are chosen so that P is [[.7, .3], [.4, .6]].
  Graph g;
  const Value q = g.input("q", Type{{1, 2, 2}}), k = g.input("k", Type{{1, 2, 2}});
  const Value v = g.input("v", Type{{1, 2, 2}}), seed = g.input("r", Type{{1, 2, 2}}, Stage::seed);
  const Attention a = attention(q, k, v, 1, 1);
  const Values of =
      relevance(a.context, seed, {a.probs, v, q, k}, one_rule("attention", rule::Halves{}));
  Plan plan({a.probs, of[0], of[1], of[2], of[3]});
  const double l[] = {std::log(.7), std::log(.3), std::log(.4), std::log(.6)};
  plan.set(q, Tensor::of({1, 2, 2}, {real(l[0]), real(l[1]), real(l[2]), real(l[3])}));
  plan.set(k, Tensor::of({1, 2, 2}, {1, 0, 0, 1}));
  plan.set(v, Tensor::of({1, 2, 2}, {1, -1, 2, real(.5)}));
  plan.set(seed, Tensor::of({1, 2, 2}, {1, real(.5), real(-.5), 2}));
  plan.forward();
  plan.backward();
  expect_values(plan.view(a.probs), {.7, .3, .4, .6}, "P");
  expect_values(plan.view(of[0]), {.587412588, .162587412, 3.93750004, -3.18750003}, "R of P");
  expect_values(plan.view(of[1]), {.206730769, 4.318181859, .043269231, -3.068181848}, "R of v");
  // k is the identity, so a score is one element of q: all of half of R of P arrives there.
  expect_values(plan.view(of[2]), {.293706294, .081293706, 1.96875002, -1.593750015}, "R of q");
}

// --- the tiny transformer ---

struct TinyRun {
  Tensor logits;
  std::vector<Tensor> cam;   // R of P by block, [B, H, N, N]
  std::vector<Tensor> grad;  // d logit / d P
  Tensor pixels;             // [B, 4, 4], summed over channels
};

TinyRun run_tiny(const RuleTable& rules, const std::vector<int>& classes,
                 const std::vector<double>& images) {
  const auto batch = int64_t(classes.size());
  TinyViT m(batch);
  Values probs;
  for (const Attention& a : m.attention) probs.push_back(a.probs);
  const Value seed = m.graph.input("seed", m.logits.type(), Stage::seed);
  const Values cam = relevance(m.logits, seed, probs, rules);
  const Values grad = gradient(m.logits, seed, probs);
  const Value pixels = sum(relevance(m.logits, seed, {m.image}, rules)[0], {1});
  Values keep{m.logits, pixels};
  keep.insert(keep.end(), cam.begin(), cam.end());
  keep.insert(keep.end(), grad.begin(), grad.end());
  Plan plan(keep);
  plan.bind(m.weights);
  Tensor x(Type{{batch, 3, 4, 4}}), s(Type{{batch, 3}});
  for (int64_t b = 0; b < batch; ++b) {
    const Tensor one = tiny_tensor(100, {3, 4, 4}, images[size_t(b)]);
    std::copy_n(one.reals().begin(), 48, x.reals().begin() + 48 * b);
    s.reals()[size_t(3 * b + classes[size_t(b)])] = 1;
  }
  plan.set(m.image, x);
  plan.set(seed, s);
  plan.forward();
  plan.backward();
  TinyRun r{plan.get(m.logits), {}, {}, plan.get(pixels)};
  for (Value v : cam) r.cam.push_back(plan.get(v));
  for (Value v : grad) r.grad.push_back(plan.get(v));
  return r;
}

// Row 0 of the product of I + M over blocks from `start` on, without the first token, for one
// sample: M = mean over heads of max(f(block, head, i, j), 0).
template <class F>
std::vector<real> rollout(F f, int start) {
  std::vector<double> row{1, 0, 0, 0, 0};
  for (int l = 2; l >= start; --l) {
    std::vector<double> next = row;
    for (int i = 0; i < 5; ++i)
      for (int j = 0; j < 5; ++j)
        for (int h = 0; h < 2; ++h)
          next[size_t(j)] += row[size_t(i)] * std::max(f(l, h, i, j), 0.0) / 2;
    row = next;
  }
  return {real(row[1]), real(row[2]), real(row[3]), real(row[4])};
}
size_t at(int sample, int h, int i, int j) { return size_t(((sample * 2 + h) * 5 + i) * 5 + j); }

std::vector<real> attribution(const TinyRun& r, int sample, int start) {
  return rollout(
      [&](int l, int h, int i, int j) {
        const size_t n = at(sample, h, i, j);
        return double(r.cam[size_t(l)].reals()[n]) * double(r.grad[size_t(l)].reals()[n]);
      },
      start);
}
std::vector<real> relevance_rollout(const TinyRun& r, int sample) {
  return rollout([&](int l, int h, int i,
                     int j) { return double(r.cam[size_t(l)].reals()[at(sample, h, i, j)]); },
                 0);
}

TEST(Relevance, a_tiny_transformer_has_the_published_relevance) {
  // Two samples of one batch, and each class explained beside another.
  const TinyRun stable = run_tiny(chefer_stable(), {0, 2}, {1, 1});
  expect_values(stable.logits.slice(0, 1).reals(), {-.306861615, .171913678, 1.211167493},
                "logits");
  expect_values(attribution(stable, 0, 0), {.022904081, .020333881, .026181389, .01207003}, "0");
  expect_values(attribution(stable, 0, 1), {.016110976, .01963276, .023751447, .007267411}, "0 s1");
  expect_values(attribution(stable, 1, 0), {.00130511, .008739068, .000338227, .000135951}, "2");
  expect_values(relevance_rollout(stable, 0), {.074814325, .001270197, .048847896, .029906147},
                "0");
  expect_values(relevance_rollout(stable, 1), {.071676702, .043608991, .08061371, .058088964}, "2");
  const TinyRun classic = run_tiny(chefer_classic(), {0, 2}, {1, 1});
  expect_values(attribution(classic, 0, 0), {.038323303, .048624145, .040320663, .023490582}, "0");
  expect_values(attribution(classic, 1, 0), {.057725569, .14484138, .016761855, .001839998}, "2");
  expect_values(relevance_rollout(classic, 0), {.192611016, .021933132, .288265065, .114109144},
                "0");
  // Down to the pixels. Denominators of either sign make these numbers as ill-conditioned as they
  // are large: in float they are compared as far as the published code's own float run agrees, in
  // double to half a unit of the digits that were printed.
  const auto expect_pixels = [](const Tensor& got, const std::vector<double>& want) {
    double largest = 0;
    for (double x : want) largest = std::max(largest, std::abs(x));
    for (size_t i = 0; i < 16; ++i)
      EXPECT_NEAR(got.reals()[i], want[i], sizeof(real) == 8 ? 6e-10 : 1e-3 * largest) << i;
  };
  expect_pixels(stable.pixels.slice(0, 1),
                {.011736326, .02927532, -.007297284, -.008815945, .005376994, .019169546,
                 -.008253952, -.006391638, -.005355578, .004914634, .035681767, .018068614,
                 .023696473, .006969782, .009291261, .017819338});
  expect_pixels(stable.pixels.slice(1, 2),
                {-.126640574, -.166437743, .100244188, .110181256, -.121954235, -.118619527,
                 .07525431, .072095753, .140465011, .128811095, -.035450857, -.02009348, .006907608,
                 .020529727, -.028234232, -.012915477});
  expect_pixels(classic.pixels.slice(0, 1),
                {-5.673636938, -5.477651712, -20.298202992, -24.597967494, -7.51335531,
                 -3.781138865, -19.707462877, -12.965841652, 9.247607689, 9.380316224, -2.074058693,
                 -2.962696736, 3.337023178, 2.709374582, -6.810837731, .254468093});
  // The last block: only the row that the head reads has any.
  for (size_t n = 0; n < 50; ++n)
    if (n % 25 >= 5) {
      EXPECT_EQ(stable.cam[2].reals()[n], 0) << n;
    }
  const double total[] = {.172613686, .073530927, .140438103};
  for (size_t l = 0; l < 3; ++l) {
    double sum = 0;
    for (real x : stable.cam[l].slice(0, 1).reals()) sum += x;
    EXPECT_NEAR(sum, total[l], 1e-8 + bound) << l;
  }
}

TEST(Relevance, a_sample_does_not_depend_on_its_neighbours) {
  for (const RuleTable* rules : {&chefer_stable(), &chefer_classic()}) {
    const TinyRun batch = run_tiny(*rules, {0, 2, 1, 0, 2}, {1, .5, 2, -1, .1});
    const TinyRun alone = run_tiny(*rules, {1}, {2});
    for (size_t l = 0; l < 3; ++l)
      expect_same_bits(batch.cam[l].slice(2, 3).clone(), alone.cam[l].clone());
  }
}

// The pixels' relevance by tables that leave the probabilities out or expand the softmax.
std::vector<Tensor> pixels_of(const RuleTable& rules, const std::vector<double>& images) {
  const auto batch = int64_t(images.size());
  TinyViT m(batch);
  const Value seed = m.graph.input("seed", m.logits.type(), Stage::seed);
  const Value pixels = relevance(m.logits, mul(seed, m.logits), {m.image}, rules)[0];
  Plan plan({m.logits, pixels});
  plan.bind(m.weights);
  Tensor x(Type{{batch, 3, 4, 4}}), s(Type{{batch, 3}});
  for (int64_t b = 0; b < batch; ++b) {
    const Tensor one = tiny_tensor(100, {3, 4, 4}, images[size_t(b)]);
    std::copy_n(one.reals().begin(), 48, x.reals().begin() + 48 * b);
    s.reals()[size_t(3 * b + 2)] = 1;
  }
  plan.set(m.image, x);
  plan.set(seed, s);
  plan.forward();
  plan.backward();
  std::vector<Tensor> rows;
  for (int64_t b = 0; b < batch; ++b) rows.push_back(plan.get(pixels).slice(b, b + 1).clone());
  return rows;
}

TEST(Relevance, of_other_tables_does_not_depend_on_neighbours_either) {
  for (const RuleTable* rules : {&attn_lrp(), &cp_lrp(), &chefer_stable(), &chefer_classic()}) {
    SCOPED_TRACE(rules->name);
    const std::vector<double> images{1, .5, 2, -1, .1};
    const auto batch = pixels_of(*rules, images);
    for (size_t i = 0; i < images.size(); ++i)
      expect_same_bits(batch[i], pixels_of(*rules, {images[i]})[0]);
  }
}

TEST(Relevance, says_which_op_has_no_rule) {
  Graph g;
  const Value x = g.input("x", Type{{2, 3}}), y = g.name(gelu(x), "hidden");
  const Value seed = g.input("seed", y.type(), Stage::seed);
  const auto expect = [&](const RuleTable& rules, const std::string& text) {
    try {
      relevance(y, seed, {x}, rules);
      ADD_FAILURE() << text;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::unsupported);
      EXPECT_EQ(std::string(e.what()), text);
    }
  };
  expect({"mine", {{"relu", "*", rule::Pass{}}}},
         "the relevance rules 'mine' have none for gelu 'hidden'");
  expect({"mine", {{"gelu", "hidden", rule::Halves{}}}},
         "gelu 'hidden' does not know the rule Halves");
  EXPECT_THROW(relevance(y, seed, {g.input("other", Type{{2, 3}})}, chefer_stable()), Error);
}

}  // namespace
}  // namespace whence
