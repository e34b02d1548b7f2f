// Every method: what `whence methods` prints, what options are checked against, what tests iterate.
#include <algorithm>

#include "explain/method.h"
#include "runtime/check.h"
#include "runtime/text.h"

// One line a method, in the order of the command line.
#define WHENCE_METHODS(METHOD)    \
  METHOD(gradient)                \
  METHOD(input_x_gradient)        \
  METHOD(integrated_gradients)    \
  METHOD(smoothgrad)              \
  METHOD(deeplift)                \
  METHOD(deeplift_shap)           \
  METHOD(guided_backprop)         \
  METHOD(deconvolution)           \
  METHOD(grad_cam)                \
  METHOD(guided_grad_cam)         \
  METHOD(grad_cam_pp)             \
  METHOD(layer_cam)               \
  METHOD(score_cam)               \
  METHOD(layer_activation)        \
  METHOD(lrp)                     \
  METHOD(consensus)               \
  METHOD(transformer_attribution) \
  METHOD(full_lrp)                \
  METHOD(attention_last)          \
  METHOD(attention_grad_cam)      \
  METHOD(partial_lrp)             \
  METHOD(rollout)                 \
  METHOD(generic_attention)       \
  METHOD(tam)

namespace whence {
namespace catalogue {

#define WHENCE_DECLARE(name) Method name();
WHENCE_METHODS(WHENCE_DECLARE)
#undef WHENCE_DECLARE
Method predict();  // in no list: Explainer::logits

}  // namespace catalogue

namespace {

const std::vector<Method>& all_methods() {
#define WHENCE_LIST(name) catalogue::name(),
  static const std::vector<Method> all{WHENCE_METHODS(WHENCE_LIST)};
#undef WHENCE_LIST
  return all;
}

}  // namespace

const std::vector<MethodInfo>& methods() {
  static const std::vector<MethodInfo> infos = [] {
    std::vector<MethodInfo> list;
    for (const Method& m : all_methods()) list.push_back(m.info);
    return list;
  }();
  return infos;
}

const MethodInfo& method(std::string_view id) {
  std::vector<std::string> ids;
  for (const MethodInfo& m : methods()) {
    if (m.id == id) return m;
    ids.push_back(m.id);
  }
  fail_usage("there is no method '{}'; the nearest are {} (`whence methods` lists all)",
             printable(id), listing(nearest(id, ids)));
}

const Method& find_method(std::string_view id) {
  static const Method predict = catalogue::predict();
  if (id == predict.info.id) return predict;
  return all_methods()[size_t(&method(id) - methods().data())];
}

bool applies(const MethodInfo& method, const Model& model) {
  return method.models == "any" ||
         (method.models == "transformers") == !model.places.towers.empty();
}

bool draws(const MethodInfo& method, const std::map<std::string, std::string>& options) {
  return method.draws ||
         std::any_of(method.options.begin(), method.options.end(), [&](const OptionInfo& option) {
           const auto it = options.find(option.name);
           return !option.draws.empty() &&
                  (it == options.end() ? option.fallback : it->second) == option.draws;
         });
}

}  // namespace whence
