// The options of one request, checked against what the method declares.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "whence/explain.h"

namespace whence {

class OptionSet {
 public:
  // Throws usage for a name that the method does not have, listing its options.
  OptionSet(const MethodInfo& method, const std::map<std::string, std::string>& given);

  bool given(std::string_view name) const;
  const std::string& text(std::string_view name) const;
  int64_t integer(std::string_view name, int64_t least, int64_t most) const;
  double number(std::string_view name, double least, double most) const;
  bool flag(std::string_view name) const;  // true|false
  std::string choice(std::string_view name, const std::vector<std::string>& choices) const;

 private:
  [[noreturn]] void reject(std::string_view name, std::string_view expected) const;
  const MethodInfo& method_;
  std::map<std::string, std::string, std::less<>> values_;
  std::map<std::string, std::string> given_;
};

// Which function of the logits is explained.
enum class ScoreKind : uint8_t { probability, logit, loss };
ScoreKind score_kind(const OptionSet& options);  // option gradient_of

}  // namespace whence
