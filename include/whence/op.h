// Op: how a node is computed, differentiated, and restricted to single rows.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "whence/graph.h"

namespace whence {

struct Stream;         // where kernels run (runtime/stream.h)
struct RelevanceRule;  // whence/rules.h
struct GradientRule;

// A placed tensor: what a running op reads or writes. data is null for an output nobody asked for.
struct View {
  void* data = nullptr;
  Type type;
  const real* in() const { return static_cast<const real*>(data); }
  real* out() const { return static_cast<real*>(data); }
  const Shape& shape() const { return type.shape; }
  int64_t count() const { return type.shape.count(); }
};

// What a gradient sees of the node that it differentiates.
struct Emit {
  Graph& graph;
  int node;
  std::vector<bool> wanted;  // for each input: does anything above it want a gradient?
  // With Rescale: how many samples have a cotangent; those behind them are references and are left
  // out of what `in` (where it is wanted) and `out` give.
  std::optional<int64_t> samples = {};
  Value in(int i) const;
  Value out(int i = 0) const;
  Value whole(int i) const { return graph.node(node).in[size_t(i)]; }
  bool wants(int i) const { return wanted[size_t(i)]; }
};

// What a relevance rule sees of the node through which relevance goes.
struct RelevanceEmit : Emit {
  std::vector<bool> wanted_inside =
      {};  // for the inner outputs 1, 2, ...: is their relevance wanted?
  std::optional<int> merged_norm = {};  // the batch norm that is part of this product
  Value* absorbed = nullptr;  // where the bias' share goes; null unless somebody records it
};

// How an op treats rows, the elements of axis 1 of a [B, N, ...] value. A plan uses this to compute
// single rows where the readout needs no more, forward and backward (runtime/passes/rows.h).
struct RowFlow {
  enum Kind : uint8_t {
    none,      // needs its inputs whole
    by_row,    // row n of output 0 needs row n of the `rows` inputs, and the others whole
    contract,  // sums over the rows of the `rows` inputs; rows where `zero` inputs vanish add
               // nothing
  } kind = none;
  unsigned rows = 0;  // bit i: input i has the rows
  unsigned zero =
      0;  // by_row: a row is zero if it is zero in every (any_zero: in one) of these inputs
  bool any_zero = false;
  unsigned aligned_outputs = 1;  // bit o: output o has the rows
  unsigned whole_outputs = 0;    // contract, bit o: output o has no rows, it is summed over them
};

// What rules and methods need to know of an op, so that none has to recognise it by its kind.
struct Traits {
  bool product = false;     // linear in input 0, with a weight as input 1 and perhaps a bias
  bool activation = false;  // of every element a function of that element alone, with a curve
  bool rectifier = false;   // an activation whose slope is 1 in some range and 0 elsewhere
  // Every element of the output is an element of an input, and none occurs twice: what comes back
  // to the output goes to where its elements were, and the output is as little below 0 as they.
  bool move = false;
  // Is output 0 never below 0: for all inputs, or wherever no input is below 0?
  enum NonNegative : uint8_t { unknown, if_inputs_are, always } non_negative = unknown;
};

struct Op {
  virtual ~Op() = default;
  virtual std::string_view kind() const = 0;
  virtual Traits traits() const { return {}; }
  // Options that distinguish two ops of one kind, for keys and listings ("axis=1").
  virtual std::string detail() const { return {}; }
  virtual std::vector<Type> infer(std::span<const Type> in) const = 0;
  // Hands its operands to kernels and reads none itself: while a plan is made, this is called once
  // with addresses where nothing is, and kernels then only tell how much scratch memory they take.
  virtual void run(Stream& s, std::span<const View> in, std::span<const View> out) const = 0;

  // Contribution to each wanted input (an empty Value: none). dy[o] is empty where output o has no
  // cotangent. A contribution may be larger than its input along broadcast axes; the caller sums
  // it.
  virtual Values vjp(const Emit& e, std::span<const Value> dy) const;
  // Gradient by output `output`, which is an inner value of the op (an attention's probabilities),
  // given the cotangent dy of output 0.
  virtual Value inner_gradient(const Emit& e, int output, Value dy) const;

  // The contribution to each input when output 0 has the cotangent dy, by a rule in place of the
  // gradient. Here: unsupported.
  virtual Values vjp_by(const Emit& e, const GradientRule& rule, Value dy) const;
  // What a relevance rule hands to each wanted input, and after those to each inner output 1, 2,
  // ... (an empty Value: nothing), given the relevance r of output 0. Here: Pass, Norm and Epsilon,
  // from the gradient; other rules are unsupported.
  virtual Values relprop(const RelevanceEmit& e, const RelevanceRule& rule, Value r) const;

  virtual RowFlow row_flow(std::span<const Type>) const { return {}; }
  // Input whose memory output 0 may take when nothing reads it later; -1: none.
  virtual int may_overwrite() const { return -1; }
  // Output 0 is input 0's memory from this element on; -1: it is memory of its own.
  virtual int64_t alias_offset(std::span<const Type>) const { return -1; }
  // Multiply-adds and the like, for reports: floating-point operations of one run.
  virtual double flops(std::span<const Type>, std::span<const Type>) const { return 0; }
};

}  // namespace whence
