// Pass: a plan over a scene for a number of rows, and the maps that it computes.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "explain/engine/scene.h"
#include "whence/plan.h"

namespace whence {

// A model and how its plans are run.
struct Machine {
  const Model& model;
  Explainer::Settings settings;
  std::shared_ptr<Explainer::Runs> runs;  // what they count
};
// Bytes of activations that a plan may take.
size_t activation_budget(const Explainer::Settings& settings);
// Reports progress; throws cancelled when told to stop.
void advance(const Machine& machine, double fraction);

struct Chosen {
  int64_t of, against;  // -1: no contrast
};
// One row of each value of a map.
using Rows = std::vector<std::span<const real>>;

// What a formula makes of a scene: values to compute, and what a row of them is. It is one for each
// target if one of them belongs to the seed stage.
struct Map {
  Values values;
  std::function<Tensor(const Rows&)> tensor;  // the attribution; empty: the caller reads the rows
  // Of methods that keep account: Result::gap.
  std::function<double(const Rows&, const Tensor&, std::span<const real> logits, Chosen)> gap =
      nullptr;
  bool by_target() const;
};

class Pass {
 public:
  using Wanted = std::function<std::vector<Map>(Scene&)>;
  Pass(const Machine& machine, int64_t rows, const Wanted& wanted,
       const Scene::EntryOf& entry_of = nullptr, const Derivatives& expected = {});

  int64_t rows() const { return scene_->rows(); }
  const Scene& scene() const { return *scene_; }
  const std::vector<Map>& maps() const { return maps_; }
  Plan& plan() { return plan_; }
  const Plan& plan() const { return plan_; }

  // Every port's tensor: item item_of(row) in each row.
  void set(const Inputs& inputs, const std::function<int64_t(int64_t)>& item_of);
  // A row of an input, to be filled before the next run.
  std::span<real> input_row(std::string_view name, int64_t row);
  void select(int64_t row, Chosen chosen);
  void forward();
  void backward();
  std::span<const real> logits_row(int64_t row) const;
  Rows rows_of(size_t map, int64_t row) const;

 private:
  std::shared_ptr<Explainer::Runs> runs_;
  std::unique_ptr<Scene> scene_;
  std::vector<Map> maps_;
  Plan plan_;
};

// A pass for `total` rows in chunks: as many rows at once as the settings allow, and no more than
// needed. A pass has `beside` rows and a multiple of `together`; `total` counts the latter.
struct Chunks {
  int64_t total, together = 1, beside = 0;
};
Pass chunked_pass(const Machine& machine, Chunks chunks, const Pass::Wanted& wanted,
                  const Scene::EntryOf& entry_of = nullptr, const Derivatives& expected = {});

// Item `item` of a batch.
std::span<const real> item_of(const Tensor& batch, int64_t item);
// The port that is also what attributions are of; throws unsupported, for the method's sake, where
// there is none or others beside it.
const Port& only_port(const Model& model, std::string_view method);

}  // namespace whence
