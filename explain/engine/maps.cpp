#include "explain/engine/maps.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "runtime/check.h"

namespace whence {
namespace {

[[noreturn]] void fail_item(int64_t item, const std::string& what) {
  ErrorFields fields;
  fields.item = std::to_string(item);
  throw Error(ErrorCode::nonfinite, what, std::move(fields));
}

// Names the first named value whose elements are not all finite, by running every one of them
// again.
std::string first_nonfinite(const Model& model, const Inputs& one) {
  Graph graph;
  model.build(graph, 1);
  Values named;
  for (const auto& [name, v] : graph.names())
    if (graph.node(v).op && v.output == 0) named.push_back(v);
  std::sort(named.begin(), named.end());
  Plan plan(named);
  plan.bind(model.weights);
  for (size_t p = 0; p < model.ports.size(); ++p)
    plan.set(graph.at(model.ports[p].name), one.port(p));
  plan.forward();
  for (Value v : named)
    for (real x : plan.view(v))
      if (!std::isfinite(x)) return graph.names_of(v)[0];
  return "logits";
}

Chosen choose(const Target& target, std::span<const real> logits) {
  const auto top = std::max_element(logits.begin(), logits.end());  // the first of equals
  return {target.of < 0 ? int64_t(top - logits.begin()) : target.of, target.against};
}

}  // namespace

std::vector<double> outputs_of(ScoreKind kind, std::span<const real> logits) {
  std::vector<double> y(logits.begin(), logits.end());
  if (kind == ScoreKind::logit) return y;
  if (kind == ScoreKind::own_probability || kind == ScoreKind::own_loss) {
    const auto loss = [](double x) {
      return std::max(-x, 0.0) + std::log1p(std::exp(-std::abs(x)));
    };
    for (double& v : y) v = kind == ScoreKind::own_loss ? loss(v) : 1 / (1 + std::exp(-v));
    return y;
  }
  const double top = *std::max_element(y.begin(), y.end());
  double sum = 0;
  for (double v : y) sum += std::exp(v - top);
  for (double& v : y)
    v = kind == ScoreKind::probability ? std::exp(v - top) / sum : -(v - top - std::log(sum));
  return y;
}

std::vector<double> class_probabilities(std::span<const real> logits, Outputs outputs) {
  if (outputs == Outputs::values) return {};
  return outputs_of(score_kind(ScoreKind::probability, outputs), logits);
}

double score_of(ScoreKind kind, std::span<const real> logits, Chosen chosen) {
  const auto y = outputs_of(kind, logits);
  return y[size_t(chosen.of)] - (chosen.against >= 0 ? y[size_t(chosen.against)] : 0.0);
}

double Clean::score(ScoreKind kind, int64_t item, size_t target) const {
  return score_of(kind, logits[size_t(item)], chosen[size_t(item)][target]);
}

void Clean::note(const Pass& pass, int64_t row, const Inputs& inputs,
                 const std::vector<Target>& targets) {
  const auto item = int64_t(logits.size());
  const auto found = pass.logits_row(row);
  if (!std::all_of(found.begin(), found.end(), [](real x) { return std::isfinite(x); }))
    fail_item(item, fmt::format("item {}: the model's answer is not finite, first in '{}'", item,
                                first_nonfinite(pass.scene().model, inputs.slice(item, item + 1))));
  logits.emplace_back(found.begin(), found.end());
  chosen.emplace_back();
  for (const Target& t : targets) chosen.back().push_back(choose(t, found));
}

Clean run_pass(const Machine& machine, Pass& pass, const Inputs& inputs,
               const std::vector<Target>& targets, const AfterForward& data,
               const AfterBackward& seed) {
  Clean clean{pass.scene().model.outputs, {}, {}};
  const int64_t items = inputs.items();
  for (int64_t begin = 0; begin < items; begin += pass.rows()) {
    const int64_t count = std::min(pass.rows(), items - begin);
    // The last chunk repeats its last item.
    const auto item_at = [&](int64_t row) { return begin + std::min(row, count - 1); };
    pass.set(inputs, item_at);
    pass.forward();
    for (int64_t r = 0; r < count; ++r) {
      clean.note(pass, r, inputs, targets);
      if (data) data(begin + r, r);
    }
    for (size_t t = 0; seed && t < targets.size(); ++t) {
      for (int64_t r = 0; r < pass.rows(); ++r) pass.select(r, clean.chosen[size_t(item_at(r))][t]);
      pass.backward();
      for (int64_t r = 0; r < count; ++r) seed(begin + r, r, clean.chosen[size_t(begin + r)][t]);
    }
    if (seed) advance(machine, double(begin + count) / double(items));
  }
  return clean;
}

Clean run_maps(const Machine& machine, Pass& pass, const Inputs& inputs,
               const std::vector<Target>& targets, std::vector<MapsOf>& to) {
  const std::vector<Map>& maps = pass.maps();
  to.assign(maps.size(), {});
  for (MapsOf& one : to) {
    one.tensors.resize(size_t(inputs.items()));
    one.gaps.resize(size_t(inputs.items()));
  }
  std::vector<bool> by_target;
  for (const Map& map : maps) by_target.push_back(map.by_target());
  const auto take = [&](int64_t item, int64_t row, bool seeded, Chosen chosen) {
    for (size_t m = 0; m < maps.size(); ++m) {
      if (!maps[m].tensor || by_target[m] != seeded) continue;
      const Rows rows = pass.rows_of(m, row);
      auto& tensors = to[m].tensors[size_t(item)];
      tensors.push_back(maps[m].tensor(rows));
      to[m].gaps[size_t(item)].emplace_back();
      if (maps[m].gap)
        to[m].gaps[size_t(item)].back() =
            maps[m].gap(rows, tensors.back(), pass.logits_row(row), chosen);
    }
  };
  const bool any = std::find(by_target.begin(), by_target.end(), true) != by_target.end();
  const auto data = [&](int64_t item, int64_t row) { take(item, row, false, {}); };
  const auto seed = [&](int64_t item, int64_t row, Chosen chosen) {
    take(item, row, true, chosen);
  };
  return run_pass(machine, pass, inputs, targets, data, any ? AfterBackward(seed) : nullptr);
}

Result result_of(const Clean& clean, ScoreKind kind, int64_t item, size_t target) {
  const Chosen c = clean.chosen[size_t(item)][target];
  Result r;
  r.target = c.of;
  r.against = c.against;
  r.score = real(clean.score(kind, item, target));
  if (const auto p = class_probabilities(clean.logits[size_t(item)], clean.outputs); !p.empty())
    r.probability = real(p[size_t(c.of)]);
  return r;
}

void finish(Result& result, Tensor attribution, std::string_view method, int64_t item) {
  const auto values = attribution.reals();
  const auto bad =
      std::count_if(values.begin(), values.end(), [](real x) { return !std::isfinite(x); });
  if (bad > 0)
    fail_item(item, fmt::format("item {}: {} of {} values of its {} attribution are not finite",
                                item, bad, values.size(), method));
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  result.flat = values.empty() || *low == *high;
  result.attribution = std::move(attribution);
}

Results results_of(const Clean& clean, const Options& options, MapsOf maps) {
  Results all(clean.logits.size());
  for (size_t i = 0; i < all.size(); ++i) {
    auto& of = maps.tensors[i];
    const size_t targets = clean.chosen[i].size();
    for (size_t t = 0; t < targets; ++t) {
      all[i].push_back(result_of(clean, options.score(), int64_t(i), t));
      const bool shared = of.size() < targets;
      all[i][t].gap = maps.gaps[i][shared ? 0 : t];
      finish(all[i][t], shared ? of[0].clone() : std::move(of[t]), options.method(), int64_t(i));
    }
  }
  return all;
}

Map map_of(Value v) {
  const Shape item(std::span(v.shape().begin() + 1, v.shape().end()));
  return {{v}, [item](const Rows& rows) { return Tensor::of(item, rows[0]); }};
}

Map token_map(const Scene& s, Value r) {
  const Tower& tower = s.tower();
  const Shape grid{tower.rows, tower.columns};
  return {{r}, [grid, prefix = size_t(tower.prefix_tokens)](const Rows& rows) {
            return Tensor::of(grid, rows[0].subspan(prefix));
          }};
}

Map and_then(Map map, std::function<Tensor(Tensor)> then) {
  map.tensor = [first = std::move(map.tensor), then = std::move(then)](const Rows& rows) {
    return then(first(rows));
  };
  return map;
}

double total(const Tensor& map) {
  const auto values = map.reals();
  return std::accumulate(values.begin(), values.end(), 0.0);
}

}  // namespace whence
