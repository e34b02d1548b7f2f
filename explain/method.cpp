#include "explain/method.h"

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
std::string first_nonfinite(const Model& model, std::span<const real> item) {
  Graph graph;
  model.build(graph, 1);
  Values named;
  for (const auto& [name, v] : graph.names())
    if (graph.node(v).op && v.output == 0) named.push_back(v);
  std::sort(named.begin(), named.end());
  Plan plan(named);
  plan.bind(model.weights);
  const auto row = plan.input(graph.at("image"));
  std::copy(item.begin(), item.end(), row.begin());
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

std::span<const real> item_of(const Tensor& inputs, int64_t item) {
  const size_t n = size_t(inputs.shape().count(1, inputs.shape().rank()));
  return inputs.reals().subspan(size_t(item) * n, n);
}

void Loops::advance(double fraction) const {
  if (settings_.progress && !settings_.progress(fraction)) fail(ErrorCode::cancelled, "cancelled");
}

double Loops::score(std::span<const real> logits, Chosen c) const {
  const auto y = Pass::outputs_of(kind_, logits);
  return y[size_t(c.of)] - (c.against >= 0 ? y[size_t(c.against)] : 0.0);
}

Clean Loops::items(Pass& pass, const Tensor& inputs, const std::vector<Target>& targets,
                   const std::function<void(int64_t, int64_t)>& data,
                   const std::function<void(int64_t, size_t, int64_t)>& seed) const {
  Clean clean;
  const int64_t items = inputs.shape()[0];
  for (int64_t begin = 0; begin < items; begin += pass.rows()) {
    const int64_t count = std::min(pass.rows(), items - begin);
    for (int64_t r = 0; r < pass.rows(); ++r) {  // the last chunk repeats its last item
      const auto from = item_of(inputs, begin + std::min(r, count - 1));
      std::copy(from.begin(), from.end(), pass.image_row(r).begin());
    }
    pass.plan().forward();
    for (int64_t r = 0; r < count; ++r) {
      note(clean, pass, r, inputs, targets);
      if (data) data(begin + r, r);
    }
    for (size_t t = 0; seed && t < targets.size(); ++t) {
      for (int64_t r = 0; r < pass.rows(); ++r) {
        const Chosen c = clean.chosen[size_t(begin + std::min(r, count - 1))][t];
        pass.select(r, c.of, c.against);
      }
      pass.plan().backward();
      for (int64_t r = 0; r < count; ++r) seed(begin + r, t, r);
    }
    if (seed) advance(double(begin + count) / double(items));
  }
  return clean;
}

void Loops::note(Clean& clean, const Pass& pass, int64_t row, const Tensor& inputs,
                 const std::vector<Target>& targets) const {
  const auto item = int64_t(clean.logits.size());
  const auto logits = pass.logits_row(row);
  if (!std::all_of(logits.begin(), logits.end(), [](real x) { return std::isfinite(x); }))
    fail_item(item, fmt::format("item {}: the model's answer is not finite, first in '{}'", item,
                                first_nonfinite(model_, item_of(inputs, item))));
  clean.logits.emplace_back(logits.begin(), logits.end());
  clean.chosen.emplace_back();
  for (const Target& t : targets) clean.chosen.back().push_back(choose(t, logits));
}

Result Loops::result(const Clean& clean, int64_t item, size_t target) const {
  const Chosen c = clean.chosen[size_t(item)][target];
  const auto& logits = clean.logits[size_t(item)];
  Result r;
  r.target = c.of;
  r.against = c.against;
  r.score = real(score(logits, c));
  r.probability = real(Pass::outputs_of(ScoreKind::probability, logits)[size_t(c.of)]);
  return r;
}

std::vector<std::vector<Result>> Loops::results(const Clean& clean,
                                                std::vector<std::vector<Tensor>> maps,
                                                std::string_view method) const {
  std::vector<std::vector<Result>> all(maps.size());
  for (size_t i = 0; i < maps.size(); ++i)
    for (size_t t = 0; t < maps[i].size(); ++t) {
      all[i].push_back(result(clean, int64_t(i), t));
      finish(all[i][t], std::move(maps[i][t]), method, int64_t(i));
    }
  return all;
}

double total(const Tensor& map) {
  const auto values = map.reals();
  return std::accumulate(values.begin(), values.end(), 0.0);
}

std::vector<std::vector<Result>> Loops::results(const Clean& clean, const std::vector<Tensor>& maps,
                                                std::string_view method) const {
  std::vector<std::vector<Tensor>> all(maps.size());
  for (size_t i = 0; i < maps.size(); ++i)
    for (size_t t = 0; t < clean.chosen[i].size(); ++t) all[i].push_back(maps[i].clone());
  return results(clean, std::move(all), method);
}

const Job& in_f32(const Job& job) {
  if (job.settings.precision != Precision::f32)
    fail_usage("{}: relevance is computed in f32, not {}", job.info.id,
               to_string(job.settings.precision));
  return job;
}

int64_t start_layer(const Job& job, int64_t usual, int64_t parts) {
  if (job.options.text("start_layer") == "auto") return std::min(usual, job.model.blocks / parts);
  return job.options.integer("start_layer", 0, job.model.blocks - 1);
}

Tensor patch_map(const Model& model, std::span<const real> token_row) {
  return Tensor::of({model.grid_height, model.grid_width},
                    token_row.subspan(size_t(model.prefix_tokens)));
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

}  // namespace whence
