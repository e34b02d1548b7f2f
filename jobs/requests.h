// Methods with their options, as requests to the library and as results show them.
#pragma once

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "whence/explain.h"

namespace whence::jobs {

struct MethodChoice {
  const MethodInfo* info = nullptr;
  std::map<std::string, std::string> given;
  std::string layer = {};  // empty: the method's own
  // Of a consensus: the models that option `models` names, once they are loaded.
  std::vector<std::shared_ptr<const Model>> models = {};
  // Of the files that options name, so that results tell what was in them.
  std::map<std::string, std::string> digests = {};
  // Every option with its value or default, numbers and flags as such; the layer, where it has one.
  nlohmann::ordered_json options() const;
  bool is_random() const;  // it draws numbers with these options
};

// `parameters` are NAME=VALUE; each must be an option of at least one of the methods and goes to
// all that have it. Values are checked by the methods themselves. All must take `layer`, if it is
// given.
std::vector<MethodChoice> choose_methods(const std::vector<std::string>& ids,
                                         const std::vector<std::string>& parameters,
                                         const std::string& layer = {});

}  // namespace whence::jobs
