// deeplift       Shrikumar, Greenside and Kundaje 2017, "Learning important features through
//                propagating activation differences" (arXiv 1704.02685), Rescale rule
// deeplift-shap  Lundberg and Lee 2017, "A unified approach to interpreting model predictions"
//                (arXiv 1705.07874): the mean over baselines
//   E = (x - b) * m,  m the gradient with the slopes of rule::Rescale between x and a baseline b
// A function of one value, and the probability of a class as a function of its logit, has the slope
// between its values at x and at b; a max-pool hands the rise of its maximum to where the maxima
// are. Networks of these and of linear functions are complete: sum E = score(x) - score(b). Others,
// such as layer norms and attention, have their gradient at x (as in Captum), and the gap that
// results report is what they left out. Unlike Captum: softmax multipliers are not centred, windows
// of a max-pool that overlap add up, and every activation takes part, GELU too.
#include <algorithm>

#include "explain/baselines.h"
#include "runtime/check.h"
#include "whence/rules.h"

namespace whence {
namespace {

// [n + b, C, H, W]: inputs, then their baselines, b = n or one for all.
Value make_pairs(Graph& g, const Shape& item, int64_t rows, bool one_baseline) {
  const int64_t baselines = one_baseline ? 1 : rows / 2;
  const auto images = [&](const char* name, int64_t n) {
    return g.input(name, Type{{n, item[0], item[1], item[2]}});
  };
  return concat({images("pair.input", rows - baselines), images("pair.baseline", baselines)}, 0);
}

// The multipliers of the logits of n inputs when those of the probabilities are `selector`.
Value softmax_multipliers(Scored& s, int64_t n, double epsilon) {
  const auto inputs = [&](Value v) { return slice(v, 0, 0, n); };
  const auto rise = [&](Value v) { return sub(inputs(v), slice(v, 0, n, s.rows())); };
  const Value d = rise(s.logits);
  const Value ones = constant(s.graph, d.shape(), {1});
  const Value near = where_positive(affine(abs(d), -1, real(epsilon)), ones);  // 1 or 0
  const Value ratio = mul(div(rise(s.outputs), add(d, near)), sub(ones, near));
  const Value slope = mul(near, inputs(s.gradient_by({s.logits})[0]));
  return add(mul(inputs(s.selector), ratio), slope);
}

// Of deeplift one baseline, which is the same for all.
const std::string& source_of(const Job& job) {
  const std::string& source = job.options.text("baselines");
  if (job.info.id == "deeplift" && source == "random")
    fail_usage("option baselines of method deeplift is 'random', zero or a .npy file is needed");
  return source;
}

class DeepLift final : public Method {
 public:
  explicit DeepLift(const Job& job)
      : model_(job.model),
        id_(job.info.id),
        kind_(job.options.choice("gradient_of", {"logit", "probability"}) == "logit"
                  ? ScoreKind::logit
                  : ScoreKind::probability),
        multiply_(job.options.flag("multiply_by_inputs")),
        baselines_(job.model, source_of(job),
                   id_ == "deeplift-shap" ? job.options.integer("num_random_trials", 2, 10000) : 1,
                   id_ == "deeplift-shap"),
        loops_(job, kind_),
        pass_(chunked_pass(
            job.model, job.settings, kind_,
            (one_baseline() ? 1 : 2) * job.items * baselines_.count(),
            [&](Scored& s) { return wanted(s); },
            [&](Graph& g, int64_t rows) {
              return make_pairs(g, model_.input, rows, one_baseline());
            },
            one_baseline() ? 1 : 2, one_baseline() ? 1 : 0)) {}

  std::vector<const Pass*> passes() const override { return {&pass_}; }

  std::vector<std::vector<Result>> run(const Tensor& inputs, const Request& request) override {
    const int64_t items = inputs.shape()[0], pairs = items * baselines_.count();
    const size_t targets = request.targets.size();
    baselines_.check_draws(request, items);
    Work work{inputs, request, {}, {}, {}, std::vector<int64_t>(size_t(held_rows()), -1)};
    work.sums.resize(size_t(items));
    for (auto& of_item : work.sums)
      for (size_t t = 0; t < targets; ++t) of_item.emplace_back(Type{model_.input});
    work.starts.resize(size_t(items), std::vector<double>(targets, 0));
    for (int64_t begin = 0; begin < pairs; begin += held_rows()) {
      const int64_t end = std::min(begin + held_rows(), pairs);
      run_chunk(work, begin, end);
      loops_.advance(double(end) / double(pairs));
    }
    return collect(work);
  }

