// A method: what the catalogue says of it, and its formula. Each is a function in explain/methods/
// that returns this value; catalogue.cpp lists them, and nothing else names one.
#pragma once

#include <memory>

#include "explain/engine/maps.h"

namespace whence {

// What requests of one kind are answered with. Requests of a kind differ in their seed, draws,
// first item and classes.
struct Setup {
  Machine machine;
  Request request;  // the first of its kind
  Options options;
  int64_t items;

  const Model& model() const { return machine.model; }
  int64_t targets() const { return int64_t(request.targets.size()); }
};

// Inputs and a request, after the pass over the inputs themselves.
struct Batch {
  const Inputs& inputs;
  const Request& request;
  const Clean& clean;  // empty for methods that need no such pass, as the next two
  MapsOf maps;         // of Method::map
  Pass* pass;
};

// A method that goes on after the pass over the inputs: with points, samples or a loop of its own.
class Worker {
 public:
  virtual ~Worker() = default;
  virtual Results run(Batch batch) = 0;
  virtual std::vector<const Pass*> passes() const = 0;  // its own
};

struct Relevance;  // explain/rules/spread.h

struct Method {
  MethodInfo info;
  // What it computes in the pass over the inputs themselves.
  Map (*map)(Scene&, const Options&) = nullptr;
  // What it computes beyond; without it the maps are the answer.
  std::unique_ptr<Worker> (*prepare)(const Setup&) = nullptr;
  // Of methods that spread relevance; they compute in f32 alone.
  Relevance (*relevance)(Scene&, const Options&) = nullptr;
  ScoreKind score = ScoreKind::logit;  // what is explained where option gradient_of does not say
  bool clean_pass = true;              // it needs the pass over the inputs themselves
};

// By id, "predict" among them; throws usage, with the nearest ids.
const Method& find_method(std::string_view id);

// Throw what is wrong with a request before anything is planned.
void check_targets(const Model& model, const std::vector<Target>& targets);
void check_inputs(const Model& model, const Inputs& inputs);
// The options of a request for a method, once it is known that the method can do it.
Options checked_options(const Method& method, const Machine& machine, const Request& request);

}  // namespace whence
