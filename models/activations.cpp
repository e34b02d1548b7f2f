#include "models/activations.h"

#include "runtime/check.h"

namespace whence {

static constexpr ActivationName names[] = {
    {"gelu", "gelu"},
    {"gelu_python", "gelu"},
    {"gelu_pytorch_tanh", "gelu_tanh"},
    {"gelu_new", "gelu_tanh"},
    {"gelu_fast", "gelu_tanh"},
    {"gelu_tanh", "gelu_tanh"},
    {"quick_gelu", "gelu_quick"},
    {"relu", "relu"},
};

std::span<const ActivationName> activation_names() { return names; }

std::string_view activation_of(const JsonObject& config, const char* key, std::string_view stated) {
  std::string usual;
  std::string_view last;
  for (const auto& [name, function] : names) {
    if (name == stated) return function;
    if (function != last) usual += (usual.empty() ? "" : ", ") + std::string(name);
    last = function;
  }
  fail(ErrorCode::unsupported, "{}: {} '{}' is not supported ({})", config.file(), config.name(key),
       printable(stated), usual);
}

}  // namespace whence
