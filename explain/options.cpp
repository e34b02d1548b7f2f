#include "explain/options.h"

#include <charconv>

#include "runtime/check.h"
#include "runtime/text.h"

namespace whence {
namespace {

template <class T>
bool parse(const std::string& text, T& value) {
  const auto [p, e] = std::from_chars(text.data(), text.data() + text.size(), value);
  return e == std::errc() && p == text.data() + text.size() && !text.empty();
}

}  // namespace

OptionSet::OptionSet(const MethodInfo& method, const std::map<std::string, std::string>& given)
    : method_(method), given_(given) {
  std::vector<std::string> names;
  for (const OptionInfo& option : method.options) {
    values_[option.name] = option.fallback;
    names.push_back(option.name);
  }
  for (const auto& [name, value] : given) {
    if (!values_.contains(name)) {
      if (names.empty())
        fail_usage("method {} has no options, '{}' was given", method.id, printable(name));
      fail_usage("method {} has no option '{}'; its options are {}", method.id, printable(name),
                 listing(names, 20));
    }
    values_[name] = value;
  }
}

bool OptionSet::given(std::string_view name) const { return given_.contains(std::string(name)); }

const std::string& OptionSet::text(std::string_view name) const {
  auto it = values_.find(name);
  WHENCE_ASSERT(it != values_.end());
  return it->second;
}

void OptionSet::reject(std::string_view name, std::string_view expected) const {
  fail_usage("option {} of method {} is '{}', {} is needed", name, method_.id,
             printable(text(name)), expected);
}

int64_t OptionSet::integer(std::string_view name, int64_t least, int64_t most) const {
  int64_t value = 0;
  if (!parse(text(name), value) || value < least || value > most)
    reject(name, fmt::format("a whole number from {} to {}", least, most));
  return value;
}

double OptionSet::number(std::string_view name, double least, double most) const {
  double value = 0;
  if (!parse(text(name), value) || !(value >= least && value <= most))
    reject(name, fmt::format("a number from {} to {}", least, most));
  return value;
}

bool OptionSet::flag(std::string_view name) const {
  return choice(name, {"true", "false"}) == "true";
}

std::string OptionSet::choice(std::string_view name,
                              const std::vector<std::string>& choices) const {
  for (const std::string& c : choices)
    if (text(name) == c) return c;
  reject(name, fmt::format("one of {}", listing(choices, 20)));
}

ScoreKind score_kind(const OptionSet& options) {
  const std::string c = options.choice("gradient_of", {"probability", "logit", "loss"});
  return c == "probability" ? ScoreKind::probability
         : c == "logit"     ? ScoreKind::logit
                            : ScoreKind::loss;
}

}  // namespace whence