 private:
  struct Work {
    const Tensor& inputs;
    const Request& request;
    Clean clean;
    std::vector<std::vector<Tensor>> sums;    // [item][target], over baselines in ascending order
    std::vector<std::vector<double>> starts;  // [item][target]: mean score of the baselines
    std::vector<int64_t> held;                // the item that each pair of the pass holds
  };

  bool one_baseline() const { return baselines_.count() == 1; }
  int64_t inputs_in(int64_t rows) const { return one_baseline() ? rows - 1 : rows / 2; }
  int64_t held_rows() const { return inputs_in(pass_.rows()); }

  Values wanted(Scored& s) const {
    const rule::Rescale rescale;
    const bool logit = kind_ == ScoreKind::logit;
    const int64_t n = inputs_in(s.rows());
    const Value seed =
        logit ? slice(s.selector, 0, 0, n) : softmax_multipliers(s, n, rescale.epsilon);
    const Value m = gradient(s.logits, seed, {s.image}, {{"activation|max_pool", "*", rescale}})[0];
    if (!multiply_) return {m};
    return {mul(m, sub(s.graph.at("pair.input"), s.graph.at("pair.baseline")))};
  }

  std::span<real> row_of(const char* name, int64_t r) {
    const size_t n = size_t(model_.input.count());
    return pass_.plan().input(pass_.scored().graph.at(name)).subspan(size_t(r) * n, n);
  }

  // Pairs [begin, end), item by item; the last one is repeated in what is left of the pass.
  void run_chunk(Work& work, int64_t begin, int64_t end) {
    const int64_t trials = baselines_.count(), n = held_rows();
    const auto item_at = [&](int64_t r) { return std::min(begin + r, end - 1) / trials; };
    for (int64_t r = 0; r < n; ++r) {
      const int64_t item = item_at(r), trial = std::min(begin + r, end - 1) % trials;
      if (std::exchange(work.held[size_t(r)], item) != item)
        std::ranges::copy(item_of(work.inputs, item), row_of("pair.input", r).begin());
      if (trials > 1 || (begin == 0 && r == 0))
        std::ranges::copy(baselines_.at(work.request, item, trial),
                          row_of("pair.baseline", r).begin());
    }
    pass_.plan().forward();
    const auto& targets = work.request.targets;
    for (int64_t r = 0; r < end - begin; ++r) {
      const auto item = size_t(item_at(r));
      if ((begin + r) % trials == 0) loops_.note(work.clean, pass_, r, work.inputs, targets);
      for (size_t t = 0; t < targets.size(); ++t)
        work.starts[item][t] += loops_.score(pass_.logits_row(n + (one_baseline() ? 0 : r)),
                                             work.clean.chosen[item][t]) /
                                double(trials);
    }
    for (size_t t = 0; t < targets.size(); ++t) {
      std::ranges::fill(pass_.plan().input(pass_.scored().selector), real(0));
      for (int64_t r = 0; r < n; ++r) {
        const Chosen c = work.clean.chosen[size_t(item_at(r))][t];
        pass_.select(r, c.of, c.against);
      }
      pass_.plan().backward();
      const size_t values = size_t(model_.input.count());
      for (int64_t r = 0; r < end - begin; ++r) {
        const auto e = pass_.wanted(0).subspan(size_t(r) * values, values);
        const auto sum = work.sums[size_t(item_at(r))][t].reals();
        for (size_t j = 0; j < values; ++j) sum[j] += e[j] / real(trials);
      }
    }
  }

  std::vector<std::vector<Result>> collect(Work& work) const {
    std::vector<std::vector<Result>> results(work.sums.size());
    for (size_t i = 0; i < results.size(); ++i)
      for (size_t t = 0; t < work.sums[i].size(); ++t) {
        Result r = loops_.result(work.clean, int64_t(i), t);
        if (multiply_) {
          const double end = loops_.score(work.clean.logits[i], work.clean.chosen[i][t]);
          r.gap = total(work.sums[i][t]) - (end - work.starts[i][t]);
        }
        finish(r, std::move(work.sums[i][t]), id_, int64_t(i));
        results[i].push_back(std::move(r));
      }
    return results;
  }

  const Model& model_;
  std::string id_;
  ScoreKind kind_;
  bool multiply_;
  Baselines baselines_;
  Loops loops_;
  Pass pass_;
};

}  // namespace

std::unique_ptr<Method> make_deeplift(const Job& job) { return std::make_unique<DeepLift>(job); }

}  // namespace whence
