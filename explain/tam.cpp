// Transition attention maps: Yuan, Li, Xiong, Cao and Sun, "Explaining information flow inside
// vision transformers using Markov chain", NeurIPS 2021 workshop; numbers as InterpretDL's
// TAMInterpreter.
//   states    s <- mean_h P_{L-1}[readout];  s <- s + s mean_h P_l  for l = L-2 .. start_layer
//   feedback  W = mean_h max(0, 1/n sum_k G_{L-1}(alpha_k x)[readout]),  alpha = linspace(0, 1, n)
//   E = s * W over the patches; the mean of that over both readouts of a distilled model
// A step is one forward pass and the backward pass of the last block's single row; its memory does
// not depend on n.
#include <algorithm>

#include "explain/points.h"
#include "explain/quadrature.h"

namespace whence {
namespace {

class Tam final : public Method {
 public:
  explicit Tam(const Job& job)
      : model_(job.model),
        start_(start_layer(job, 4, 3)),
        steps_(job.options.integer("steps", 1, 100000)),
        with_integral_(job.options.flag("with_integral")),
        last_state_only_(job.options.flag("last_state_only")),
        loops_(job, score_kind(job.options)),
        states_(chunked_pass(job.model, job.settings, score_kind(job.options), job.items,
                             [&](Scored& s) { return states(s); })),
        points_(job, score_kind(job.options), Points::Other::none, points(), [&](Scored& s) {
          const Attention last = s.attention(model_.blocks - 1);
          const Value dcontext = s.gradient_by({last.context})[0];
          Values rows;
          for (int64_t token : s.readout_tokens("tam"))
            rows.push_back(attention_gradient_row(last, dcontext, token));
          return rows;
        }) {}

  std::vector<const Pass*> passes() const override { return {&states_, &points_.pass()}; }

  std::vector<std::vector<Result>> run(const Tensor& inputs, const Request& request) override {
    const size_t items = size_t(inputs.shape()[0]), targets = request.targets.size();
    const size_t readouts = points_.pass().scored().readout_tokens("tam").size();
    const Quadrature path = quadrature("endpoint_mean", int(steps_));
    std::vector<std::vector<std::vector<real>>> state(items,
                                                      std::vector<std::vector<real>>(readouts));
    const auto clean = loops_.items(
        states_, inputs, request.targets,
        [&](int64_t item, int64_t row) {
          for (size_t c = 0; c < readouts; ++c) {
            const auto s = states_.wanted_row(c, row);
            state[size_t(item)][c].assign(s.begin(), s.end());
          }
        },
        nullptr);
    // of each readout token: the sum over steps of the last block's row, [items * targets, H, S]
    const std::vector<Tensor> gradients =
        points_.run(inputs, request, clean, loops_, [&](int64_t, int64_t step) {
          return Point{with_integral_ ? real(path.alpha[size_t(step)]) : real(1), 0, 1};
        });
    std::vector<std::vector<Result>> results(items);
    for (size_t i = 0; i < items; ++i)
      for (size_t t = 0; t < targets; ++t) {
        results[i].push_back(loops_.result(clean, int64_t(i), t));
        finish(results[i][t], patch_map(model_, feedback(state[i], gradients, i * targets + t)),
               "tam", int64_t(i));
      }
    return results;
  }

 private:
  int64_t points() const { return with_integral_ ? steps_ : 1; }

  // The state of each readout token, [B, S].
  Values states(Scored& s) const {
    Values all;
    for (int64_t token : s.readout_tokens("tam")) {
      Value state = mean(attention_row(s.attention(model_.blocks - 1), token), {1});
      for (int64_t l = model_.blocks - 2; l >= start_ && !last_state_only_; --l)
        state = add(state, einsum(state, s.attention(l).probs_mean, "bi,bij->bj"));
      all.push_back(state);
    }
    return all;
  }

  // mean over readouts of state * mean over heads of max(0, mean gradient)
  std::vector<real> feedback(const std::vector<std::vector<real>>& states,
                             const std::vector<Tensor>& gradients, size_t at) const {
    const size_t s = states[0].size();
    std::vector<double> e(s, 0);
    for (size_t c = 0; c < states.size(); ++c) {
      const size_t heads = size_t(gradients[c].shape()[1]);
      const auto sums = gradients[c].reals().subspan(at * heads * s, heads * s);
      for (size_t j = 0; j < s; ++j) {
        double w = 0;
        for (size_t h = 0; h < heads; ++h)
          w += std::max(0.0, double(sums[h * s + j]) / double(points()));
        e[j] += double(states[c][j]) * w / double(heads) / double(states.size());
      }
    }
    return {e.begin(), e.end()};
  }

  const Model& model_;
  int64_t start_, steps_;
  bool with_integral_, last_state_only_;
  Loops loops_;
  Pass states_;
  Points points_;
};

}  // namespace

std::unique_ptr<Method> make_tam(const Job& job) { return std::make_unique<Tam>(job); }

}  // namespace whence
