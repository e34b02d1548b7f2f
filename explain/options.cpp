#include "explain/options.h"

#include <algorithm>
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

// A value of one option, as text, and what it is refused with.
class Reader {
 public:
  Reader(const std::string& method, const OptionInfo& option, const std::string& text)
      : method_(method), option_(option), text_(text) {}

  int64_t whole(int64_t least, int64_t most) const {
    int64_t value = 0;
    if (!parse(text_, value) || value < least || value > most)
      reject(fmt::format("a whole number from {} to {}", least, most));
    return value;
  }

  double number() const {
    double value = 0;
    if (!parse(text_, value) || !(value >= option_.least && value <= option_.most))
      reject(fmt::format("a number from {} to {}", option_.least, option_.most));
    return value;
  }

  const std::string& word(const std::vector<std::string>& words) const {
    for (const std::string& word : words)
      if (text_ == word) return text_;
    reject(fmt::format("one of {}", listing(words, 20)));
  }

 private:
  [[noreturn]] void reject(std::string_view needed) const {
    fail_usage("option {} of method {} is '{}', {} is needed", option_.name, method_,
               printable(text_), needed);
  }

  const std::string& method_;
  const OptionInfo& option_;
  const std::string& text_;
};

ScoreKind score_of(const std::string& word) {
  return word == "probability" ? ScoreKind::probability
         : word == "logit"     ? ScoreKind::logit
                               : ScoreKind::loss;
}

void refuse_probability(const MethodInfo& method, const OptionInfo& option, const Model& model,
                        const std::string& given) {
  if (model.outputs == Outputs::values && given != "logit")
    fail(ErrorCode::unsupported,
         "option {} of method {} is '{}': '{}' answers with values, which have no probability; "
         "logit is the value itself",
         option.name, method.id, printable(given), model.name);
}

void check_names(const MethodInfo& method, const std::map<std::string, std::string>& given) {
  std::vector<std::string> names;
  for (const OptionInfo& option : method.options) names.push_back(option.name);
  for (const auto& [name, value] : given) {
    if (std::find(names.begin(), names.end(), name) != names.end()) continue;
    if (names.empty())
      fail_usage("method {} has no options, '{}' was given", method.id, printable(name));
    fail_usage("method {} has no option '{}'; its options are {}", method.id, printable(name),
               listing(names, 20));
  }
}

}  // namespace

OptionInfo flag(std::string name, bool fallback, std::string meaning) {
  return {std::move(name), fallback ? "true" : "false", std::move(meaning), OptionInfo::Kind::flag};
}
OptionInfo whole(std::string name, int64_t fallback, int64_t least, int64_t most,
                 std::string meaning) {
  return {std::move(name),    std::to_string(fallback),
          std::move(meaning), OptionInfo::Kind::whole,
          double(least),      double(most)};
}
OptionInfo number(std::string name, std::string fallback, double least, double most,
                  std::string meaning) {
  return {std::move(name),
          std::move(fallback),
          std::move(meaning),
          OptionInfo::Kind::number,
          least,
          most};
}
OptionInfo one_of(std::string name, std::string fallback, std::vector<std::string> words,
                  std::string meaning) {
  return {std::move(name), std::move(fallback), std::move(meaning), OptionInfo::Kind::word, 0, 0,
          std::move(words)};
}
OptionInfo text(std::string name, std::string fallback, std::string meaning) {
  return {std::move(name), std::move(fallback), std::move(meaning)};
}
OptionInfo start_layer(std::string fallback, std::string meaning) {
  OptionInfo option{"start_layer", std::move(fallback), std::move(meaning),
                    OptionInfo::Kind::block};
  if (option.fallback == "auto") option.words = {"auto"};
  return option;
}
OptionInfo gradient_of(std::string fallback) {
  return gradient_of(std::move(fallback), {"probability", "logit", "loss"},
                     "what is differentiated: probability, logit or loss of the target");
}
OptionInfo gradient_of(std::string fallback, std::vector<std::string> words, std::string meaning) {
  return one_of("gradient_of", std::move(fallback), std::move(words), std::move(meaning));
}

ScoreKind score_kind(ScoreKind kind, Outputs outputs) {
  if (outputs == Outputs::single_label) return kind;
  if (outputs == Outputs::values || kind == ScoreKind::logit) return ScoreKind::logit;
  return kind == ScoreKind::probability ? ScoreKind::own_probability : ScoreKind::own_loss;
}

Options::Options(const MethodInfo& method, const Model& model, const Request& request,
                 ScoreKind score)
    : method_(method.id), layer_(request.layer), score_(score_kind(score, model.outputs)) {
  check_names(method, request.options);
  for (const OptionInfo& option : method.options) {
    const auto it = request.options.find(option.name);
    const std::string& given = it == request.options.end() ? option.fallback : it->second;
    const Reader reader(method_, option, given);
    Value& value = values_[option.name];
    switch (option.kind) {
      case OptionInfo::Kind::flag:
        value = reader.word({"true", "false"}) == "true";
        break;
      case OptionInfo::Kind::whole:
        value = reader.whole(int64_t(option.least), int64_t(option.most));
        break;
      case OptionInfo::Kind::number:
        value = reader.number();
        break;
      case OptionInfo::Kind::block:
        if (std::find(option.words.begin(), option.words.end(), given) != option.words.end())
          value = given;
        else
          value = reader.whole(0, model.places.towers.back().blocks - 1);
        break;
      case OptionInfo::Kind::word:
        value = reader.word(option.words);
        break;
      case OptionInfo::Kind::text:
        value = given;
        break;
    }
    if (option.name != "gradient_of") continue;
    if (it != request.options.end()) refuse_probability(method, option, model, given);
    score_ = score_kind(score_of(given), model.outputs);
  }
}

const Options::Value& Options::at(std::string_view name) const {
  const auto it = values_.find(name);
  WHENCE_ASSERT(it != values_.end());
  return it->second;
}

int64_t Options::block(std::string_view name, int64_t usual) const {
  const Value& value = at(name);
  return std::holds_alternative<int64_t>(value) ? std::get<int64_t>(value) : usual;
}

}  // namespace whence
