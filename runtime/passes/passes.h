// The passes over a plan's program: what they are called, in which order they run, and which of
// them may be left out. A node that nobody reads is no step of the plan, so a pass may leave one
// behind, but none that is read by such nodes alone.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "runtime/passes/program.h"

namespace whence {

// Restricts computations to the rows (elements of axis 1) that are read, and to those that are not
// known to be zero. A readout of one token thus needs one query row of the last attention, one row
// of every op after it, and as much of its backward pass.
Program restrict_rows(Program program);

// Points that are read as patches alone are made as patches.
Program cut_patches(Program program);

// Gradients, relevance maps and chains of one attention become outputs of one step, which computes
// probabilities and their gradient once.
Program merge_attention(Program program);

// A batch norm that is its convolution's only reader becomes part of the convolution's weights, and
// so does its gradient.
Program fold_norms(Program program);

// Weights of products are packed in the weights stage; an activation and a residual sum that are a
// product's only reader become its epilogue. In f32 products with the positive or the negative part
// of a weight read the panels of the weight itself.
Program pack_products(Program program, Precision precision);

struct PlanPass {
  const char* name;
  Program (*run)(Program, Precision);
  bool optional;  // false: there are ops that cannot run before it
};
// In the order in which they run.
std::span<const PlanPass> plan_passes();

// Runs all passes but those that `without` names, and notes in `ran` which did. Throws usage for a
// name that is no pass's, and for a pass that is not optional.
Program run_passes(Program program, Precision precision, const std::vector<std::string>& without,
                   std::vector<std::string>& ran);

}  // namespace whence
