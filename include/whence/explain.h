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
  // `models`: what it applies to, "any", "transformers" or "convolutional"
  std::string id, summary, paper, models;
  std::vector<OptionInfo> options;
  bool takes_layer = false;   // it explains by a layer's values: Request::layer
  bool takes_models = false;  // it explains several models: Request::models
};
// Every method that exists, in the order of the command line's contract.
const std::vector<MethodInfo>& methods();
const MethodInfo& method(std::string_view id);               // throws usage, with the nearest ids
bool applies(const MethodInfo& method, const Model& model);  // to models of this kind

// What is explained: the predicted class, a class, or the contrast of two (the score of one minus
// the other's).
struct Target {
  int64_t of = -1;       // -1: the predicted class
  int64_t against = -1;  // -1: no contrast
};

struct Result {
  // [C,H,W] for input gradients, [gh,gw] for patch maps, [h,w] for maps of a layer
  Tensor attribution;
  int64_t target = 0, against = -1;
  real score = 0;        // the explained scalar (`gradient_of`) of the clean input
  real probability = 0;  // softmax probability of `target`
  // The sum of attributions minus the difference of scores, where the method is complete. Of
  // methods that spread relevance: what of the logits' relevance came to the input (of those that
  // read attentions: to the sum which the lowest of these adds to, "blocks.N.mid") minus what they
  // had.
  std::optional<double> gap;
  bool flat = false;  // the map is constant, its min-max picture is empty
  // Of a consensus: what each model explained, and the cosine of its map and the joint one.
  struct Member {
    std::string model;
    int64_t target = 0;
    real probability = 0;
    std::optional<double> agreement;
  };
  std::vector<Member> members = {};
};

struct Request {
  std::string method;  // an id of methods(), or "predict", whose attribution is the logits
  std::map<std::string, std::string> options;            // by the names of MethodInfo
  std::vector<Target> targets = std::vector<Target>(1);  // the predicted class
  uint64_t seed = 0;
  Tensor draws;             // standard variates instead of the generator's, in the method's order
  uint32_t first_item = 0;  // index of inputs[0] among all inputs of a job: keys the random numbers
  // A place of the model's graph (Graph::names), for methods that take a layer. Empty: the last
  // feature map of a convolutional network ("features.last"), what the last attention of a
  // transformer reads ("blocks.N.norm1").
  std::string layer = {};
  // Of a consensus: the models beside the explainer's own, which have the same classes, and for
  // each the inputs as it takes them, [N, C, h, w] of the same pictures. Without those the
  // explainer's inputs are given to all, in each model's normalisation.
  std::vector<std::shared_ptr<const Model>> models = {};
  std::vector<Tensor> model_inputs = {};
};

// A step of a relevance pass for one input: the relevance that came to an op and that it handed on,
// summed. What it lost (in - out) went to its bias, its stabiliser, and to what is learned and no
// part of the input, such as position embeddings.
struct AuditRow {
  // Of the op, "fanout" where contributions of several readers meet; its output's name, or empty.
  std::string kind, name, rule;
  double in = 0, out = 0;
  std::optional<double> absorbed;  // of what is lost: the bias' share, where a rule has it
  // Of an attention whose probabilities the method reads: their relevance.
  std::optional<double> probabilities;
  double lost() const { return in - out; }
};
// seed - input is the sum of what all steps lost.
struct Audit {
  std::string rules;  // the table's name
  int64_t target = 0, against = -1;
  real score = 0;              // the logit, or the difference of two
  double seed = 0, input = 0;  // relevance at the logits, and what of it came to the input
  std::vector<AuditRow> rows;  // from the logits on
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
  // The balance of a relevance pass from the logits to the input, with the rules and the seed of
  // `request`: of lrp, full-lrp, transformer-attribution or partial-lrp. audits[item][target].
  // Nothing is refused because it is not finite: where that begins is what an audit shows.
  std::vector<std::vector<Audit>> audit(const Tensor& inputs, const Request& request);
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
