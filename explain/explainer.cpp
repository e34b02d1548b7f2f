#include <cmath>
#include <filesystem>
#include <list>

#include "explain/method.h"
#include "runtime/check.h"
#include "whence/explain.h"

namespace whence {
namespace {

std::unique_ptr<Method> make(const Job& job) {
  const std::string& id = job.info.id;
  if (id == "gradient" || id == "input-x-gradient") return make_gradient(job);
  if (id == "integrated-gradients") return make_integrated_gradients(job);
  if (id == "smoothgrad") return make_smoothgrad(job);
  if (id == "deeplift" || id == "deeplift-shap") return make_deeplift(job);
  if (id == "attention-last" || id == "rollout") return make_attention_map(job);
  if (id == "attention-grad-cam") return make_attention_grad_cam(job);
  if (id == "generic-attention") return make_generic_attention(job);
  if (id == "tam") return make_tam(job);
  if (id == "transformer-attribution" || id == "full-lrp" || id == "partial-lrp")
    return make_transformer_attribution(job);
  if (id == "grad-cam" || id == "grad-cam-pp" || id == "layer-cam") return make_cam(job);
  if (id == "score-cam") return make_score_cam(job);
  if (id == "layer-activation") return make_layer_activation(job);
  if (id == "guided-backprop" || id == "deconvolution" || id == "guided-grad-cam")
    return make_rectified_gradient(job);
  if (id == "lrp") return make_lrp(job);
  if (id == "consensus") return make_consensus(job);
  if (id == "predict") return make_predict(job);
  fail(ErrorCode::internal, "method {} is listed but not built; please report it", id);
}

}  // namespace

void check_inputs(const Model& model, const Tensor& inputs) {
  const Shape& s = inputs.shape();
  if (s.rank() != model.input.rank() + 1 || s.count(1, s.rank()) != model.input.count() ||
      !std::equal(model.input.begin(), model.input.end(), s.begin() + 1))
    fail_shape("inputs have shape {}, the model takes [N, {}, {}, {}]", to_string(s),
               model.input[0], model.input[1], model.input[2]);
  const auto values = inputs.reals();
  const int64_t n = model.input.count();
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

void check_targets(const Model& model, const std::vector<Target>& targets) {
  if (targets.empty()) fail_usage("at least one target is needed");
  for (const Target& t : targets)
    for (int64_t c : {t.of, t.against})
      if (c < -1 || c >= model.classes)
        fail_usage("target {} is out of range, '{}' has classes 0 to {}", c, model.name,
                   model.classes - 1);
}

void check_applies(const MethodInfo& info, const Model& model, const Request& request) {
  if (!applies(info, model))
    fail(ErrorCode::unsupported, "method {} needs a {}, '{}' is not one", info.id,
         info.models == "transformers" ? "transformer" : "convolutional network", model.name);
  if (!request.layer.empty() && !info.takes_layer)
    fail_usage("method {} takes no layer, '{}' was given", info.id, printable(request.layer));
}

std::unique_ptr<Method> make_method(const Model& model, const Explainer::Settings& settings,
                                    const Request& request, int64_t items) {
  static const MethodInfo predict{"predict", "class scores", "", "any", {}};
  const MethodInfo& info = request.method == predict.id ? predict : whence::method(request.method);
  check_applies(info, model, request);
  return make({model, settings, request, info, OptionSet(info, request.options), items});
}

struct Explainer::State {
  struct Entry {
    std::string key;
    std::unique_ptr<Method> method;
  };
  std::list<Entry> recent;  // plans are kept for the next batch of the same request
};

Explainer::Explainer(std::shared_ptr<const Model> model, Settings settings)
    : model_(std::move(model)), settings_(std::move(settings)), state_(std::make_unique<State>()) {}
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

// The plans of a request for so many items; the most recent few are kept.
static std::string key_of(const Request& request, int64_t items) {
  std::string key = fmt::format("{} {} {} {} {}", request.method, items, request.targets.size(),
                                request.draws ? "draws" : "", request.layer);
  for (const auto& model : request.models)
    key += fmt::format(" {}", static_cast<const void*>(model.get()));
  for (const auto& [name, value] : request.options)
    key += fmt::format("\n{}={}{}", name, value, state_of_file(value));
  return key;
}

Method& Explainer::method_for(const Request& request, int64_t items) {
  const std::string key = key_of(request, items);
  for (auto it = state_->recent.begin(); it != state_->recent.end(); ++it)
    if (it->key == key) {
      state_->recent.splice(state_->recent.begin(), state_->recent, it);
      return *it->method;
    }
  // Plans of other requests stay while all of them together fit the budget of one.
  const size_t budget = activation_budget(settings_);
  const auto held = [&] {
    size_t sum = 0;
    for (const auto& entry : state_->recent)
      for (const Pass* pass : entry.method->passes()) sum += pass->plan().bytes();
    return sum;
  };
  while (!state_->recent.empty() && held() > budget / 2) state_->recent.pop_back();
  state_->recent.push_front({key, make_method(*model_, settings_, request, items)});
  return *state_->recent.front().method;
}

Tensor Explainer::logits(const Tensor& inputs) {
  Request request;
  request.method = "predict";
  const auto results = explain(inputs, request);
  Tensor out(Type{{inputs.shape()[0], model_->classes}});
  for (size_t i = 0; i < results.size(); ++i) {
    const auto row = results[i][0].attribution.reals();
    std::copy(row.begin(), row.end(), out.reals().begin() + int64_t(i) * model_->classes);
  }
  return out;
}

std::vector<std::vector<Result>> Explainer::explain(const Tensor& inputs, const Request& request) {
  check_targets(*model_, request.targets);
  check_inputs(*model_, inputs);
  return method_for(request, inputs.shape()[0]).run(inputs, request);
}

std::string Explainer::describe(const Request& request, int64_t items) {
  std::string text;
  for (const Pass* pass : method_for(request, items).passes())
    text += fmt::format("pass of {} rows\n{}", pass->rows(), pass->plan().describe());
  return text;
}

size_t Explainer::bytes(const Request& request, int64_t items) {
  size_t sum = 0;
  for (const Pass* pass : method_for(request, items).passes()) sum += pass->plan().bytes();
  return sum;
}

size_t Explainer::derived_bytes(const Request& request, int64_t items) {
  size_t most = 0;  // the passes share what they derive; the one with a backward pass has it all
  for (const Pass* pass : method_for(request, items).passes())
    most = std::max(most, pass->plan().derived_bytes());
  return most;
}

std::vector<Explainer::Work> Explainer::work(const Request& request, int64_t items) {
  std::vector<Work> all;
  for (const Pass* pass : method_for(request, items).passes())
    all.push_back(
        {pass->rows(), (pass->plan().flops(Stage::data) + pass->plan().flops(Stage::seed)) /
                           double(pass->rows())});
  return all;
}

}  // namespace whence
