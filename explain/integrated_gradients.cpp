// Integrated gradients: Sundararajan, Taly and Yan, "Axiomatic attribution for deep networks", ICML
// 2017.
//   E = (x - b) * sum_k w_k grad score(b + alpha_k (x - b)),  averaged over baselines b
// Complete: sum E = score(x) - score(b) up to the quadrature's error, which every result reports as
// its gap. With rule endpoint_mean and a zero baseline the numbers are those of InterpretDL's
// IntGradCV: points are alpha x + (1 - alpha) b with both factors rounded to float, and the mean
// over steps runs in float.
#include <algorithm>

#include "explain/baselines.h"
#include "explain/points.h"
#include "explain/quadrature.h"
#include "runtime/check.h"

namespace whence {
namespace {

class IntegratedGradients final : public Method {
 public:
  explicit IntegratedGradients(const Job& job)
      : model_(job.model),
        rule_(quadrature(job.options.choice("rule", quadrature_rules()),
                         int(job.options.integer("steps", 1, 100000)))),
        baselines_(job.model, job.options.text("baselines"),
                   job.options.integer("num_random_trials", 1, 10000), false),
        multiply_(job.options.flag("multiply_by_inputs")),
        loops_(job, score_kind(job.options)),
        clean_(chunked_pass(job.model, job.settings, ScoreKind::logit, job.items,
                            [](Scored&) { return Values{}; })),
        points_(
            job, score_kind(job.options),
            job.options.text("baselines") == "zero" ? Points::Other::none : Points::Other::given,
            int64_t(rule_.alpha.size()), [](Scored& s) { return s.gradient_by({s.image}); }) {}

  std::vector<const Pass*> passes() const override { return {&clean_, &points_.pass()}; }

  std::vector<std::vector<Result>> run(const Tensor& inputs, const Request& request) override {
    const int64_t items = inputs.shape()[0];
    const size_t n = size_t(model_.input.count());
    const auto clean = loops_.items(clean_, inputs, request.targets, nullptr, nullptr);
    const size_t targets = request.targets.size();
    std::vector<std::vector<Tensor>> sums(static_cast<size_t>(items));
    for (auto& of_item : sums)
      for (size_t t = 0; t < targets; ++t) of_item.emplace_back(Type{model_.input});
    std::vector<std::vector<double>> start_score(size_t(items), std::vector<double>(targets, 0));

    baselines_.check_draws(request, items);
    const int64_t trials = baselines_.count();
    for (int64_t trial = 0; trial < trials; ++trial) {
      const Tensor b = baselines(inputs.shape(), request, trial);
      const auto starts = loops_.items(clean_, b, {Target{}}, nullptr, nullptr);
      for (int64_t i = 0; i < items; ++i)
        for (size_t t = 0; t < targets; ++t)
          start_score[size_t(i)][t] +=
              loops_.score(starts.logits[size_t(i)], clean.chosen[size_t(i)][t]) / double(trials);
      const Tensor integral = points_.run(
          inputs, request, clean, loops_,
          [&](int64_t, int64_t step) {
            const double alpha = rule_.alpha[size_t(step)];
            return Point{real(alpha), real(1 - alpha), real(rule_.weight[size_t(step)])};
          },
          [&](int64_t item, int64_t) {
            return Points::Given{item_of(b, item), item};
          })[0];
      for (int64_t i = 0; i < items; ++i)
        for (size_t t = 0; t < targets; ++t) {
          const auto x = item_of(inputs, i), b0 = item_of(b, i);
          const auto g = integral.reals().subspan((size_t(i) * targets + t) * n, n);
          const auto sum = sums[size_t(i)][t].reals();
          for (size_t j = 0; j < n; ++j)
            sum[j] += (multiply_ ? (x[j] - b0[j]) * g[j] : g[j]) / real(trials);
        }
    }
    return collect(clean, sums, start_score);
  }

 private:
  // The baseline of every item in this trial.
  Tensor baselines(const Shape& shape, const Request& request, int64_t trial) {
    Tensor b(Type{shape});
    const int64_t n = model_.input.count();
    for (int64_t i = 0; i < shape[0]; ++i)
      std::ranges::copy(baselines_.at(request, i, trial), b.reals().begin() + i * n);
    return b;
  }

  std::vector<std::vector<Result>> collect(
      const Clean& clean, std::vector<std::vector<Tensor>>& sums,
      const std::vector<std::vector<double>>& start_score) const {
    std::vector<std::vector<Result>> results(sums.size());
    for (size_t i = 0; i < sums.size(); ++i)
      for (size_t t = 0; t < sums[i].size(); ++t) {
        Result r = loops_.result(clean, int64_t(i), t);
        if (multiply_) {
          r.gap = total(sums[i][t]) -
                  (loops_.score(clean.logits[i], clean.chosen[i][t]) - start_score[i][t]);
        }
        finish(r, std::move(sums[i][t]), "integrated-gradients", int64_t(i));
        results[i].push_back(std::move(r));
      }
    return results;
  }

  const Model& model_;
  Quadrature rule_;
  Baselines baselines_;
  bool multiply_;
  Loops loops_;
  Pass clean_;
  Points points_;
};

}  // namespace

std::unique_ptr<Method> make_integrated_gradients(const Job& job) {
  return std::make_unique<IntegratedGradients>(job);
}

}  // namespace whence
