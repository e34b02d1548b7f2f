// A case of the operator table as a graph with its gradients.
#pragma once

#include <fmt/core.h>

#include "tests/unit/op_cases.h"
#include "whence/error.h"
#include "whence/ops.h"
#include "whence/plan.h"

namespace whence {

// Inputs of a graph keep their memory. `copied` puts a copy between them and the operator, whose
// memory the operator may take over.
struct OpGraph {
  Graph graph;
  Values inputs, operands, wrt, grads;
  Value y, seed;

  explicit OpGraph(const OpCase& c, bool copied = false) {
    for (size_t i = 0; i < c.in.size(); ++i) {
      inputs.push_back(graph.input(fmt::format("x{}", i), Type{c.in[i].shape}));
      operands.push_back(copied ? scale(inputs[i], 1) : inputs[i]);
      if (c.in[i].differentiable) wrt.push_back(inputs[i]);
    }
    y = c.build(operands);
    if (wrt.empty()) return;
    seed = graph.input("seed", y.type(), Stage::seed);
    grads = gradient(y, copied ? scale(seed, 1) : seed, wrt);
  }

  Values results() const {
    Values all{y};
    all.insert(all.end(), grads.begin(), grads.end());
    return all;
  }
};

inline Tensor case_seed(Value seed) { return random_tensor(seed.shape(), 99); }

// Runs once on poisoned inputs, so that what a run leaves in memory is NaN, and once on the real
// ones.
inline std::vector<Tensor> run_case(const OpCase& c, const OpGraph& g, const Values& keep,
                                    const Plan::Options& options) {
  Plan plan(keep, options);
  const auto run = [&](bool poisoned) {
    const auto put = [&](Value v, Tensor t) {
      if (poisoned) std::fill(t.reals().begin(), t.reals().end(), real(NAN));
      try {
        plan.set(v, t);
      } catch (const Error& e) {  // what is kept need not depend on every input
        if (e.kind() != ErrorKind::name) throw;
      }
    };
    for (size_t i = 0; i < c.in.size(); ++i) put(g.inputs[i], case_input(c, i));
    if (g.seed) put(g.seed, case_seed(g.seed));
    plan.forward();
    plan.backward();
  };
  run(true);
  run(false);
  std::vector<Tensor> results;
  for (Value v : keep) results.push_back(plan.get(v));
  return results;
}

}  // namespace whence
