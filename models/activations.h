// What configuration files call the functions of one element that stand between layers.
#pragma once

#include <span>
#include <string_view>

#include "io/json.h"

namespace whence {

struct ActivationName {
  std::string_view stated;    // as configurations do
  std::string_view function;  // as `unary` of ops.h calls it
};
// Names of one function stand together, the usual one first.
std::span<const ActivationName> activation_names();

// The function that `stated` is, which stands in config[key]; an unsupported error if it is none.
std::string_view activation_of(const JsonObject& config, const char* key, std::string_view stated);

}  // namespace whence
