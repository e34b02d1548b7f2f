#include "explain/engine/pass.h"

#include <algorithm>
#include <cstring>

#include "runtime/check.h"

namespace whence {
namespace {

Values kept(const std::vector<Map>& maps, Value logits) {
  Values all;
  for (const Map& map : maps) all.insert(all.end(), map.values.begin(), map.values.end());
  all.push_back(logits);
  return all;
}

}  // namespace

size_t activation_budget(const Explainer::Settings& settings) {
  return settings.memory ? settings.memory : size_t(1) << 30;
}

void advance(const Machine& machine, double fraction) {
  const auto& progress = machine.settings.progress;
  if (progress && !progress(fraction)) fail(ErrorCode::cancelled, "cancelled");
}

std::span<const real> item_of(const Tensor& batch, int64_t item) {
  const size_t n = size_t(batch.shape().count(1, batch.shape().rank()));
  return batch.reals().subspan(size_t(item) * n, n);
}

const Port& only_port(const Model& model, std::string_view method) {
  if (model.ports.size() != 1 || model.ports[0].name != model.places.entry ||
      model.ports[0].item.dtype != Dtype::floating)
    fail(ErrorCode::unsupported,
         "{}: computes with one input of real numbers, '{}' is explained by '{}'", method,
         model.name, model.places.entry);
  return model.ports[0];
}

bool Map::by_target() const {
  return std::any_of(values.begin(), values.end(),
                     [](Value v) { return v.graph->node(v).stage == Stage::seed; });
}

Pass::Pass(const Machine& machine, int64_t rows, const Wanted& wanted,
           const Scene::EntryOf& entry_of, const Derivatives& expected)
    : runs_(machine.runs),
      scene_(std::make_unique<Scene>(machine.model, rows, entry_of, expected)),
      maps_(wanted(*scene_)),
      plan_(kept(maps_, scene_->logits), {.threads = machine.settings.threads,
                                          .device = machine.settings.device,
                                          .precision = machine.settings.precision,
                                          .carried = scene_->carried}) {}

void Pass::set(const Inputs& inputs, const std::function<int64_t(int64_t)>& item_of) {
  const auto& ports = scene_->model.ports;
  for (size_t p = 0; p < ports.size(); ++p) {
    const Value input = scene_->graph.at(ports[p].name);
    const size_t bytes = ports[p].item.bytes();
    const bool floating = ports[p].item.dtype == Dtype::floating;
    // Integers may have another size than what the plan hands out.
    Tensor integers = floating ? Tensor() : Tensor(input.type());
    char* to = reinterpret_cast<char*>(floating ? static_cast<void*>(plan_.input(input).data())
                                                : integers.data());
    const char* from = static_cast<const char*>(inputs.port(p).data());
    for (int64_t r = 0; r < rows(); ++r)
      std::memcpy(to + size_t(r) * bytes, from + size_t(item_of(r)) * bytes, bytes);
    if (!floating) plan_.set(input, integers);
  }
}

std::span<real> Pass::input_row(std::string_view name, int64_t row) {
  const Value v = scene_->graph.at(name);
  const size_t n = size_t(v.shape().count() / v.shape()[0]);
  return plan_.input(v).subspan(size_t(row) * n, n);
}

void Pass::select(int64_t row, Chosen chosen) {
  const auto weights = input_row("selector", row);
  std::fill(weights.begin(), weights.end(), real(0));
  weights[size_t(chosen.of)] = 1;
  if (chosen.against >= 0) weights[size_t(chosen.against)] -= 1;
}

void Pass::forward() {
  plan_.forward();
  ++runs_->forward;
}

void Pass::backward() {
  plan_.backward();
  ++runs_->backward;
}

std::span<const real> Pass::logits_row(int64_t row) const {
  const size_t k = size_t(scene_->logits.shape()[1]);
  return plan_.view(scene_->logits).subspan(size_t(row) * k, k);
}

Rows Pass::rows_of(size_t map, int64_t row) const {
  Rows all;
  for (Value v : maps_[map].values) {
    const size_t n = size_t(v.shape().count() / v.shape()[0]);
    all.push_back(plan_.view(v).subspan(size_t(row) * n, n));
  }
  return all;
}

Pass chunked_pass(const Machine& machine, Chunks chunks, const Pass::Wanted& wanted,
                  const Scene::EntryOf& entry_of, const Derivatives& expected) {
  // Beyond a few samples a chunk has rows enough to fill the processor; more would only cost
  // memory.
  constexpr int64_t enough = 8;
  const int64_t all = chunks.total, together = chunks.together, beside = chunks.beside;
  const auto pass = [&](int64_t rows) {
    return Pass(machine, rows * together + beside, wanted, entry_of, expected);
  };
  // Counted in rows that stay together from here on.
  const int64_t total = (all + together - 1) / together, chunk = machine.settings.chunk;
  int64_t most = (chunk - beside) / together;
  if (chunk <= 0) {
    const size_t budget = activation_budget(machine.settings), one = pass(1).plan().bytes();
    if (one > budget)
      fail(ErrorCode::no_memory,
           "one item needs {} bytes of activations, the budget is {}: raise it with --mem", one,
           budget);
    most = std::min(int64_t(budget / std::max<size_t>(one, 1)), enough / together);
  }
  most = std::clamp<int64_t>(most, 1, std::max<int64_t>(total, 1));
  int64_t rows = most;
  if (chunk <= 0)  // the chunk that pads the least, the largest of equals
    for (int64_t r = most - 1; r >= 1; --r) {
      const auto padded = [&](int64_t c) { return (total + c - 1) / c * c; };
      if (padded(r) < padded(rows) && 2 * r >= most) rows = r;
    }
  for (;;) {
    try {
      Pass made = pass(rows);
      made.plan().bind(machine.model.weights);
      return made;
    } catch (const Error& error) {
      // A chunk of half the size, while there is one; results do not depend on it.
      if (error.code() != ErrorCode::device_memory || rows == 1) throw;
      rows /= 2;
    }
  }
}

}  // namespace whence
