// Points as an operator, and the pass that makes them as patches: values and gradients of the
// operators that they stand for.
#include <gtest/gtest.h>

#include "tests/unit/random_tensors.h"
#include "tests/unit/tiny_model.h"
#include "whence/error.h"
#include "whence/ops.h"
#include "whence/plan.h"

namespace whence {
namespace {

enum Other { none, given, normal };

// Points once as one operator and once as products and a sum.
struct Points {
  explicit Points(Other kind, Shape shape, bool split) {
    const int64_t rows = shape[0];
    Shape ones = shape;
    for (int axis = 1; axis < shape.rank(); ++axis) ones[axis] = 1;
    to = graph.input("to", Type{{rows}});
    item = graph.input("item", Type{shape});
    if (kind != none) from = graph.input("from", Type{{rows}});
    if (kind == given) other = graph.input("other", Type{shape});
    if (kind == normal) other = graph.input("keys", Type{{rows, 4}, Dtype::i32});
    if (!split) {
      image = kind == none ? interpolate(to, item) : interpolate(to, item, from, other);
      return;
    }
    image = mul(reshape(to, ones), item);
    if (kind == none) return;
    image =
        add(image, mul(reshape(from, ones), kind == normal ? random_normal(other, shape) : other));
  }
  Values reals() const {
    Values all{to, item};
    if (from) all.push_back(from);
    if (other && other.type().dtype == Dtype::floating) all.push_back(other);
    return all;
  }
  Graph graph;
  Value to, item, from, other, image;
};

void put(Plan& plan, Value v, const Tensor& t) {
  try {
    plan.set(v, t);
  } catch (const Error& e) {  // what is kept need not depend on every input
    if (e.kind() != ErrorKind::name) throw;
  }
}

std::vector<Tensor> run(const Points& p, const Values& keep, Plan& plan) {
  Weights weights;
  if (p.graph.has("w")) weights.tensors["w"] = random_tensor(p.graph.at("w").shape(), 3);
  plan.bind(weights);
  for (const Value v : p.reals())
    put(plan, v, random_tensor(v.shape(), uint64_t(v.shape().rank()) + uint64_t(v == p.from)));
  if (p.other && p.other.type().dtype == Dtype::i32) {
    Tensor keys(p.other.type());
    for (size_t i = 0; i < keys.ints().size(); ++i) keys.ints()[i] = int32_t(i * 77) - 100;
    put(plan, p.other, keys);
  }
  if (p.graph.has("seed"))
    put(plan, p.graph.at("seed"), random_tensor(p.graph.at("seed").shape(), 17));
  plan.forward();
  plan.backward();
  std::vector<Tensor> all;
  for (const Value v : keep) all.push_back(plan.get(v));
  return all;
}

std::vector<Plan::Options> places() {
  std::vector<Plan::Options> all;
  for (const int threads : {1, 2, 7}) {
    all.push_back({});
    all.back().threads = threads;
  }
#ifdef WHENCE_HAVE_SIMT
  all.push_back({});
  all.back().device = device("simt");
#endif
  return all;
}

TEST(Interpolate, has_the_bits_of_products_and_a_sum) {
  for (const Shape& shape : {Shape{2, 3, 8, 12}, Shape{3, 5, 7}, Shape{2}, Shape{2, 1, 1, 1, 1}})
    for (const Other kind : {none, given, normal})
      for (const Plan::Options& place : places()) {
        const Points whole(kind, shape, false), split(kind, shape, true);
        Plan one({whole.image}, place), many({split.image}, place);
        expect_same_bits(run(whole, {whole.image}, one)[0], run(split, {split.image}, many)[0]);
        EXPECT_EQ(one.steps(Stage::data), 1);
      }
}

TEST(Interpolate, has_the_gradients_of_products_and_a_sum) {
  for (const Shape& shape : {Shape{2, 3, 4, 5}, Shape{3}})
    for (const Other kind : {none, given, normal}) {
      std::vector<std::vector<Tensor>> results;
      for (const bool split : {false, true}) {
        Points p(kind, shape, split);
        const Value seed = p.graph.input("seed", p.image.type(), Stage::seed);
        const Values d = gradient(p.image, seed, p.reals());
        Plan plan(d);
        results.push_back(run(p, d, plan));
      }
      for (size_t i = 0; i < results[0].size(); ++i)
        expect_near(results[0][i], results[1][i], sizeof(real) == 4 ? 1e-6 : 1e-14);
    }
}

TEST(Interpolate, refuses_what_does_not_fit) {
  Graph g;
  const Value two = g.input("two", Type{{2}}), three = g.input("three", Type{{3}});
  const Value x = g.input("x", Type{{2, 5}}), y = g.input("y", Type{{2, 4}});
  const Value keys = g.input("keys", Type{{3, 4}, Dtype::i32});
  const auto message = [](const auto& build) -> std::string {
    try {
      build();
      return "nothing was refused";
    } catch (const Error& e) {
      return e.what();
    }
  };
  EXPECT_EQ(message([&] { interpolate(three, x); }),
            "interpolate: the factors have shape [3], [2] is needed");
  EXPECT_EQ(message([&] { interpolate(two, x, three, x); }),
            "interpolate: the factors have shape [3], [2] is needed");
  EXPECT_EQ(message([&] { interpolate(two, x, two, y); }),
            "interpolate: the other tensor has shape [2, 4], [2, 5] is needed");
  EXPECT_EQ(message([&] { interpolate(two, x, two, keys); }),
            "interpolate: the keys have shape [3, 4], [2, 4] is needed");
  EXPECT_EQ(message([&] { interpolate(two, g.input("s", Type{Shape{}})); }),
            "interpolate: a scalar has no rows");
}

// --- the pass ------------------------------------------------------------------------------------

// A product of the patches, its gradient at the image, and what else is asked for.
struct Cut : Points {
  Cut(Other kind, bool split, int64_t patch = 4) : Points(kind, {2, 3, 8, 12}, split) {
    patches = patchify(image, patch);
    y = linear(patches, graph.weight("w", {5, 3 * patch * patch}));
    const Value seed = graph.input("seed", y.type(), Stage::seed);
    d = gradient(y, seed, {image})[0];
  }
  Value patches, y, d;
};

TEST(PatchPass, points_become_patches_at_once) {
  for (const Other kind : {none, given, normal})
    for (const int64_t patch : {4, 2, 1})
      for (const Plan::Options& place : places()) {
        Cut whole(kind, false, patch), split(kind, true, patch);
        Plan one({whole.y, whole.d}, place), many({split.y, split.d}, place);
        EXPECT_EQ(one.steps("patchify"), 0);
        EXPECT_EQ(one.steps("interpolate"), 1);
        EXPECT_EQ(many.steps("patchify"), 1);
        if (patch == 4) {  // with smaller ones, y is larger than the image
          EXPECT_LT(Plan({whole.y}, place).bytes(), Plan({split.y}, place).bytes());
        }
        const auto a = run(whole, {whole.y, whole.d}, one),
                   b = run(split, {split.y, split.d}, many);
        for (size_t i = 0; i < 2; ++i) expect_same_bits(a[i], b[i]);
      }
}

TEST(PatchPass, an_image_that_somebody_reads_stays) {
  Cut p(given, false);
  const Value twice = patchify(p.image, 2), sum = relu(p.image);
  for (const Values& keep : {Values{p.y, p.image}, Values{p.y, twice}, Values{p.y, sum}}) {
    Plan plan(keep);
    EXPECT_NE(plan.steps("patchify"), 0);
    const auto got = run(p, keep, plan);
    Plan alone({p.y});
    EXPECT_EQ(alone.steps("patchify"), 0);
    expect_same_bits(run(p, {p.y}, alone)[0], got[0]);
    Plan other({keep[1]});
    expect_same_bits(run(p, {keep[1]}, other)[0], got[1]);
  }
}

TEST(PatchPass, patches_that_are_kept_are_kept) {
  Cut p(normal, false), split(normal, true);
  Plan plan({p.patches}), many({split.patches});
  EXPECT_EQ(plan.steps(Stage::data), 1);
  expect_same_bits(run(p, {p.patches}, plan)[0], run(split, {split.patches}, many)[0]);
}

TEST(PatchPass, methods_store_no_image) {
  for (const char* id : {"integrated-gradients", "smoothgrad"}) {
    Explainer explainer(tiny_model());
    const std::string steps = explainer.describe(request_for(id), 2);
    const std::string points = steps.substr(steps.find("interpolate"));
    EXPECT_NE(points, "");
    EXPECT_NE(points.find("patch=4"), std::string::npos) << steps;
    EXPECT_EQ(points.find("patchify"), points.find("unpatchify") + 2) << steps;
    EXPECT_EQ(steps.find("random_normal"), std::string::npos) << steps;
  }
}

}  // namespace
}  // namespace whence
