#include <algorithm>
#include <cmath>
#include <filesystem>
#include <list>

#include "explain/plans.h"
#include "runtime/check.h"
#include "runtime/exclusive.h"
#include "whence/explain.h"

namespace whence {
namespace {

// "[N, 3, 224, 224]"
std::string batch_shape(const Shape& item) {
  std::string text = "[N";
  for (const int64_t size : item) text += fmt::format(", {}", size);
  return text + "]";
}

void check_input(const Model& model, const Port& port, const Tensor& input) {
  const Shape &s = input.shape(), &item = port.item.shape;
  if (s.rank() != item.rank() + 1 || !std::equal(item.begin(), item.end(), s.begin() + 1))
    fail_shape("inputs have shape {}, the model takes {}{}", to_string(s), batch_shape(item),
               model.ports.size() > 1 ? fmt::format(" at '{}'", port.name) : "");
  if (port.item.dtype == Dtype::i32) {
    input.ints();  // throws dtype
    return;
  }
  const auto values = input.reals();
  const int64_t n = item.count();
  for (size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i])) {
      ErrorFields fields;
      fields.item = std::to_string(int64_t(i) / n);
      throw Error(ErrorCode::nonfinite,
                  fmt::format("item {}: input value {} is {}, inputs must be finite",
                              int64_t(i) / n, int64_t(i) % n, values[i]),
                  std::move(fields));
    }
}

}  // namespace

void check_inputs(const Model& model, const Inputs& inputs) {
  if (inputs.ports() != model.ports.size())
    fail_shape("{} tensors are given, '{}' has {} inputs", inputs.ports(), model.name,
               model.ports.size());
  for (size_t p = 0; p < model.ports.size(); ++p) {
    check_input(model, model.ports[p], inputs.port(p));
    if (inputs.port(p).shape()[0] != inputs.items())
      fail_shape("'{}' has {} inputs at '{}', {} at '{}'", model.name, inputs.items(),
                 model.ports[0].name, inputs.port(p).shape()[0], model.ports[p].name);
  }
}

void check_targets(const Model& model, const std::vector<Target>& targets) {
  if (targets.empty()) fail_usage("at least one target is needed");
  for (const Target& t : targets)
    for (int64_t c : {t.of, t.against})
      if (c < -1 || c >= model.classes)
        fail_usage("target {} is out of range, '{}' has classes 0 to {}", c, model.name,
                   model.classes - 1);
}

Options checked_options(const Method& method, const Machine& machine, const Request& request) {
  const MethodInfo& info = method.info;
  if (!applies(info, machine.model))
    fail(ErrorCode::unsupported, "method {} needs a {}, '{}' is not one", info.id,
         info.models == "transformers" ? "transformer" : "convolutional network",
         machine.model.name);
  if (!request.layer.empty() && !info.takes_layer)
    fail_usage("method {} takes no layer, '{}' was given", info.id, printable(request.layer));
  Options options(info, machine.model, request, method.score);
  // Relevance is divided by sums that cancel: factors of 8 or 11 bits would decide what is left.
  if (method.relevance && machine.settings.precision != Precision::f32)
    fail_usage("{}: relevance is computed in f32, not {}", info.id,
               to_string(machine.settings.precision));
  return options;
}

Inputs Inputs::slice(int64_t begin, int64_t end) const {
  std::vector<Tensor> parts;
  for (const Tensor& port : of_ports_) parts.push_back(port.slice(begin, end));
  return parts;
}

struct Explainer::State {
  struct Entry {
    std::string key;
    std::unique_ptr<Plans> plans;
  };
  std::list<Entry> recent;  // plans are kept for the next batch of the same requests
};

Explainer::Explainer(std::shared_ptr<const Model> model, Settings settings)
    : model_(std::move(model)),
      settings_(std::move(settings)),
      runs_(std::make_shared<Runs>()),
      state_(std::make_unique<State>()) {}
Explainer::~Explainer() = default;

// Size and time of the file that an option's value names: it may be another one the next time.
static std::string state_of_file(const std::string& value) {
  std::error_code no_file, no_size, no_time;
  if (!std::filesystem::is_regular_file(value, no_file)) return {};
  const auto bytes = std::filesystem::file_size(value, no_size);
  const auto time = std::filesystem::last_write_time(value, no_time);
  return no_size || no_time ? std::string()
                            : fmt::format(" {} {}", bytes, time.time_since_epoch().count());
}

// What the plans of a request depend on.
static std::string key_of(const Request& request) {
  std::string key = fmt::format("{} {} {} {}", request.method, request.targets.size(),
                                request.draws ? "draws" : "", request.layer);
  for (const auto& model : request.models)
    key += fmt::format(" {}", static_cast<const void*>(model.get()));
  for (const auto& [name, value] : request.options)
    key += fmt::format("\n{}={}{}", name, value, state_of_file(value));
  return key;
}

