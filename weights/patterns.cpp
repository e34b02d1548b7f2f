#include "runtime/check.h"
#include "weights/name_map.h"

namespace whence {
namespace {

size_t number_length(std::string_view text) {
  size_t n = 0;
  while (n < text.size() && text[n] >= '0' && text[n] <= '9') ++n;
  if (n > 1 && text[0] == '0') return 0;  // "blocks.00" is not block 0
  return n <= 9 ? n : 0;
}

bool match(std::string_view pattern, std::string_view name, Captured& captured) {
  while (!pattern.empty()) {
    if (pattern.starts_with("{i}")) {
      const size_t n = number_length(name);
      if (n == 0) return false;
      captured.i = name.substr(0, n);
      pattern.remove_prefix(3);
      name.remove_prefix(n);
    } else if (pattern.starts_with("{rest}")) {
      const std::string_view after = pattern.substr(6);
      for (size_t n = name.size(); n > 0; --n)
        if (match(after, name.substr(n), captured)) {
          captured.rest = name.substr(0, n);
          return true;
        }
      return false;
    } else {
      if (name.empty() || name[0] != pattern[0]) return false;
      pattern.remove_prefix(1);
      name.remove_prefix(1);
    }
  }
  return name.empty();
}

}  // namespace

std::optional<Captured> match_pattern(std::string_view pattern, std::string_view name) {
  Captured captured;
  if (!match(pattern, name, captured)) return {};
  return captured;
}

std::string fill_pattern(std::string_view pattern, const Captured& captured) {
  std::string out;
  while (!pattern.empty()) {
    if (pattern.starts_with("{i}")) {
      out += captured.i;
      pattern.remove_prefix(3);
    } else if (pattern.starts_with("{rest}")) {
      out += captured.rest;
      pattern.remove_prefix(6);
    } else {
      out += pattern[0];
      pattern.remove_prefix(1);
    }
  }
  return out;
}

RuleFor rule_for(const NameMap& map, const std::string& canonical, const Checkpoint* checkpoint) {
  RuleFor first;
  for (const NameRule& rule : map.rules) {
    if (rule.canonical.empty()) continue;
    const auto captured = match_pattern(rule.canonical, canonical);
    if (!captured) continue;
    RuleFor found{&rule, fill_pattern(rule.pattern, *captured)};
    if (!checkpoint || checkpoint->find(found.stored)) return found;
    if (!first.rule) first = found;
  }
  return first;
}

Shape stored_shape(const NameRule& rule, const Shape& canonical) {
  if (rule.stored) return *rule.stored;
  return rule.parts == 1 ? canonical : canonical.with(0, canonical[0] * rule.parts);
}

}  // namespace whence
