// Transition attention maps: Yuan, Li, Xiong, Cao and Sun, "Explaining information flow inside
// vision transformers using Markov chain", NeurIPS 2021 workshop; numbers as InterpretDL's
// TAMInterpreter.
//   states    s <- mean_h P_{L-1}[readout];  s <- s + s mean_h P_l  for l = L-2 .. start_layer
//   feedback  W = mean_h max(0, 1/n sum_k G_{L-1}(alpha_k x)[readout]),  alpha = linspace(0, 1, n)
//   E = s * W over the patches; the mean of that over both readouts of a distilled model
// A step is one forward pass and the backward pass of the last block's single row; its memory does
// not depend on n.
#include <algorithm>

#include "explain/engine/points.h"
#include "explain/methods/quadrature.h"

namespace whence::catalogue {
namespace {

// The state of each readout token: [readouts, S].
Map states(Scene& s, const Options& o) {
  const int64_t start = o.block("start_layer", std::min<int64_t>(4, s.blocks() / 3));
  Map map;
  for (const int64_t token : s.readout_tokens(o.method())) {
    Value state = mean(attention_row(s.last_attention(), token), {1});
    for (int64_t l = s.blocks() - 2; l >= start && !o.flag("last_state_only"); --l)
      state = add(state, einsum(state, s.attention(l).probs_mean, "bi,bij->bj"));
    map.values.push_back(state);
  }
  map.tensor = [](const Rows& rows) {
    Tensor all(Type{{int64_t(rows.size()), int64_t(rows[0].size())}});
    for (size_t c = 0; c < rows.size(); ++c)
      std::ranges::copy(rows[c], all.reals().begin() + int64_t(c * rows[0].size()));
    return all;
  };
  return map;
}

// The row of each readout token in the gradient by the last block's probabilities.
Values gradient_rows(Scene& s, const Options& o) {
  const Attention last = s.last_attention();
  const Value dcontext = s.gradient(o.score(), {last.context})[0];
  Values rows;
  for (const int64_t token : s.readout_tokens(o.method()))
    rows.push_back(attention_gradient_row(last, dcontext, token));
  return rows;
}

class Tam final : public Worker {
 public:
  explicit Tam(const Setup& setup)
      : options_(setup.options),
        tower_(setup.model().places.towers.back()),
        steps_(options_.flag("with_integral") ? options_.whole("steps") : 1),
        path_(quadrature("endpoint_mean", int(options_.whole("steps")))),
        points_(setup, Points::Other::none, steps_,
                [this](Scene& s) { return gradient_rows(s, options_); }) {}

  std::vector<const Pass*> passes() const override { return {&points_.pass()}; }

  Results run(Batch batch) override {
    // of each readout token: the sum over steps of the last block's row, [items * targets, H, S]
    const std::vector<Tensor> gradients = points_.run(batch, [&](int64_t, int64_t step) {
      const bool integral = options_.flag("with_integral");
      return Point{integral ? real(path_.alpha[size_t(step)]) : real(1), 0, 1};
    });
    const size_t targets = batch.request.targets.size();
    for (size_t i = 0; i < batch.maps.tensors.size(); ++i) {
      const Tensor of_item = batch.maps.tensors[i][0];
      batch.maps.tensors[i].clear();
      batch.maps.gaps[i].assign(targets, std::nullopt);
      for (size_t t = 0; t < targets; ++t)
        batch.maps.tensors[i].push_back(feedback(of_item, gradients, int64_t(i * targets + t)));
    }
    return results_of(batch.clean, options_, std::move(batch.maps));
  }

 private:
  // mean over readouts of state * mean over heads of max(0, mean gradient), on the grid
  Tensor feedback(const Tensor& states, const std::vector<Tensor>& gradients, int64_t at) const {
    const size_t s = size_t(states.shape()[1]), readouts = gradients.size();
    std::vector<double> e(s, 0);
    for (size_t c = 0; c < readouts; ++c) {
      const auto heads = size_t(gradients[c].shape()[1]);
      const auto sums = item_of(gradients[c], at), state = item_of(states, int64_t(c));
      for (size_t j = 0; j < s; ++j) {
        double w = 0;
        for (size_t h = 0; h < heads; ++h)
          w += std::max(0.0, double(sums[h * s + j]) / double(steps_));
        e[j] += double(state[j]) * w / double(heads) / double(readouts);
      }
    }
    const std::vector<real> map(e.begin() + tower_.prefix_tokens, e.end());
    return Tensor::of({tower_.rows, tower_.columns}, map);
  }

  Options options_;
  Tower tower_;
  int64_t steps_;
  Quadrature path_;
  Points points_;
};

}  // namespace

Method tam() {
  return {.info = {"tam",
                   "attention states of a Markov chain, weighted by the integrated gradient of the "
                   "last attention",
                   "Yuan et al. 2021, \"Explaining information flow inside vision transformers "
                   "using Markov chain\"",
                   "transformers",
                   {start_layer("auto",
                                "first block of the chain; auto: 4, in models under 12 blocks a "
                                "third of them"),
                    whole("steps", 20, 1, 100000, "points on the line from zero to the input"),
                    flag("with_integral", true, "false: the gradient at the input alone"),
                    flag("last_state_only", false,
                         "true: the last block's attention instead of the chain"),
                    gradient_of("probability")}},
          .map = states,
          .prepare = [](const Setup& setup) -> std::unique_ptr<Worker> {
            return std::make_unique<Tam>(setup);
          }};
}

}  // namespace whence::catalogue