// Of requests that are answered together: also which of them have the same targets.
static std::string key_of(std::span<const Request> requests, int64_t items) {
  std::string key = fmt::format("{}", items);
  for (const Request& request : requests) {
    const auto first = std::find_if(requests.begin(), requests.end(), [&](const Request& other) {
      return other.targets == request.targets;
    });
    key += fmt::format("\n{} {}", first - requests.begin(), key_of(request));
  }
  return key;
}

static size_t bytes_of(const Plans& plans) {
  size_t sum = 0;
  for (const Pass* pass : plans.passes()) sum += pass->plan().bytes();
  return sum;
}

// The plans of requests for so many items; the most recent few are kept.
Plans& Explainer::plans_for(std::span<const Request> requests, int64_t items) {
  auto& recent = state_->recent;
  const std::string key = key_of(requests, items);
  for (auto it = recent.begin(); it != recent.end(); ++it)
    if (it->key == key) {
      recent.splice(recent.begin(), recent, it);
      return *it->plans;
    }
  // Plans of other requests stay while all of them together fit the budget of one.
  const size_t budget = activation_budget(settings_);
  const auto held = [&] {
    size_t sum = 0;
    for (const auto& entry : recent) sum += bytes_of(*entry.plans);
    return sum;
  };
  while (!recent.empty() && held() > budget / 2) recent.pop_back();
  recent.push_front(
      {key, std::make_unique<Plans>(Machine{*model_, settings_, runs_}, requests, items)});
  return *recent.front().plans;
}

static Tensor logits_of(const Results& predicted, int64_t classes) {
  Tensor out(Type{{int64_t(predicted.size()), classes}});
  for (size_t i = 0; i < predicted.size(); ++i)
    std::ranges::copy(predicted[i][0].attribution.reals(),
                      out.reals().begin() + int64_t(i) * classes);
  return out;
}

Tensor Explainer::logits(const Inputs& inputs) {
  Request request;
  request.method = "predict";
  return logits_of(explain(inputs, request), model_->classes);
}

Results Explainer::explain(const Inputs& inputs, const Request& request) {
  const Exclusive turn(busy_, "the explainer");
  check_targets(*model_, request.targets);
  check_inputs(*model_, inputs);
  const std::span<const Request> one(&request, 1);
  return std::move(plans_for(one, inputs.items()).run(inputs, one)[0]);
}

// With what gives the logits; it has targets of the others, so that it shares their pass.
static std::vector<Request> with_prediction(std::span<const Request> requests) {
  std::vector<Request> all(requests.begin(), requests.end());
  all.emplace_back().method = "predict";
  if (!requests.empty()) all.back().targets = requests[0].targets;
  return all;
}

Answers Explainer::explain(const Inputs& inputs, std::span<const Request> requests) {
  const Exclusive turn(busy_, "the explainer");
  for (const Request& request : requests) check_targets(*model_, request.targets);
  check_inputs(*model_, inputs);
  const std::vector<Request> all = with_prediction(requests);
  Answers answers;
  answers.results = plans_for(all, inputs.items()).run(inputs, all);
  answers.logits = logits_of(answers.results.back(), model_->classes);
  answers.results.pop_back();
  return answers;
}

std::string Explainer::describe(const Request& request, int64_t items) {
  const Exclusive turn(busy_, "the explainer");
  std::string text;
  for (const Pass* pass : plans_for({&request, 1}, items).passes())
    text += fmt::format("pass of {} rows\n{}", pass->rows(), pass->plan().describe());
  return text;
}

size_t Explainer::bytes(const Request& request, int64_t items) {
  const Exclusive turn(busy_, "the explainer");
  return bytes_of(plans_for({&request, 1}, items));
}

size_t Explainer::bytes(std::span<const Request> requests, int64_t items) {
  const Exclusive turn(busy_, "the explainer");
  return bytes_of(plans_for(with_prediction(requests), items));
}

size_t Explainer::derived_bytes(const Request& request, int64_t items) {
  const Exclusive turn(busy_, "the explainer");
  size_t most = 0;  // the passes share what they derive; the one with a backward pass has it all
  for (const Pass* pass : plans_for({&request, 1}, items).passes())
    most = std::max(most, pass->plan().derived_bytes());
  return most;
}

std::vector<Explainer::Work> Explainer::work(const Request& request, int64_t items) {
  const Exclusive turn(busy_, "the explainer");
  std::vector<Work> all;
  for (const Pass* pass : plans_for({&request, 1}, items).passes())
    all.push_back(
        {pass->rows(), (pass->plan().flops(Stage::data) + pass->plan().flops(Stage::seed)) /
                           double(pass->rows())});
  return all;
}

}  // namespace whence
