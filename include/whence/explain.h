// Explaining: methods by id, over batches, for several targets from one forward pass.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "whence/device.h"
#include "whence/model.h"

namespace whence {

struct OptionInfo {
  std::string name, fallback, meaning;  // `fallback`: the default value, as text
};
struct MethodInfo {
  std::string id, summary, paper, models;  // `models`: what it applies to, "any" or "transformers"
  std::vector<OptionInfo> options;
};
// Every method that exists, in the order of the command line's contract.
const std::vector<MethodInfo>& methods();
const MethodInfo& method(std::string_view id);  // throws usage, with the nearest ids

// What is explained: the predicted class, a class, or the contrast of two (the score of one minus
// the other's).
struct Target {
  int64_t of = -1;       // -1: the predicted class
  int64_t against = -1;  // -1: no contrast
};

struct Result {
  Tensor attribution;  // [C,H,W] for input gradients, [gh,gw] for patch maps
  int64_t target = 0, against = -1;
  real score = 0;        // the explained scalar (`gradient_of`) of the clean input
  real probability = 0;  // softmax probability of `target`
  std::optional<double>
      gap;  // sum of attributions minus the difference of scores, where the method is complete
  bool flat = false;  // the map is constant, its min-max picture is empty
};

struct Request {
  std::string method;  // an id of methods(), or "predict", whose attribution is the logits
  std::map<std::string, std::string> options;  // by the names of MethodInfo
  std::vector<Target> targets{Target{}};
  uint64_t seed = 0;
  Tensor draws;             // standard variates instead of the generator's, in the method's order
  uint32_t first_item = 0;  // index of inputs[0] among all inputs of a job: keys the random numbers
};

class Method;

// One thread at a time. Results do not depend on the chunk, the number of threads, or an item's
// neighbours.
class Explainer {
 public:
  struct Settings {
    Device device = {};
    Precision precision = Precision::f32;
    int threads = 0;    // 0: WHENCE_THREADS, else one a core
    size_t memory = 0;  // bytes of activations a plan may take; 0: 1 GiB
    int64_t chunk = 0;  // rows of one batch; 0: chosen to fit `memory`
    std::function<bool(double)>
        progress;  // called with the fraction done; false cancels (state error)
  };
  explicit Explainer(std::shared_ptr<const Model> model)
      : Explainer(std::move(model), Settings{}) {}
  Explainer(std::shared_ptr<const Model> model, Settings settings);
  ~Explainer();

  // inputs [N, C, H, W]. Throws item errors (non-finite input or logits, with the item's index).
  Tensor logits(const Tensor& inputs);  // [N, K]
  // results[item][target]; every option is checked before anything runs.
  std::vector<std::vector<Result>> explain(const Tensor& inputs, const Request& request);
  // Every step of the plans that `request` runs, with their memory (what `inspect` and reports
  // print).
  std::string describe(const Request& request, int64_t items);
  // Activation bytes of the plans that `request` runs, for that many items; independent of `steps`.
  size_t bytes(const Request& request, int64_t items);
  size_t derived_bytes(const Request& request,
                       int64_t items);  // packed weights, shared by all plans of the model
  // Of each pass that `request` runs: rows at once, and floating-point operations of a row (forward
  // and backward).
  struct Work {
    int64_t rows;
    double flops_per_row;
  };
  std::vector<Work> work(const Request& request, int64_t items);

  const Model& model() const { return *model_; }

 private:
  struct State;
  Method& method_for(const Request& request, int64_t items);
  std::shared_ptr<const Model> model_;
  Settings settings_;
  std::unique_ptr<State> state_;
};

}  // namespace whence
