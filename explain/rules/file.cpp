#include "explain/rules/file.h"

#include <algorithm>
#include <cmath>

#include "io/files.h"
#include "io/json.h"
#include "runtime/check.h"
#include "runtime/text.h"

namespace whence {
namespace {

// Beyond this a float may be infinite after a few products.
constexpr double largest_number = 1e30;
constexpr int64_t most_bytes = int64_t(1) << 20;  // of a file

[[noreturn]] void reject(const std::string& place, const std::string& what) {
  fail(ErrorCode::format, "{}: {}", place, what);
}

// The parameters of one row, by the names of the fields of its rule.
class Fields {
 public:
  explicit Fields(const JsonObject& row) : row_(row) {}

  template <class R>
  R read(R rule) {
    if constexpr (requires { rule.by; }) stabiliser(rule.by);
    if constexpr (requires { rule.alpha; }) shares(rule.alpha, rule.beta);
    if constexpr (requires { rule.gamma; }) number("gamma", rule.gamma, 0, largest_number);
    if constexpr (requires { rule.joint; }) flag("joint", rule.joint);
    if constexpr (requires { rule.generalised; }) flag("generalised", rule.generalised);
    if constexpr (requires { rule.bias; }) flag("bias", rule.bias);
    if constexpr (requires { rule.low; }) box(rule.low, rule.high);
    if constexpr (requires { rule.joint; })
      if (rule.bias && !rule.joint)
        reject(row_.file(), "'bias' is true: it contributes only where 'joint' is true");
    return rule;
  }

  void stabiliser(Stabiliser& by) {
    number("epsilon", by.epsilon, 0, largest_number);
    known_.emplace_back("stabiliser");
    const auto kind = row_.text("stabiliser");
    if (!kind) return;
    if (*kind == "guarded")
      by.kind = Stabiliser::guarded;
    else if (*kind == "away")
      by.kind = Stabiliser::away;
    else if (*kind == "shifted")
      by.kind = Stabiliser::shifted;
    else
      reject(row_.file(),
             fmt::format("'stabiliser' is '{}', one of 'guarded', 'away', 'shifted' is expected",
                         printable(*kind)));
  }
  void flag(const char* key, bool& field) {
    known_.emplace_back(key);
    field = row_.flag(key).value_or(field);
  }

  // Throws unless every key of the row has been read.
  void check_all_known(const std::string& rule) const {
    for (const auto& [key, value] : row_.value().items()) {
      if (key == "kinds" || key == "name" || key == "rule") continue;
      if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
      reject(row_.file(),
             fmt::format("rule {} has no parameter '{}'; {}", rule, printable(key),
                         known_.empty() ? "it has none" : "it has " + listing(known_)));
    }
  }

 private:
  void number(const char* key, double& field, double low, double high) {
    known_.emplace_back(key);
    field = row_.number(key, low, high).value_or(field);
  }
  // alpha - beta = 1; one of them gives the other.
  void shares(double& alpha, double& beta) {
    constexpr double most = 1e6;
    const auto a = row_.number("alpha", 1, most), b = row_.number("beta", 0, most);
    known_.insert(known_.end(), {"alpha", "beta"});
    if (a && b && std::abs(*a - *b - 1) > 1e-9)
      reject(row_.file(), fmt::format("'alpha' {} and 'beta' {}: alpha - beta must be 1", *a, *b));
    if (!a && !b) return;
    alpha = a ? *a : *b + 1;
    beta = b ? *b : *a - 1;
  }
  std::vector<double> bounds(const char* key) {
    constexpr size_t most = 4096;
    known_.emplace_back(key);
    const Json* value = row_.find(key);
    if (!value) return {};
    const auto one = [&](const Json& v, const std::string& name) {
      return json_number(v, row_.file(), name, -largest_number, largest_number);
    };
    if (!value->is_array()) return {one(*value, key)};
    if (value->empty() || value->size() > most)
      reject(row_.file(),
             fmt::format("'{}' has {} numbers, 1 to {} are expected", key, value->size(), most));
    std::vector<double> all;
    for (size_t i = 0; i < value->size(); ++i)
      all.push_back(one((*value)[i], fmt::format("{}[{}]", key, i)));
    return all;
  }
  void box(std::vector<double>& low, std::vector<double>& high) {
    low = bounds("low"), high = bounds("high");
    if (low.size() != high.size())
      reject(row_.file(), fmt::format("'low' has {} numbers and 'high' has {}: one each for a "
                                      "channel, one for all, or none",
                                      low.size(), high.size()));
    for (size_t i = 0; i < low.size(); ++i)
      if (!(low[i] < high[i]))
        reject(row_.file(), fmt::format("'low' {} is not below 'high' {}", low[i], high[i]));
  }

