#include "explain/engine/scene.h"

#include <algorithm>

#include "runtime/check.h"

namespace whence {

Scene::Scene(const Model& m, int64_t rows, const EntryOf& entry_of, Derivatives expected)
    : model(m), expected_(std::move(expected)) {
  if (entry_of) graph.name(entry_of(graph, rows), m.places.entry);
  logits = m.build(graph, rows);
  entry = graph.at(m.places.entry);
  selector = graph.input("selector", logits.type(), Stage::seed);
}

// f of each logit x beside a 0: a softmax of the two has the sigmoid of x.
static Value by_itself(Value logits, Value (*f)(Value)) {
  const Shape of_logits = logits.shape(), single{of_logits[0], of_logits[1], 1};
  const Value x = reshape(logits, single);
  return reshape(slice(f(concat({x, scale(x, 0)}, 2)), 2, 0, 1), of_logits);
}

Value Scene::outputs(ScoreKind kind) {
  Value& v = outputs_[kind];
  if (v) return v;
  switch (kind) {
    case ScoreKind::logit:
      return v = logits;
    case ScoreKind::probability:
      return v = softmax(logits);
    case ScoreKind::loss:
      return v = scale(log_softmax(logits), -1);
    case ScoreKind::own_probability:
      return v = by_itself(logits, softmax);
    case ScoreKind::own_loss:
      return v = scale(by_itself(logits, log_softmax), -1);
  }
  return v;
}

Values Scene::gradient(ScoreKind kind, const Values& wrt) {
  auto& known = gradients_[kind];
  Values missing;
  for (Value w : wrt) {
    asked_[kind].emplace(w.node, w.output);
    if (!known.contains(w)) missing.push_back(w);
  }
  if (!missing.empty()) {
    for (const auto& [node, output] : std::exchange(expected_[kind], {}))
      if (const Value w{&graph, node, output}; std::ranges::find(missing, w) == missing.end())
        missing.push_back(w);
    const Values found = whence::gradient(outputs(kind), selector, missing);
    for (size_t i = 0; i < missing.size(); ++i) known.emplace(missing[i], found[i]);
  }
  Values all;
  for (Value w : wrt) all.push_back(known.at(w));
  return all;
}

int Scene::channel_axis() const {
  for (const Port& port : model.ports)
    if (port.name == model.places.entry && port.role == Port::Role::picture) return 1;
  return entry.shape().rank() - 1;
}

Value Scene::place(int64_t block, std::string_view part) const {
  return graph.at(tower().place(block, part));
}

Attention Scene::attention(int64_t block) const {
  return {place(block, "attn.context"), place(block, "attn.probs"),
          place(block, "attn.probs_mean")};
}

std::vector<int64_t> Scene::readout_tokens(std::string_view method) const {
  if (tower().readout.empty())
    fail(ErrorCode::unsupported,
         "{}: the head of '{}' reads the mean of the patches, {} needs a class token", method,
         model.name, method);
  return tower().readout;
}

Value Scene::readout() {
  const int64_t s = tokens(), prefix = tower().prefix_tokens;
  if (!tower().readout.empty())
    return mean_over(tower().readout,
                     [&](int64_t token) { return unit_row(graph, rows(), s, token); });
  const int64_t patches = s - prefix;
  const Value ones =
      affine(scale(unit_row(graph, rows(), patches, 0), 0), 1, real(1) / real(patches));
  return prefix ? pad(ones, 1, prefix, s) : ones;
}

Value Scene::readout_of_probs(int64_t block) {
  const Attention a = attention(block);
  if (tower().readout.empty()) return einsum(readout(), a.probs_mean, "bi,bij->bj");
  return mean_over(tower().readout,
                   [&](int64_t token) { return mean(attention_row(a, token), {1}); });
}

}  // namespace whence
