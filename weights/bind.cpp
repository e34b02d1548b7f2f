#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "runtime/check.h"
#include "runtime/text.h"
#include "weights/name_map.h"

namespace whence {
namespace {

// "1 tensor is", "3 tensors are"
std::string counted(size_t n, std::string_view one, std::string_view more) {
  return fmt::format("{} {}", n, n == 1 ? one : more);
}

struct Binding {
  const NameRule* rule;
  std::string canonical;
  Shape shape;  // canonical
};
using Bindings = std::map<const CheckpointTensor*, std::vector<Binding>>;

class Binder {
 public:
  Binder(const Checkpoint& checkpoint, const std::map<std::string, Shape>& required,
         const NameMap& map, const BindOptions& options, Account& account)
      : checkpoint_(checkpoint),
        required_(required),
        map_(map),
        options_(options),
        account_(account) {}

  Weights run() {
    assign();
    complete();
    report();
    Weights weights;
    for (const auto& [tensor, bindings] : bindings_) read(*tensor, bindings, weights);
    for (const auto& [name, tensor] : weights.tensors)
      account_.parameters += tensor.shape().count();
    std::sort(account_.bound.begin(), account_.bound.end(),
              [](const auto& a, const auto& b) { return a.canonical < b.canonical; });
    weights.digest = weights_digest(weights.tensors);
    return weights;
  }

 private:
  // Every tensor of the checkpoint: bound, skipped, or unexpected.
  void assign() {
    for (const CheckpointTensor& t : checkpoint_.tensors()) {
      const NameRule* first = nullptr;
      bool wanted = false;
      for (const NameRule& rule : map_.rules) {
        if (first && rule.pattern != first->pattern) continue;
        const auto captured = match_pattern(rule.pattern, t.name);
        if (!captured) continue;
        first = &rule;
        if (rule.canonical.empty()) break;
        wanted = add(t, rule, fill_pattern(rule.canonical, *captured)) || wanted;
      }
      if (wanted) continue;
      if (first && first->canonical.empty())
        skip(t, first->skip);
      else if (first || inside(t.name))
        unexpected_.push_back(&t);
      else
        skip(t, "outside the layers of this architecture");
    }
  }

  bool add(const CheckpointTensor& t, const NameRule& rule, const std::string& canonical) {
    const auto need = required_.find(canonical);
    if (need == required_.end()) return false;
    const auto [owner, fresh] = owner_.emplace(canonical, &t);
    if (!fresh) {
      problems_.push_back(fmt::format("tensors '{}' and '{}' mean the same weight",
                                      printable(owner->second->stored), printable(t.stored)));
      return true;
    }
    bindings_[&t].push_back({&rule, canonical, need->second});
    return true;
  }

  bool inside(std::string_view name) const {
    return std::any_of(map_.layers.begin(), map_.layers.end(),
                       [&](const std::string& layer) { return name.starts_with(layer); });
  }

  void skip(const CheckpointTensor& t, const std::string& reason) {
    account_.skipped.push_back({t.stored, reason});
  }

  // Every required tensor: bound, or missing.
  void complete() {
    for (const auto& [name, shape] : required_)
      if (!owner_.contains(name)) missing(name, shape);
    for (const auto& [tensor, bindings] : bindings_) check(*tensor, bindings[0]);
  }

  void missing(const std::string& name, const Shape& shape) {
    const RuleFor from = rule_for(map_, name, nullptr);
    const std::string stored = from.rule ? from.stored : name;
    if (!missing_seen_.insert(stored).second) return;  // one fused tensor, several parts
    const Shape shown = from.rule ? stored_shape(*from.rule, shape) : shape;
    missing_.push_back(stored);
    missing_shapes_.push_back(to_string(shown));
  }

  void check(const CheckpointTensor& t, const Binding& b) {
    const Shape want = stored_shape(*b.rule, b.shape);
    if (!std::equal(want.begin(), want.end(), t.shape.begin(), t.shape.end()))
      misshapen_.push_back(fmt::format("'{}' is {} in the checkpoint, {} in {}",
                                       printable(t.stored), shape_text(t.shape), to_string(want),
                                       map_.source));
    else if (!is_weight_dtype(t.dtype))
      problems_.push_back(fmt::format("'{}' has dtype '{}' (weights may be F64, F32, F16, BF16)",
                                      printable(t.stored), name_of(t.dtype)));
  }

  static std::string first_ten(const std::vector<std::string>& items) {
    std::string text;
    for (size_t i = 0; i < items.size() && i < 10; ++i) text += (i ? ", " : "") + items[i];
    if (items.size() > 10) text += fmt::format(" and {} more", items.size() - 10);
    return text;
  }

