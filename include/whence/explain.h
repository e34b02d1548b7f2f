// Explaining: methods by id, over batches, for several targets from one forward pass. Methods that
// are asked for together share it.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "whence/device.h"
#include "whence/model.h"

namespace whence {

struct OptionInfo {
  enum class Kind : uint8_t {
    flag,    // true or false
    whole,   // a whole number from `least` to `most`
    number,  // a number from `least` to `most`
    block,   // a block of the model's tower, from 0 on, or one of `words`
    word,    // one of `words`
    text,    // anything; the method says what it makes of it
  };
  std::string name, fallback, meaning;  // `fallback`: the default value, as text
  Kind kind = Kind::text;
  double least = 0, most = 0;
  std::vector<std::string> words = {};
  std::string draws = {};  // with this value the method draws random numbers
};
struct MethodInfo {
  // `models`: what it applies to, "any", "transformers" or "convolutional"
  std::string id, summary, paper, models;
  std::vector<OptionInfo> options;
  bool takes_layer = false;   // it explains by a layer's values: Request::layer
  bool takes_models = false;  // it explains several models: Request::models
  bool draws = false;         // it draws random numbers, whatever its options are
  // How far the relevance goes that it spreads from the logits: Explainer::audit
  enum class Relevance : uint8_t { none, to_input, to_attention } relevance = Relevance::none;
};
// Every method that exists, in the order of the command line's contract.
const std::vector<MethodInfo>& methods();
const MethodInfo& method(std::string_view id);               // throws usage, with the nearest ids
bool applies(const MethodInfo& method, const Model& model);  // to models of this kind
// Does it draw random numbers with these options, by name as in Request::options?
bool draws(const MethodInfo& method, const std::map<std::string, std::string>& options);

// What a model is given: a tensor [N, ...] for each of its ports, in their order. Of a model with
// one port, the tensor itself.
class Inputs {
 public:
  Inputs(Tensor of_the_only_port) : of_ports_{std::move(of_the_only_port)} {}
  Inputs(std::vector<Tensor> of_ports) : of_ports_(std::move(of_ports)) {}
  size_t ports() const { return of_ports_.size(); }
  const Tensor& port(size_t i) const { return of_ports_[i]; }
  int64_t items() const { return of_ports_.empty() ? 0 : of_ports_[0].shape()[0]; }
  Inputs slice(int64_t begin, int64_t end) const;  // items [begin, end); shares the memory

 private:
  std::vector<Tensor> of_ports_;
};

// Of each class, by what the model's outputs mean: softmax, or sigmoid of each; empty where they
// are values.
std::vector<double> class_probabilities(std::span<const real> logits, Outputs outputs);

// What is explained: the predicted class, a class, or the contrast of two (the score of one minus
// the other's).
struct Target {
  int64_t of = -1;       // -1: the predicted class
  int64_t against = -1;  // -1: no contrast
  bool operator==(const Target&) const = default;
};

struct Result {
  // Of the values at Places::entry in their shape, such as [C, H, W]; [rows, columns] for maps of a
  // tower's tokens, [h, w] for maps of a layer
  Tensor attribution;
  int64_t target = 0, against = -1;
  real score = 0;                   // the explained scalar (`gradient_of`) of the clean input
  std::optional<real> probability;  // of `target`; none where a model answers with values
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
    std::optional<real> probability;
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
  // feature map of a convolutional network (Places::features), what the last attention of a
  // transformer reads (Tower::place, "attn.in").
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

class Plans;

// What several requests for the same inputs are answered with.
struct Answers {
  Tensor logits;                                          // [N, K]
  std::vector<std::vector<std::vector<Result>>> results;  // [request][item][target]
};

// One call at a time: a second one meanwhile throws busy, and nothing of either is mixed. Results
// do not depend on the chunk, the number of threads, or an item's neighbours.
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

  // Throws shape or dtype for inputs that do not fit the model's ports, and item errors (non-finite
  // input or logits, with the item's index).
  Tensor logits(const Inputs& inputs);  // [N, K]
  // results[item][target]; every option is checked before anything runs.
  std::vector<std::vector<Result>> explain(const Inputs& inputs, const Request& request);
  // All of them, with the bits that each has alone. Those that want the same targets share one
  // pass over the inputs, and one backward pass a target, unless its plan would not fit the memory
  // or would change a bit. An item that one request cannot be answered for fails the call.
  Answers explain(const Inputs& inputs, std::span<const Request> requests);
  // The balance of a relevance pass from the logits to the input, with the rules and the seed of
  // `request`: of lrp, full-lrp, transformer-attribution or partial-lrp. audits[item][target].
  // Nothing is refused because it is not finite: where that begins is what an audit shows.
  std::vector<std::vector<Audit>> audit(const Inputs& inputs, const Request& request);
  // Every step of the plans that `request` runs, with their memory (what `inspect` and reports
  // print).
  std::string describe(const Request& request, int64_t items);
  // Activation bytes of the plans that `request` runs, for that many items; independent of `steps`.
  size_t bytes(const Request& request, int64_t items);
  size_t bytes(std::span<const Request> requests,
               int64_t items);  // where they are answered together
  size_t derived_bytes(const Request& request,
                       int64_t items);  // packed weights, shared by all plans of the model
  // Of each pass that `request` runs: rows at once, and floating-point operations of a row (forward
  // and backward).
  struct Work {
    int64_t rows;
    double flops_per_row;
  };
  std::vector<Work> work(const Request& request, int64_t items);
  // How often plans have run since this explainer was made.
  struct Runs {
    int64_t forward = 0, backward = 0;
  };
  Runs runs() const { return *runs_; }

  const Model& model() const { return *model_; }

 private:
  struct State;
  Plans& plans_for(std::span<const Request> requests, int64_t items);
  std::shared_ptr<const Model> model_;
  Settings settings_;
  std::shared_ptr<Runs> runs_;
  std::unique_ptr<State> state_;
  std::atomic_flag busy_;
};

}  // namespace whence
