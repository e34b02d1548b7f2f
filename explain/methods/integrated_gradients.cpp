// Integrated gradients: Sundararajan, Taly and Yan, "Axiomatic attribution for deep networks", ICML
// 2017.
//   E = (x - b) * sum_k w_k grad score(b + alpha_k (x - b)),  averaged over baselines b
// Complete: sum E = score(x) - score(b) up to the quadrature's error, which every result reports as
// its gap. With rule endpoint_mean and a zero baseline the numbers are those of InterpretDL's
// IntGradCV: points are alpha x + (1 - alpha) b with both factors rounded to float, and the mean
// over steps runs in float.
#include <algorithm>

#include "explain/engine/points.h"
#include "explain/methods/baselines.h"
#include "explain/methods/quadrature.h"

namespace whence::catalogue {
namespace {

class IntegratedGradients final : public Worker {
 public:
  explicit IntegratedGradients(const Setup& setup)
      : setup_(setup),
        rule_(quadrature(options().text("rule"), int(options().whole("steps")))),
        baselines_(setup, options().whole("num_random_trials"), false),
        points_(setup,
                options().is("baselines", "zero") ? Points::Other::none : Points::Other::given,
                int64_t(rule_.alpha.size()),
                [kind = options().score()](Scene& s) { return s.gradient(kind, {s.entry}); }) {}

  std::vector<const Pass*> passes() const override { return {&points_.pass()}; }

  Results run(Batch batch) override {
    const Tensor& inputs = batch.inputs.port(0);
    const auto items = size_t(batch.inputs.items()), targets = batch.request.targets.size();
    const bool multiply = options().flag("multiply_by_inputs");
    const int64_t trials = baselines_.count();
    const size_t n = item_of(inputs, 0).size();
    baselines_.check_draws(batch.request, batch.inputs.items());
    Tensor sums(Type{inputs.shape().with(0, int64_t(items * targets))});
    std::vector<double> starts(items * targets, 0);  // mean score of the baselines
    for (int64_t trial = 0; trial < trials; ++trial) {
      const Tensor b = baselines(batch, trial);
      add_scores(starts, batch, b);
      const Tensor integral = points_.run(
          batch,
          [&](int64_t, int64_t step) {
            const double alpha = rule_.alpha[size_t(step)];
            return Point{real(alpha), real(1 - alpha), real(rule_.weight[size_t(step)])};
          },
          [&](int64_t item, int64_t) {
            return Points::Given{item_of(b, item), item};
          })[0];
      for (size_t k = 0; k < items * targets; ++k) {
        const auto x = item_of(inputs, int64_t(k / targets)), b0 = item_of(b, int64_t(k / targets));
        const auto g = item_of(integral, int64_t(k));
        real* sum = sums.reals().data() + k * n;
        for (size_t j = 0; j < n; ++j)
          sum[j] += (multiply ? (x[j] - b0[j]) * g[j] : g[j]) / real(trials);
      }
    }
    return collect(batch, sums, starts);
  }

 private:
  const Options& options() const { return setup_.options; }

  // The baseline of every item in this trial.
  Tensor baselines(const Batch& batch, int64_t trial) {
    Tensor b(batch.inputs.port(0).type());
    for (int64_t i = 0; i < batch.inputs.items(); ++i) {
      const auto one = baselines_.at(batch.request, i, trial);
      std::ranges::copy(one, b.reals().begin() + i * int64_t(one.size()));
    }
    return b;
  }

  // One forward pass, where all items have one baseline.
  void add_scores(std::vector<double>& starts, const Batch& batch, const Tensor& baselines) const {
    const bool same = baselines_.same_for_all_items();
    const Clean clean =
        run_pass(setup_.machine, *batch.pass, same ? baselines.slice(0, 1) : baselines, {Target{}});
    const size_t targets = batch.request.targets.size();
    for (size_t k = 0; k < starts.size(); ++k) {
      const size_t item = k / targets;
      starts[k] += score_of(options().score(), clean.logits[same ? 0 : item],
                            batch.clean.chosen[item][k % targets]) /
                   double(baselines_.count());
    }
  }

  Results collect(const Batch& batch, const Tensor& sums, const std::vector<double>& starts) const {
    const size_t targets = batch.request.targets.size();
    MapsOf maps;
    maps.tensors.resize(batch.clean.logits.size());
    maps.gaps.resize(maps.tensors.size());
    const Shape& s = sums.shape();
    const Shape one(std::span(s.begin() + 1, s.end()));
    for (size_t k = 0; k < starts.size(); ++k) {
      const size_t i = k / targets, t = k % targets;
      maps.tensors[i].push_back(Tensor::of(one, item_of(sums, int64_t(k))));
      maps.gaps[i].emplace_back();
      if (options().flag("multiply_by_inputs"))
        maps.gaps[i][t] = total(maps.tensors[i][t]) -
                          (batch.clean.score(options().score(), int64_t(i), t) - starts[k]);
    }
    return results_of(batch.clean, options(), std::move(maps));
  }

  Setup setup_;
  Quadrature rule_;
  Baselines baselines_;
  Points points_;
};

}  // namespace

Method integrated_gradients() {
  OptionInfo baselines = text("baselines", "zero", "zero, random, or a .npy file of one input");
  baselines.draws = "random";
  return {.info = {"integrated-gradients",
                   "gradient integrated along a line from a baseline to the input, times their "
                   "difference",
                   "Sundararajan et al. 2017, arXiv 1703.01365",
                   "any",
                   {whole("steps", 50, 1, 100000, "points on the line"),
                    one_of("rule", "endpoint_mean", quadrature_rules(),
                           "quadrature: endpoint_mean (InterpretDL), gausslegendre (Captum), "
                           "riemann_left, riemann_right, riemann_middle, riemann_trapezoid, "
                           "trapezoid, midpoint, gauss"),
                    std::move(baselines),
                    whole("num_random_trials", 10, 1, 10000, "random baselines to average over"),
                    flag("multiply_by_inputs", true, "false: the mean gradient alone"),
                    gradient_of("probability")}},
          .prepare = [](const Setup& setup) -> std::unique_ptr<Worker> {
            return std::make_unique<IntegratedGradients>(setup);
          }};
}

}  // namespace whence::catalogue
