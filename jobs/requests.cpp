#include "jobs/requests.h"

#include <charconv>
#include <set>

#include "runtime/check.h"
#include "runtime/text.h"

namespace whence::jobs {
namespace {

nlohmann::ordered_json typed_value(const std::string& text) {
  if (text == "true" || text == "false") return text == "true";
  const char *begin = text.data(), *end = begin + text.size();
  int64_t whole = 0;
  if (const auto r = std::from_chars(begin, end, whole); r.ec == std::errc() && r.ptr == end)
    return whole;
  double number = 0;
  if (const auto r = std::from_chars(begin, end, number);
      r.ec == std::errc() && r.ptr == end && number - number == 0)
    return number;
  return text;
}

const OptionInfo* find_option(const MethodInfo& method, const std::string& name) {
  for (const OptionInfo& option : method.options)
    if (option.name == name) return &option;
  return nullptr;
}

// "steps (50), start_layer (auto)", with the method before it where there are several.
std::string options_text(const std::vector<MethodChoice>& methods) {
  std::string text;
  for (const MethodChoice& method : methods) {
    std::string own;
    for (const OptionInfo& option : method.info->options)
      own += fmt::format("{}{} ({})", own.empty() ? "" : ", ", option.name, option.fallback);
    text += fmt::format("{}{} has {}", text.empty() ? "" : "; ", method.info->id,
                        own.empty() ? "no options" : own);
  }
  return text;
}

std::vector<std::string> takers_of_layers() {
  std::vector<std::string> ids;
  for (const MethodInfo& info : methods())
    if (info.takes_layer) ids.push_back(info.id);
  return ids;
}

}  // namespace

nlohmann::ordered_json MethodChoice::options() const {
  auto all = nlohmann::ordered_json::object();
  for (const OptionInfo& option : info->options) {
    const auto it = given.find(option.name);
    all[option.name] = typed_value(it == given.end() ? option.fallback : it->second);
  }
  for (const auto& [name, digest] : digests) all[name + "_digest"] = digest;
  if (!models.empty()) {  // what they are called says too little: a file may be another tomorrow
    auto& list = all["models"] = nlohmann::ordered_json::array();
    for (const auto& model : models)
      list.push_back(fmt::format("{} {}", to_utf8(model->name), model->weights.digest));
  }
  if (info->takes_layer) all["layer"] = layer.empty() ? "auto" : to_utf8(layer);
  return all;
}

bool MethodChoice::is_random() const { return draws(*info, given); }

std::vector<MethodChoice> choose_methods(const std::vector<std::string>& ids,
                                         const std::vector<std::string>& parameters,
                                         const std::string& layer) {
  std::vector<MethodChoice> methods;
  for (const std::string& id : ids) {
    const MethodInfo* info = &method(id);
    for (const MethodChoice& other : methods)
      if (other.info == info) fail_usage("--method {}: given twice", id);
    if (!layer.empty() && !info->takes_layer)
      fail_usage("--layer {}: method {} takes no layer; {} do", printable(layer), id,
                 listing(takers_of_layers()));
    methods.push_back({info, {}, layer});
  }
  std::set<std::string> seen;
  for (const std::string& parameter : parameters) {
    const size_t equals = parameter.find('=');
    if (equals == parameter.npos || equals == 0)
      fail_usage("-p {}: NAME=VALUE is expected; {}", printable(parameter), options_text(methods));
    const std::string name = parameter.substr(0, equals);
    if (!seen.insert(name).second) fail_usage("-p {}: given twice", printable(name));
    bool used = false;
    for (MethodChoice& choice : methods)
      if (find_option(*choice.info, name)) {
        choice.given[name] = parameter.substr(equals + 1);
        used = true;
      }
    if (!used) fail_usage("-p {}: no such option; {}", printable(name), options_text(methods));
  }
  return methods;
}

}  // namespace whence::jobs
