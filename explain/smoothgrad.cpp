// SmoothGrad: Smilkov et al. 2017 (arXiv 1706.03825).
//   E = 1/n sum_s grad score(x + sigma z_s),  sigma = noise_amount (max x - min x), z_s standard
//   normal
#include <algorithm>

#include "explain/points.h"
#include "runtime/check.h"

namespace whence {
namespace {

class SmoothGrad final : public Method {
 public:
  explicit SmoothGrad(const Job& job)
      : model_(job.model),
        noise_(job.options.number("noise_amount", 0, 1e6)),
        samples_(job.options.integer("n_samples", 1, 1000000)),
        loops_(job, score_kind(job.options)),
        clean_(chunked_pass(job.model, job.settings, ScoreKind::logit, job.items,
                            [](Scored&) { return Values{}; })),
        points_(job, score_kind(job.options),
                job.request.draws ? Points::Other::given : Points::Other::normal, samples_,
                [](Scored& s) { return s.gradient_by({s.image}); }) {}

  std::vector<const Pass*> passes() const override { return {&clean_, &points_.pass()}; }

  std::vector<std::vector<Result>> run(const Tensor& inputs, const Request& request) override {
    const int64_t items = inputs.shape()[0];
    const size_t n = size_t(model_.input.count());
    if (request.draws) check_draws(request, items);
    const auto clean = loops_.items(clean_, inputs, request.targets, nullptr, nullptr);
    std::vector<real> sigma;
    for (int64_t i = 0; i < items; ++i) {
      const auto x = item_of(inputs, i);
      const auto [low, high] = std::minmax_element(x.begin(), x.end());
      sigma.push_back(real(noise_) * (*high - *low));
    }
    const Tensor sums = points_.run(
        inputs, request, clean, loops_,
        [&](int64_t item, int64_t) {
          return Point{1, sigma[size_t(item)], 1};
        },
        [&](int64_t item, int64_t sample) {
          const int64_t at = sample * request.draws.shape()[1] + request.first_item + item;
          return Points::Given{request.draws.reals().subspan(size_t(at) * n, n), at};
        })[0];
    const size_t targets = request.targets.size();
    std::vector<std::vector<Tensor>> maps(static_cast<size_t>(items));
    for (size_t i = 0; i < maps.size(); ++i)
      for (size_t t = 0; t < targets; ++t) {
        const auto sum = sums.reals().subspan((i * targets + t) * n, n);
        maps[i].emplace_back(Type{model_.input});
        std::ranges::transform(sum, maps[i].back().reals().begin(),
                               [&](real x) { return x / real(samples_); });
      }
    return loops_.results(clean, std::move(maps), "smoothgrad");
  }

 private:
  void check_draws(const Request& request, int64_t items) const {
    const Shape& d = request.draws.shape();  // [samples, items, C, H, W]
    if (d.rank() != 5 || d[0] < samples_ || d[1] < int64_t(request.first_item) + items ||
        d.count(2, 5) != model_.input.count())
      fail_shape("the draws have shape {}, [{}, items, {}, {}, {}] is needed", to_string(d),
                 samples_, model_.input[0], model_.input[1], model_.input[2]);
  }

  const Model& model_;
  double noise_;
  int64_t samples_;
  Loops loops_;
  Pass clean_;
  Points points_;
};

}  // namespace

std::unique_ptr<Method> make_smoothgrad(const Job& job) {
  return std::make_unique<SmoothGrad>(job);
}

}  // namespace whence
