// SmoothGrad: Smilkov et al. 2017 (arXiv 1706.03825).
//   E = 1/n sum_s grad score(x + sigma z_s),  sigma = noise_amount (max x - min x), z_s standard
//   normal
#include <algorithm>

#include "explain/method.h"
#include "kernels/random.h"
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
        step_(chunked_pass(job.model, job.settings, score_kind(job.options), job.items * samples_,
                           [](Scored& s) { return s.gradient_by({s.image}); })) {}

  std::vector<const Pass*> passes() const override { return {&clean_, &step_}; }

  std::vector<std::vector<Result>> run(const Tensor& inputs, const Request& request) override {
    const int64_t items = inputs.shape()[0];
    const size_t n = size_t(model_.input.count());
    if (request.draws) check_draws(request, items);
    const auto clean = loops_.items(clean_, inputs, request.targets, nullptr, nullptr);
    std::vector<std::vector<Tensor>> sums(static_cast<size_t>(items));
    for (auto& of_item : sums)
      for (size_t t = 0; t < request.targets.size(); ++t) of_item.emplace_back(Type{model_.input});
    loops_.points(
        step_, items, samples_, clean,
        [&](int64_t item, int64_t sample, std::span<real> row) {
          fill(inputs, request, item, sample, row);
        },
        [&](int64_t item, size_t t, int64_t, int64_t row) {
          const auto g = step_.wanted_row(0, row);
          const auto sum = sums[size_t(item)][t].reals();
          for (size_t j = 0; j < n; ++j) sum[j] += g[j];
        });
    std::vector<std::vector<Result>> results(sums.size());
    for (size_t i = 0; i < sums.size(); ++i)
      for (size_t t = 0; t < sums[i].size(); ++t) {
        for (real& x : sums[i][t].reals()) x /= real(samples_);
        results[i].push_back(loops_.result(clean, int64_t(i), t));
        finish(results[i][t], std::move(sums[i][t]), "smoothgrad", int64_t(i));
      }
    return results;
  }

 private:
  void check_draws(const Request& request, int64_t items) const {
    const Shape& d = request.draws.shape();  // [samples, items, C, H, W]
    if (d.rank() != 5 || d[0] < samples_ || d[1] < int64_t(request.first_item) + items ||
        d.count(2, 5) != model_.input.count())
      fail_shape("the draws have shape {}, [{}, items, {}, {}, {}] is needed", to_string(d),
                 samples_, model_.input[0], model_.input[1], model_.input[2]);
  }

  void fill(const Tensor& inputs, const Request& request, int64_t item, int64_t sample,
            std::span<real> row) const {
    const auto x = item_of(inputs, item);
    const auto [low, high] = std::minmax_element(x.begin(), x.end());
    const double sigma = double(real(real(noise_) * (*high - *low)));
    const size_t n = x.size();
    if (request.draws) {
      const int64_t at = sample * request.draws.shape()[1] + request.first_item + item;
      const auto z = request.draws.reals().subspan(size_t(at) * n, n);
      std::copy(z.begin(), z.end(), row.begin());
    } else {
      cpu::Stream one_thread;
      k::random_normal(one_thread,
                       {request.seed, request.first_item + uint32_t(item), uint32_t(sample)},
                       int64_t(n), row.data());
    }
    for (size_t j = 0; j < n; ++j) row[j] = x[j] + real(sigma * double(row[j]));
  }

  const Model& model_;
  double noise_;
  int64_t samples_;
  Loops loops_;
  Pass clean_, step_;
};

}  // namespace

std::unique_ptr<Method> make_smoothgrad(const Job& job) {
  return std::make_unique<SmoothGrad>(job);
}

}  // namespace whence
