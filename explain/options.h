// Options of methods: what a method declares, and the values of a request, checked and typed.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "whence/explain.h"

namespace whence {

// Which function of the logits is explained. Loss is minus the logarithm of the probability;
// `own_`: of a class by itself, where classes do not exclude each other.
enum class ScoreKind : uint8_t { probability, logit, loss, own_probability, own_loss };
// What a kind means for a model whose outputs mean this: values have no probability, and stand for
// themselves.
ScoreKind score_kind(ScoreKind kind, Outputs outputs);

// --- declarations
OptionInfo flag(std::string name, bool fallback, std::string meaning);
OptionInfo whole(std::string name, int64_t fallback, int64_t least, int64_t most,
                 std::string meaning);
// `fallback` as it is shown.
OptionInfo number(std::string name, std::string fallback, double least, double most,
                  std::string meaning);
OptionInfo one_of(std::string name, std::string fallback, std::vector<std::string> words,
                  std::string meaning);
OptionInfo text(std::string name, std::string fallback, std::string meaning);
// start_layer, from the first block on; with fallback "auto" the method chooses where nobody does.
OptionInfo start_layer(std::string fallback, std::string meaning);
// gradient_of, of every kind of score, and of those that can be shared out.
OptionInfo gradient_of(std::string fallback);
OptionInfo gradient_of(std::string fallback, std::vector<std::string> words, std::string meaning);

// --- values
class Options {
 public:
  // `score`: what is explained where no option says. Throws usage for a name that the method does
  // not have, listing its options, and for a value that an option does not take; unsupported for a
  // probability that is asked for of a model of values.
  Options(const MethodInfo& method, const Model& model, const Request& request, ScoreKind score);

  const std::string& method() const { return method_; }  // its id
  const std::string& layer() const { return layer_; }    // that is asked for; empty: the usual one
  ScoreKind score() const { return score_; }
  bool flag(std::string_view name) const { return std::get<bool>(at(name)); }
  int64_t whole(std::string_view name) const { return std::get<int64_t>(at(name)); }
  double number(std::string_view name) const { return std::get<double>(at(name)); }
  const std::string& text(std::string_view name) const { return std::get<std::string>(at(name)); }
  bool is(std::string_view name, std::string_view word) const { return text(name) == word; }
  // Of start_layer; `usual` where it is "auto".
  int64_t block(std::string_view name, int64_t usual = 0) const;

 private:
  using Value = std::variant<bool, int64_t, double, std::string>;
  const Value& at(std::string_view name) const;

  std::string method_, layer_;
  ScoreKind score_;
  std::map<std::string, Value, std::less<>> values_;
};

}  // namespace whence