  const JsonObject& row_;
  std::vector<std::string> known_;
};

RelevanceRule z_plus(Fields& fields) {
  rule::AlphaBeta rule{1, 0, true, {Stabiliser::away, 1e-6}, true};
  fields.stabiliser(rule.by);
  fields.flag("bias", rule.bias);
  return rule;
}

using Rule = std::variant<RelevanceRule, FanoutRule>;

struct Form {
  const char* name;
  Rule (*read)(Fields&);
};

// The rules of a variant, with the names and the parameters of their structs.
template <class Variant, class... R>
void add_forms(std::vector<Form>& forms, const std::variant<R...>*) {
  (forms.push_back({R::name, [](Fields& f) { return Rule(Variant(f.read(R{}))); }}), ...);
}

// Every rule there is for relevance, and other names of the literature for some.
const std::vector<Form>& forms() {
  static const std::vector<Form> all = [] {
    std::vector<Form> own;
    add_forms<RelevanceRule>(own, static_cast<const RelevanceRule*>(nullptr));
    add_forms<FanoutRule>(own, static_cast<const FanoutRule*>(nullptr));
    own.push_back(
        {"Identity", [](Fields& f) { return Rule(RelevanceRule(f.read(rule::Pass{}))); }});
    own.push_back({"ZPlus", [](Fields& f) { return Rule(z_plus(f)); }});
    return own;
  }();
  return all;
}

template <class... R>
bool is_one_of(std::string_view name, const std::variant<R...>*) {
  return ((name == R::name) || ...);
}

std::string text_of(const JsonObject& object, const char* key, size_t most) {
  const auto text = object.text(key);
  if (!text) reject(object.file(), fmt::format("'{}' is missing", key));
  if (text->empty() || text->size() > most)
    reject(object.file(),
           fmt::format("'{}' has {} bytes, 1 to {} are expected", key, text->size(), most));
  return *text;
}

Rule rule_of(const JsonObject& row) {
  const std::string name = text_of(row, "rule", 200);
  if (is_one_of(name, static_cast<const GradientRule*>(nullptr)))
    reject(row.file(), fmt::format("rule {} is one for gradients, not for relevance", name));
  std::vector<std::string> names;
  for (const Form& form : forms()) {
    names.emplace_back(form.name);
    if (name != form.name) continue;
    Fields fields(row);
    Rule rule = form.read(fields);
    fields.check_all_known(name);
    return rule;
  }
  reject(row.file(), fmt::format("'rule' is '{}', which is none; the nearest are {}",
                                 printable(name), listing(nearest(name, names))));
}

std::vector<std::string> split(const std::string& kinds) {
  std::vector<std::string> all;
  for (size_t at = 0; at <= kinds.size();) {
    const size_t end = std::min(kinds.find('|', at), kinds.size());
    all.push_back(kinds.substr(at, end - at));
    at = end + 1;
  }
  return all;
}

// What a row of a file may be for: rows of relevance rules, and "fanout".
const std::vector<std::string>& known_kinds() {
  static const std::vector<std::string> all = [] {
    std::vector<std::string> kinds = rule_kinds();
    kinds.emplace_back("fanout");
    return kinds;
  }();
  return all;
}

std::string kinds_of(const JsonObject& row) {
  std::string kinds = text_of(row, "kinds", 1000);
  const auto& known = known_kinds();
  for (const std::string& one : split(kinds))
    if (std::find(known.begin(), known.end(), one) == known.end())
      reject(row.file(), fmt::format("'kinds' has '{}', no kind of operator; the nearest are {}",
                                     printable(one), listing(nearest(one, known))));
  return kinds;
}

// A fan-out is no op: its rules are others, and its rows a list of their own.
void add_row(RuleTable& table, const JsonObject& row) {
  std::string kinds = kinds_of(row), glob = row.has("name") ? text_of(row, "name", 200) : "*";
  const Rule rule = rule_of(row);
  const auto* of_fanout = std::get_if<FanoutRule>(&rule);
  for (const std::string& one : split(kinds)) {
    if (of_fanout && one != "fanout" && one != "*")
      reject(row.file(), fmt::format("rule {} is one for a fanout, 'kinds' has '{}'",
                                     to_string(*of_fanout), one));
    if (!of_fanout && one == "fanout")
      reject(row.file(), fmt::format("rule {} is not one for a fanout (Sum or Clone)",
                                     to_string(std::get<RelevanceRule>(rule))));
  }
  if (of_fanout)
    table.fanouts.push_back({std::move(glob), *of_fanout});
  else
    table.rows.push_back({std::move(kinds), std::move(glob), std::get<RelevanceRule>(rule)});
}

// The keys of a table; those of a row depend on its rule.
void check_keys(const JsonObject& table) {
  for (const auto& [key, value] : table.value().items())
    if (key != "name" && key != "merge_norms" && key != "rows")
      reject(table.file(), fmt::format("there is no key '{}'; a table has 'name', 'merge_norms', "
                                       "'rows'",
                                       printable(key)));
}

const Json& rows_of(const JsonObject& table) {
  constexpr size_t most = 1000;
  const Json* rows = table.find("rows");
  if (!rows) reject(table.file(), "'rows' is missing, a list of {\"kinds\", \"rule\"}");
  if (!rows->is_array())
    reject(table.file(), fmt::format("'rows' is {}, a list is expected", json_type(*rows)));
  if (rows->empty() || rows->size() > most)
    reject(table.file(),
           fmt::format("'rows' has {} rows, 1 to {} are expected", rows->size(), most));
  return *rows;
}

RuleTable box_of_pixels(const Model& model) {
  const Preprocess& p = model.preprocess;
  const Shape& input = model.ports[0].item.shape;
  if (input.rank() != 3 || size_t(input[0]) != p.mean.size())
    fail(ErrorCode::unsupported,
         "rules epsilon-gamma-box: '{}' has inputs of {}, bounds are known for images of {} "
         "channels",
         model.name, to_string(input), p.mean.size());
  std::vector<double> low, high;
  for (size_t c = 0; c < p.mean.size(); ++c) {
    low.push_back((0 - p.mean[c]) / p.std[c]);
    high.push_back((1 - p.mean[c]) / p.std[c]);
  }
  return epsilon_gamma_box(std::move(low), std::move(high));
}

struct Named {
  const char* name;
  RuleTable (*make)(const Model&);
};
constexpr Named tables[] = {
    {"epsilon-plus", [](const Model&) { return epsilon_plus(); }},
    {"epsilon-plus-flat", [](const Model&) { return epsilon_plus_flat(); }},
    {"epsilon-alpha2-beta1", [](const Model&) { return epsilon_alpha2_beta1(); }},
    {"epsilon-alpha2-beta1-flat", [](const Model&) { return epsilon_alpha2_beta1_flat(); }},
    {"epsilon-gamma-box", box_of_pixels},
    {"interpretdl", [](const Model&) { return interpretdl_cnn(); }},
    {"captum", [](const Model&) { return captum_default(); }},
    {"attn-lrp", [](const Model&) { return attn_lrp(); }},
    {"cp-lrp", [](const Model&) { return cp_lrp(); }},
    {"chefer-stable", [](const Model&) { return chefer_stable(); }},
    {"chefer-classic", [](const Model&) { return chefer_classic(); }},
};

}  // namespace

RuleTable parse_rule_table(std::string_view text, const std::string& file,
                           const std::string& name) {
  const Json document = parse_json(text, file, {.bytes = most_bytes, .depth = 8});
  const JsonObject table(document, file);
  check_keys(table);
  RuleTable result;
  result.name = printable(table.text("name").value_or(name));
  result.merge_norms = table.flag("merge_norms").value_or(false);
  size_t index = 0;
  for (const Json& value : rows_of(table))
    add_row(result, JsonObject(value, fmt::format("{}: row {}", table.file(), index++)));
  return result;
}

RuleTable read_rule_table(const std::filesystem::path& path) {
  const std::vector<uint8_t> bytes = read_file(path, most_bytes);
  return parse_rule_table({reinterpret_cast<const char*>(bytes.data()), bytes.size()},
                          path_text(path), path.stem().string());
}

const std::vector<std::string>& rule_table_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const Named& table : tables) all.emplace_back(table.name);
    return all;
  }();
  return names;
}

RuleTable rule_table(const std::string& name_or_path, const Model& model) {
  for (const Named& table : tables)
    if (name_or_path == table.name) return table.make(model);
  if (name_or_path.ends_with(".json")) return read_rule_table(name_or_path);
  fail_usage("rules '{}' are neither a table nor a .json file; the nearest are {}",
             printable(name_or_path), listing(nearest(name_or_path, rule_table_names())));
}

}  // namespace whence
