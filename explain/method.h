// What every method implements, and the loops they share.
#pragma once

#include "explain/pass.h"

namespace whence {

struct RuleTable;  // whence/rules.h

struct Job {
  const Model& model;
  const Explainer::Settings& settings;
  const Request& request;  // of the first call; a cached method sees a new one in each run
  const MethodInfo& info;
  OptionSet options;
  int64_t items;
};

class Method {
 public:
  virtual ~Method() = default;
  virtual std::vector<std::vector<Result>> run(const Tensor& inputs, const Request& request) = 0;
  virtual std::vector<const Pass*> passes() const = 0;
};

std::unique_ptr<Method> make_gradient(const Job&);  // gradient, input-x-gradient
std::unique_ptr<Method> make_integrated_gradients(const Job&);
std::unique_ptr<Method> make_smoothgrad(const Job&);
std::unique_ptr<Method> make_deeplift(const Job&);       // deeplift, deeplift-shap
std::unique_ptr<Method> make_attention_map(const Job&);  // attention-last, rollout
std::unique_ptr<Method> make_attention_grad_cam(const Job&);
std::unique_ptr<Method> make_generic_attention(const Job&);
std::unique_ptr<Method> make_tam(const Job&);
// transformer-attribution, full-lrp, partial-lrp
std::unique_ptr<Method> make_transformer_attribution(const Job&);
std::unique_ptr<Method> make_cam(const Job&);  // grad-cam, grad-cam-pp, layer-cam
std::unique_ptr<Method> make_score_cam(const Job&);
std::unique_ptr<Method> make_layer_activation(const Job&);
// guided-backprop, deconvolution, guided-grad-cam
std::unique_ptr<Method> make_rectified_gradient(const Job&);
std::unique_ptr<Method> make_lrp(const Job&);
std::unique_ptr<Method> make_consensus(const Job&);
std::unique_ptr<Method> make_predict(const Job&);

// The method of a request, checked against the model. Model, settings and request outlive it.
std::unique_ptr<Method> make_method(const Model& model, const Explainer::Settings& settings,
                                    const Request& request, int64_t items);

// --- loops
// ----------------------------------------------------------------------------------------

struct Chosen {
  int64_t of, against;
};
// The clean forward pass of every item: logits, and the class each target means for it.
struct Clean {
  std::vector<std::vector<real>> logits;    // [item][class]
  std::vector<std::vector<Chosen>> chosen;  // [item][target]
};

class Loops {
 public:
  Loops(const Job& job, ScoreKind kind) : model_(job.model), settings_(job.settings), kind_(kind) {}

  // One forward pass a chunk of items, then for each target one backward pass. `data` is called
  // after the forward pass for each item, `seed` after the backward pass for each item and target;
  // both get the row in the chunk.
  Clean items(Pass& pass, const Tensor& inputs, const std::vector<Target>& targets,
              const std::function<void(int64_t item, int64_t row)>& data,
              const std::function<void(int64_t item, size_t target, int64_t row)>& seed) const;

  // Notes the logits that the pass has in `row` and the classes that the targets mean; items come
  // in order. Throws if logits are not finite.
  void note(Clean& clean, const Pass& pass, int64_t row, const Tensor& inputs,
            const std::vector<Target>& targets) const;

  // A result with everything but its attribution.
  Result result(const Clean& clean, int64_t item, size_t target) const;
  // One for each map; maps[item][target].
  std::vector<std::vector<Result>> results(const Clean& clean,
                                           std::vector<std::vector<Tensor>> maps,
                                           std::string_view method) const;
  // Of maps that are the same for every target; maps[item].
  std::vector<std::vector<Result>> results(const Clean& clean, const std::vector<Tensor>& maps,
                                           std::string_view method) const;
  // The explained scalar of these logits.
  double score(std::span<const real> logits, Chosen c) const;
  void advance(double fraction) const;  // reports progress; throws cancelled when told to stop

 private:
  const Model& model_;
  const Explainer::Settings& settings_;
  ScoreKind kind_;
};

// The job, if its precision is f32. Relevance is divided by sums that cancel: factors of 8 or 11
// bits would decide what is left.
const Job& in_f32(const Job& job);
// Of the methods that spread relevance: what the logits have of it (option seed; without one 1 at
// the explained class), and the table of option rules.
Value relevance_seed(Scored& s, const Job& job);
RuleTable relevance_rules(const Job& job);

// Throw what is wrong with a request before anything is planned.
void check_applies(const MethodInfo& info, const Model& model, const Request& request);
void check_targets(const Model& model, const std::vector<Target>& targets);
void check_inputs(const Model& model, const Tensor& inputs);

// Option start_layer; "auto" is `usual`, or the blocks divided by `parts` where that is less.
int64_t start_layer(const Job& job, int64_t usual, int64_t parts);

// The columns of the patches as a [gh, gw] map.
Tensor patch_map(const Model& model, std::span<const real> token_row);
// Sets the attribution, checks that it is finite, and notes a flat map.
void finish(Result& result, Tensor attribution, std::string_view method, int64_t item);
double total(const Tensor& map);  // the sum of its values
std::span<const real> item_of(const Tensor& inputs, int64_t item);

}  // namespace whence
