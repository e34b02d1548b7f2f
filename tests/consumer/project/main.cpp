// A gradient through the public headers alone: y = relu(w x), dy/dx where w x > 0 is w.
#include <cstdio>

#include "whence/error.h"
#include "whence/graph.h"
#include "whence/ops.h"
#include "whence/plan.h"
#include "whence/weights.h"

int main() {
  using namespace whence;
  Graph graph;
  const Value x = graph.input("x", Type{{1, 3}});
  const Value y = relu(linear(x, graph.weight("w", {1, 3})));
  const Value seed = graph.input("seed", y.type(), Stage::seed);
  const Value dx = gradient(y, seed, {x})[0];

  Plan plan({y, dx});
  Weights weights;
  weights.tensors["w"] = Tensor::of({1, 3}, {1, -2, 3});
  plan.bind(weights);
  plan.set(x, Tensor::of({1, 3}, {1, 1, 1}));
  plan.set(seed, Tensor::of({1, 1}, {1}));
  plan.forward();
  plan.backward();
  const Tensor d = plan.get(dx);
  std::printf("y %g dx %g %g %g\n", double(plan.view(y)[0]), double(d.reals()[0]),
              double(d.reals()[1]), double(d.reals()[2]));
  try {
    graph.at("z");
  } catch (const Error& e) {
    std::printf("%s\n", e.what());
    return 0;
  }
  return 1;
}
