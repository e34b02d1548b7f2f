// Text as a table of relevance rules. Whatever is accepted has numbers that rules can compute with.
#include <cmath>
#include <cstring>

#include "explain/rules/file.h"
#include "whence/error.h"

namespace {

using namespace whence;

void require(bool holds) {
  if (!holds) __builtin_trap();
}

template <class R>
void check(const R& rule) {
  if constexpr (requires { rule.by; })
    require(std::isfinite(rule.by.epsilon) && rule.by.epsilon >= 0);
  if constexpr (requires { rule.gamma; }) require(std::isfinite(rule.gamma) && rule.gamma >= 0);
  if constexpr (requires { rule.alpha; })
    require(rule.beta >= 0 && std::abs(rule.alpha - rule.beta - 1) < 1e-6);
  if constexpr (requires { rule.low; }) {
    require(rule.low.size() == rule.high.size());
    for (size_t i = 0; i < rule.low.size(); ++i) require(rule.low[i] < rule.high[i]);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const RuleTable table =
        parse_rule_table({reinterpret_cast<const char*>(data), size}, "fuzz.json", "fuzz");
    require((!table.rows.empty() || !table.fanouts.empty()) &&
            table.name.find('\n') == table.name.npos);
    const auto check_row = [](const auto& row) {
      require(!row.name.empty() && !to_string(row.rule).empty());
      std::visit([](const auto& rule) { check(rule); }, row.rule);
    };
    for (const RelevanceRow& row : table.rows) {
      require(!row.kinds.empty());
      check_row(row);
    }
    for (const FanoutRow& row : table.fanouts) check_row(row);
  } catch (const Error& e) {
    require(std::strchr(e.what(), '\n') == nullptr);
  }
  return 0;
}