  // The stored name most like the first missing one, among those that nothing claimed.
  std::string nearest_unused() const {
    constexpr size_t most_candidates = 1000;
    std::vector<std::string> unused;
    for (const CheckpointTensor& t : checkpoint_.tensors())
      if (!bindings_.contains(&t) && unused.size() < most_candidates) unused.push_back(t.stored);
    const std::vector<std::string> best = nearest(missing_.front(), unused, 1);
    return best.empty() ? "" : best.front();
  }

  void report() {
    std::vector<std::string> parts;
    if (!missing_.empty()) {
      std::vector<std::string> shown;
      for (size_t i = 0; i < missing_.size(); ++i)
        shown.push_back(fmt::format("'{}' {}", missing_[i], missing_shapes_[i]));
      std::string text = fmt::format(
          "{} missing: {}", counted(shown.size(), "tensor is", "tensors are"), first_ten(shown));
      if (const std::string near = nearest_unused(); !near.empty())
        text += fmt::format("; nearest name in the file: '{}'", printable(near));
      parts.push_back(text);
    }
    if (!misshapen_.empty()) parts.push_back(first_ten(misshapen_));
    if (!problems_.empty()) parts.push_back(first_ten(problems_));
    const bool refuse = !unexpected_.empty() && !options_.allow_unexpected;
    std::vector<std::string> names;
    for (const CheckpointTensor* t : unexpected_) names.push_back(t->stored);
    if (refuse)
      parts.push_back(
          fmt::format("{} inside layers that this architecture knows but not with these "
                      "tensors: {}; this is another architecture",
                      counted(names.size(), "tensor lies", "tensors lie"), listing(names)));
    if (!parts.empty()) {
      const bool shapes_only = !misshapen_.empty() && parts.size() == 1;
      fail(shapes_only ? ErrorCode::shape : ErrorCode::keys, "{}: {}", checkpoint_.name(),
           fmt::join(parts, "; "));
    }
    for (const CheckpointTensor* t : unexpected_)
      skip(*t, "inside a layer of this architecture, left unused on request");
    std::sort(account_.skipped.begin(), account_.skipped.end(),
              [](const auto& a, const auto& b) { return a.stored < b.stored; });
  }

  void read(const CheckpointTensor& t, const std::vector<Binding>& bindings, Weights& weights) {
    Narrowing lost;
    const Tensor values = checkpoint_.read(t, &lost);
    if (!options_.allow_nonfinite) refuse_nonfinite(t, values);
    if (lost.flushed > 0)
      account_.notes.push_back(fmt::format("'{}': {} values are too small for F32 and became zero",
                                           printable(t.stored), lost.flushed));
    for (const Binding& b : bindings) {
      const Shape& shape = b.shape;
      Tensor part = values;
      if (b.rule->parts > 1)  // an own copy, aligned as every tensor is
        part = values.slice(b.rule->part * shape[0], (b.rule->part + 1) * shape[0]).clone();
      weights.tensors[b.canonical] = part.reshaped(shape);
      account_.bound.push_back({b.canonical, t.stored, t.dtype, t.shape});
    }
  }

  void refuse_nonfinite(const CheckpointTensor& t, const Tensor& tensor) const {
    const std::span<const real> values = tensor.reals();
    // x - x is 0 for finite x and NaN otherwise: one sum tells, and it vectorises.
    real sum = 0;
    for (real v : values) sum += v - v;
    if (sum == 0) return;
    int64_t nans = 0, infinities = 0, first = -1;
    for (size_t i = 0; i < values.size(); ++i) {
      if (std::isfinite(values[i])) continue;
      ++(std::isnan(values[i]) ? nans : infinities);
      if (first < 0) first = int64_t(i);
    }
    std::vector<int64_t> index(t.shape.size());
    for (size_t axis = t.shape.size(); axis-- > 0; first /= t.shape[axis])
      index[axis] = first % t.shape[axis];
    fail(ErrorCode::format, "{}: '{}' has {} NaN and {} infinite values, first at {}",
         checkpoint_.name(), printable(t.stored), nans, infinities, shape_text(index));
  }

  const Checkpoint& checkpoint_;
  const std::map<std::string, Shape>& required_;
  const NameMap& map_;
  const BindOptions& options_;
  Account& account_;
  Bindings bindings_;
  std::map<std::string, const CheckpointTensor*> owner_;
  std::vector<const CheckpointTensor*> unexpected_;
  std::set<std::string> missing_seen_;
  std::vector<std::string> missing_, missing_shapes_, misshapen_, problems_;
};

}  // namespace

Weights bind_weights(const Checkpoint& checkpoint, const std::map<std::string, Shape>& required,
                     const NameMap& map, const BindOptions& options, Account& account) {
  account.checkpoint = checkpoint.name();
  for (const std::string& note : checkpoint.notes()) account.notes.push_back(note);
  return Binder(checkpoint, required, map, options, account).run();
}

}  // namespace whence
