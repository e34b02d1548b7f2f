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

#include "explain/methods/baselines.h"
#include "runtime/check.h"
#include "whence/rules.h"

namespace whence::catalogue {
namespace {

// [n + b, ...]: inputs, then their baselines, b = n or one for all.
Value make_pairs(Graph& g, const Shape& item, int64_t rows, bool one_baseline) {
  const int64_t baselines = one_baseline ? 1 : rows / 2;
  const auto images = [&](const char* name, int64_t n) {
    std::vector<int64_t> sizes{n};
    sizes.insert(sizes.end(), item.begin(), item.end());
    return g.input(name, Type{Shape(sizes)});
  };
  return concat({images("pair.input", rows - baselines), images("pair.baseline", baselines)}, 0);
}

// The multipliers of the logits of n inputs when those of the probabilities are `selector`.
Value multipliers_of_logits(Scene& s, ScoreKind probability, int64_t n, double epsilon) {
  const auto inputs = [&](Value v) { return slice(v, 0, 0, n); };
  const auto rise = [&](Value v) { return sub(inputs(v), slice(v, 0, n, s.rows())); };
  const Value d = rise(s.logits);
  const Value ones = constant(s.graph, d.shape(), {1});
  const Value near = where_positive(affine(abs(d), -1, real(epsilon)), ones);  // 1 or 0
  const Value ratio = mul(div(rise(s.outputs(probability)), add(d, near)), sub(ones, near));
  const Value slope = mul(near, inputs(s.gradient(probability, {s.logits})[0]));
  return add(mul(inputs(s.selector), ratio), slope);
}

class DeepLift final : public Worker {
 public:
  // Against one baseline, which is the same for all items, or the mean over `trials` of them.
  DeepLift(const Setup& setup, int64_t trials, bool several)
      : setup_(setup),
        kind_(setup.options.score()),
        multiply_(setup.options.flag("multiply_by_inputs")),
        baselines_(setup, trials, several),
        shape_(only_port(setup.model(), setup.options.method()).item.shape),
        pass_(chunked_pass(
            setup.machine, chunks(),
            [&](Scene& s) {
              return std::vector<Map>{{wanted(s), nullptr}};
            },
            [&](Graph& g, int64_t rows) { return make_pairs(g, shape_, rows, one_baseline()); })) {}

  std::vector<const Pass*> passes() const override { return {&pass_}; }

  Results run(Batch batch) override {
    const int64_t items = batch.inputs.items(), pairs = items * baselines_.count();
    const size_t targets = batch.request.targets.size();
    baselines_.check_draws(batch.request, items);
    Work work{
        batch.inputs, batch.request, {}, {}, {}, std::vector<int64_t>(size_t(held_rows()), -1)};
    work.clean.outputs = setup_.model().outputs;
    work.sums.resize(size_t(items));
    for (auto& of_item : work.sums)
      for (size_t t = 0; t < targets; ++t) of_item.emplace_back(Type{shape_});
    work.starts.resize(size_t(items), std::vector<double>(targets, 0));
    for (int64_t begin = 0; begin < pairs; begin += held_rows()) {
      const int64_t end = std::min(begin + held_rows(), pairs);
      run_chunk(work, begin, end);
      advance(setup_.machine, double(end) / double(pairs));
    }
    return collect(work);
  }

 private:
  struct Work {
    const Inputs& inputs;
    const Request& request;
    Clean clean;
    std::vector<std::vector<Tensor>> sums;    // [item][target], over baselines in ascending order
    std::vector<std::vector<double>> starts;  // [item][target]: mean score of the baselines
    std::vector<int64_t> held;                // the item that each pair of the pass holds
  };

  bool one_baseline() const { return baselines_.count() == 1; }
  int64_t inputs_in(int64_t rows) const { return one_baseline() ? rows - 1 : rows / 2; }
  Chunks chunks() const {
    const int64_t together = one_baseline() ? 1 : 2;
    return {together * setup_.items * baselines_.count(), together, one_baseline() ? 1 : 0};
  }
  int64_t held_rows() const { return inputs_in(pass_.rows()); }

  Values wanted(Scene& s) const {
    const rule::Rescale rescale;
    const bool logit = kind_ == ScoreKind::logit;
    const int64_t n = inputs_in(s.rows());
    const Value seed =
        logit ? slice(s.selector, 0, 0, n) : multipliers_of_logits(s, kind_, n, rescale.epsilon);
    const Value m =
        whence::gradient(s.logits, seed, {s.entry}, {{"activation|max_pool", "*", rescale}})[0];
    if (!multiply_) return {m};
    return {mul(m, sub(s.graph.at("pair.input"), s.graph.at("pair.baseline")))};
  }

