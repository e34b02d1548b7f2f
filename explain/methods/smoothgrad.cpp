// SmoothGrad: Smilkov et al. 2017 (arXiv 1706.03825).
//   E = 1/n sum_s grad score(x + sigma z_s),  sigma = noise_amount (max x - min x), z_s standard
//   normal
#include <algorithm>

#include "explain/engine/points.h"
#include "explain/methods/baselines.h"

namespace whence::catalogue {
namespace {

class SmoothGrad final : public Worker {
 public:
  explicit SmoothGrad(const Setup& setup)
      : options_(setup.options),
        samples_(options_.whole("n_samples")),
        points_(setup, setup.request.draws ? Points::Other::given : Points::Other::normal, samples_,
                [this](Scene& s) { return s.gradient(options_.score(), {s.entry}); }) {}

  std::vector<const Pass*> passes() const override { return {&points_.pass()}; }

  Results run(Batch batch) override {
    const Tensor& inputs = batch.inputs.port(0);
    const auto items = size_t(batch.inputs.items()), targets = batch.request.targets.size();
    const Shape one(std::span(inputs.shape().begin() + 1, inputs.shape().end()));
    check_draws(batch.request, batch.inputs.items(), samples_, one);
    std::vector<real> sigma;
    for (size_t i = 0; i < items; ++i) {
      const auto x = item_of(inputs, int64_t(i));
      const auto [low, high] = std::minmax_element(x.begin(), x.end());
      sigma.push_back(real(options_.number("noise_amount")) * (*high - *low));
    }
    const Tensor sums = points_.run(
        batch,
        [&](int64_t item, int64_t) {
          return Point{1, sigma[size_t(item)], 1};
        },
        [&](int64_t item, int64_t sample) {
          const auto z = draw_of(batch.request, item, sample);
          return Points::Given{z, z.data() - batch.request.draws.reals().data()};
        })[0];
    MapsOf maps;
    maps.tensors.resize(items);
    maps.gaps.assign(items, std::vector<std::optional<double>>(targets));
    for (size_t k = 0; k < items * targets; ++k) {
      Tensor mean = Tensor::of(one, item_of(sums, int64_t(k)));
      for (real& e : mean.reals()) e /= real(samples_);
      maps.tensors[k / targets].push_back(std::move(mean));
    }
    return results_of(batch.clean, options_, std::move(maps));
  }

 private:
  Options options_;
  int64_t samples_;
  Points points_;
};

}  // namespace

Method smoothgrad() {
  return {.info = {.id = "smoothgrad",
                   .summary = "gradient averaged over noisy copies of the input",
                   .paper = "Smilkov et al. 2017, arXiv 1706.03825",
                   .models = "any",
                   .options = {whole("n_samples", 50, 1, 1000000, "noisy copies"),
                               number("noise_amount", "0.1", 0, 1e6,
                                      "standard deviation of the noise, as a fraction of the "
                                      "input's range"),
                               gradient_of("probability")},
                   .draws = true},
          .prepare = [](const Setup& setup) -> std::unique_ptr<Worker> {
            return std::make_unique<SmoothGrad>(setup);
          }};
}

}  // namespace whence::catalogue
