// Maps: one forward pass over the inputs themselves, for each target a backward pass, and from each
// row of what was computed a map.
#pragma once

#include <optional>
#include <vector>

#include "explain/engine/pass.h"

namespace whence {

using Results = std::vector<std::vector<Result>>;  // [item][target]

// What a forward pass over the inputs themselves finds: logits, and the class each target means.
struct Clean {
  Outputs outputs = Outputs::single_label;  // of the model
  std::vector<std::vector<real>> logits;    // [item][class]
  std::vector<std::vector<Chosen>> chosen;  // [item][target]
  // The explained scalar.
  double score(ScoreKind kind, int64_t item, size_t target) const;
  // Notes the answer of the next item, and what the targets mean for it. Throws item errors.
  void note(const Pass& pass, int64_t row, const Inputs& inputs,
            const std::vector<Target>& targets);
};
// The explained function of each logit, on the host (Scene::outputs).
std::vector<double> outputs_of(ScoreKind kind, std::span<const real> logits);
double score_of(ScoreKind kind, std::span<const real> logits, Chosen chosen);

// Runs a pass over all inputs. `data` is called after the forward pass for each item, `seed`, where
// there is one, after the backward pass for each item and target; both get the row in the chunk.
using AfterForward = std::function<void(int64_t item, int64_t row)>;
using AfterBackward = std::function<void(int64_t item, int64_t row, Chosen chosen)>;
Clean run_pass(const Machine& machine, Pass& pass, const Inputs& inputs,
               const std::vector<Target>& targets, const AfterForward& data = nullptr,
               const AfterBackward& seed = nullptr);

// What became of one map of a pass.
struct MapsOf {
  // [item][target], or [item][0] of a map that is the same for every target.
  std::vector<std::vector<Tensor>> tensors;
  std::vector<std::vector<std::optional<double>>> gaps;
};
// All maps of a pass; to[m] is filled with those of map m.
Clean run_maps(const Machine& machine, Pass& pass, const Inputs& inputs,
               const std::vector<Target>& targets, std::vector<MapsOf>& to);

// A result with everything but its attribution.
Result result_of(const Clean& clean, ScoreKind kind, int64_t item, size_t target);
// Sets the attribution, checks that it is finite, and notes a flat map.
void finish(Result& result, Tensor attribution, std::string_view method, int64_t item);
// One result for each item and target.
Results results_of(const Clean& clean, const Options& options, MapsOf maps);

// --- maps ----------------------------------------------------------------------------------------

// v [B, ...] as it is.
Map map_of(Value v);
// The columns of the patches of r [B, S] on their grid.
Map token_map(const Scene& s, Value r);
// A map whose rows become what `then` makes of them.
Map and_then(Map map, std::function<Tensor(Tensor)> then);

double total(const Tensor& map);  // the sum of its values

}  // namespace whence