  // Pairs [begin, end), item by item; the last one is repeated in what is left of the pass.
  void run_chunk(Work& work, int64_t begin, int64_t end) {
    const int64_t trials = baselines_.count(), n = held_rows();
    const auto item_at = [&](int64_t r) { return std::min(begin + r, end - 1) / trials; };
    for (int64_t r = 0; r < n; ++r) {
      const int64_t item = item_at(r), trial = std::min(begin + r, end - 1) % trials;
      if (std::exchange(work.held[size_t(r)], item) != item)
        std::ranges::copy(item_of(work.inputs.port(0), item),
                          pass_.input_row("pair.input", r).begin());
      if (trials > 1 || (begin == 0 && r == 0))
        std::ranges::copy(baselines_.at(work.request, item, trial),
                          pass_.input_row("pair.baseline", r).begin());
    }
    pass_.forward();
    const auto& targets = work.request.targets;
    for (int64_t r = 0; r < end - begin; ++r) {
      const auto item = size_t(item_at(r));
      if ((begin + r) % trials == 0) work.clean.note(pass_, r, work.inputs, targets);
      for (size_t t = 0; t < targets.size(); ++t)
        work.starts[item][t] += score_of(kind_, pass_.logits_row(n + (one_baseline() ? 0 : r)),
                                         work.clean.chosen[item][t]) /
                                double(trials);
    }
    for (size_t t = 0; t < targets.size(); ++t) {
      std::ranges::fill(pass_.plan().input(pass_.scene().selector), real(0));
      for (int64_t r = 0; r < n; ++r) pass_.select(r, work.clean.chosen[size_t(item_at(r))][t]);
      pass_.backward();
      for (int64_t r = 0; r < end - begin; ++r) {
        const auto e = pass_.rows_of(0, r)[0];
        const auto sum = work.sums[size_t(item_at(r))][t].reals();
        for (size_t j = 0; j < e.size(); ++j) sum[j] += e[j] / real(trials);
      }
    }
  }

  Results collect(Work& work) const {
    MapsOf maps{std::move(work.sums), {}};
    maps.gaps.resize(maps.tensors.size());
    for (size_t i = 0; i < maps.tensors.size(); ++i)
      for (size_t t = 0; t < maps.tensors[i].size(); ++t) {
        maps.gaps[i].emplace_back();
        if (multiply_)
          maps.gaps[i][t] = total(maps.tensors[i][t]) -
                            (work.clean.score(kind_, int64_t(i), t) - work.starts[i][t]);
      }
    return results_of(work.clean, setup_.options, std::move(maps));
  }

  Setup setup_;
  ScoreKind kind_;
  bool multiply_;
  Baselines baselines_;
  Shape shape_;
  Pass pass_;
};

OptionInfo rescaled_score() {
  return gradient_of("logit", {"logit", "probability"},
                     "the score that is shared out: logit or probability of the target");
}

}  // namespace

Method deeplift() {
  return {
      .info = {"deeplift",
               "differences from a baseline handed back through activations and max-pools in "
               "proportion (Rescale); other functions have their gradient, and the gap is what "
               "that leaves out",
               "Shrikumar et al. 2017, arXiv 1704.02685",
               "any",
               {text("baselines", "zero", "zero, or a .npy file of one input"),
                flag("multiply_by_inputs", true, "false: the multipliers of the differences alone"),
                rescaled_score()}},
      .prepare = [](const Setup& setup) -> std::unique_ptr<Worker> {
        if (setup.options.is("baselines", "random"))
          fail_usage(
              "option baselines of method deeplift is 'random', zero or a .npy file is needed");
        return std::make_unique<DeepLift>(setup, 1, false);
      },
      .clean_pass = false};
}

Method deeplift_shap() {
  OptionInfo baselines =
      text("baselines", "random",
           "random (normal, others for each input), or a .npy file of two inputs or more");
  baselines.draws = "random";
  return {.info = {"deeplift-shap",
                   "deeplift averaged over baselines",
                   "Lundberg and Lee 2017, arXiv 1705.07874",
                   "any",
                   {std::move(baselines),
                    whole("num_random_trials", 10, 2, 10000, "random baselines to average over"),
                    flag("multiply_by_inputs", true,
                         "false: the mean multipliers of the differences alone"),
                    rescaled_score()}},
          .prepare = [](const Setup& setup) -> std::unique_ptr<Worker> {
            return std::make_unique<DeepLift>(setup, setup.options.whole("num_random_trials"),
                                              true);
          },
          .clean_pass = false};
}

}  // namespace whence::catalogue
