#include "demo/adamw.h"

#include <algorithm>
#include <cmath>

#include "runtime/check.h"

namespace whence::demo {

double learning_rate(const AdamWOptions& options, int64_t step) {
  if (step < options.warmup) return options.rate * double(step + 1) / double(options.warmup);
  const int64_t span = std::max<int64_t>(1, options.steps - 1 - options.warmup);
  const double t = std::min(1.0, double(step - options.warmup) / double(span));
  const double f = options.final_share;
  return options.rate * (f + (1 - f) * 0.5 * (1 + std::cos(3.14159265358979323846 * t)));
}

void AdamW::add(std::span<real> parameter, bool decayed) {
  parameters_.push_back({parameter, decayed, std::vector<real>(parameter.size()),
                         std::vector<real>(parameter.size())});
}

double AdamW::step(std::span<const std::span<const real>> gradients) {
  if (gradients.size() != parameters_.size()) {
    fail_shape("{} gradients for {} parameters", gradients.size(), parameters_.size());
  }
  double square = 0;  // summed in one order, in double: the same on every run
  for (size_t i = 0; i < gradients.size(); ++i) {
    if (gradients[i].size() != parameters_[i].values.size()) {
      fail_shape("gradient {} has {} elements, its parameter has {}", i, gradients[i].size(),
                 parameters_[i].values.size());
    }
    for (const real g : gradients[i]) square += double(g) * double(g);
  }
  const double length = std::sqrt(square);
  if (!std::isfinite(length)) {
    fail(ErrorCode::nonfinite, "the gradient of step {} is not finite", done_);
  }
  const double shrink = options_.clip > 0 && length > options_.clip ? options_.clip / length : 1;
  const double rate = learning_rate(options_, done_);
  ++done_;
  // The moments start at zero; dividing by 1 - beta^n removes that bias (Kingma and Ba 2015).
  const double correct1 = 1 - std::pow(options_.beta1, double(done_));
  const double correct2 = 1 - std::pow(options_.beta2, double(done_));
  for (size_t i = 0; i < gradients.size(); ++i) {
    Parameter& p = parameters_[i];
    const double keep = p.decayed ? 1 - rate * options_.decay : 1;
    for (size_t k = 0; k < p.values.size(); ++k) {
      const double g = shrink * double(gradients[i][k]);
      const double m = options_.beta1 * double(p.first[k]) + (1 - options_.beta1) * g;
      const double v = options_.beta2 * double(p.second[k]) + (1 - options_.beta2) * g * g;
      p.first[k] = real(m);
      p.second[k] = real(v);
      const double move = (m / correct1) / (std::sqrt(v / correct2) + options_.epsilon);
      p.values[k] = real(keep * double(p.values[k]) - rate * move);
    }
  }
  return length;
}

}  // namespace whence::demo
