// The optimiser of the demonstration models, against the published update written out by hand.
#include "demo/adamw.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "whence/error.h"

namespace whence::demo {
namespace {

TEST(AdamW, rate_warms_up_then_falls_along_a_cosine) {
  AdamWOptions options;
  options.rate = 0.5;
  options.final_share = 0.1;
  options.warmup = 4;
  options.steps = 15;
  EXPECT_DOUBLE_EQ(learning_rate(options, 0), 0.125);
  EXPECT_DOUBLE_EQ(learning_rate(options, 3), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate(options, 4), 0.5);
  EXPECT_NEAR(learning_rate(options, 9), 0.5 * 0.55, 1e-12);  // half way down
  EXPECT_NEAR(learning_rate(options, 14), 0.05, 1e-12);
  EXPECT_NEAR(learning_rate(options, 99), 0.05, 1e-12);
}

// Two steps on two parameters, one decayed, gradient of length 5 clipped to 2 in the first step.
TEST(AdamW, update_is_the_published_one) {
  AdamWOptions options;
  options.rate = 0.01;
  options.final_share = 1;
  options.warmup = 1;
  options.steps = 10;
  options.beta1 = 0.8;
  options.beta2 = 0.9;
  options.epsilon = 1e-3;
  options.decay = 0.25;
  options.clip = 2;
  std::vector<real> a{1, -2}, b{3};
  AdamW optimiser(options);
  optimiser.add(a, true);
  optimiser.add(b, false);
  const std::vector<std::vector<real>> ga{{3, 0}, {real(0.5), 1}}, gb{{-4}, {real(0.25)}};
  const double scale[2] = {0.4, 1};
  double x[3] = {1, -2, 3}, m[3] = {}, v[3] = {};
  for (int t = 0; t < 2; ++t) {
    const std::span<const real> gradients[2] = {ga[size_t(t)], gb[size_t(t)]};
    const double g[3] = {ga[size_t(t)][0], ga[size_t(t)][1], gb[size_t(t)][0]};
    const double length = std::sqrt(g[0] * g[0] + g[1] * g[1] + g[2] * g[2]);
    EXPECT_NEAR(optimiser.step(gradients), length, 1e-6);
    for (int k = 0; k < 3; ++k) {
      m[k] = 0.8 * m[k] + 0.2 * scale[t] * g[k];
      v[k] = 0.9 * v[k] + 0.1 * scale[t] * g[k] * scale[t] * g[k];
      const double mh = m[k] / (1 - std::pow(0.8, t + 1)), vh = v[k] / (1 - std::pow(0.9, t + 1));
      if (k < 2) x[k] -= 0.01 * 0.25 * x[k];
      x[k] -= 0.01 * mh / (std::sqrt(vh) + 1e-3);
    }
    // Parameters and moments are rounded to `real` after each step.
    EXPECT_NEAR(a[0], x[0], 1e-6);
    EXPECT_NEAR(a[1], x[1], 1e-6);
    EXPECT_NEAR(b[0], x[2], 1e-6);
  }
  EXPECT_EQ(optimiser.steps_done(), 2);
}

TEST(AdamW, refuses_gradients_that_do_not_fit_and_keeps_the_parameters) {
  std::vector<real> a{1, 2};
  AdamW optimiser{AdamWOptions{}};
  optimiser.add(a, true);
  const std::vector<real> good{1, 1}, small{1};
  const std::vector<real> bad{1, std::numeric_limits<real>::quiet_NaN()};
  const std::span<const real> none_fits[] = {small}, too_many[] = {good, good},
                              not_finite[] = {bad};
  EXPECT_THROW(optimiser.step(none_fits), Error);
  EXPECT_THROW(optimiser.step(too_many), Error);
  EXPECT_THROW(optimiser.step(not_finite), Error);
  EXPECT_EQ(a, (std::vector<real>{1, 2}));
  EXPECT_EQ(optimiser.steps_done(), 0);
}

TEST(AdamW, finds_the_minimum_of_a_quadratic) {
  AdamWOptions options;
  options.rate = 0.1;
  options.decay = 0;
  options.warmup = 10;
  options.steps = 400;
  const std::vector<real> target{real(0.7), real(-1.3), 2};
  std::vector<real> x(3);
  AdamW optimiser(options);
  optimiser.add(x, true);
  for (int t = 0; t < 400; ++t) {
    std::vector<real> g(3);
    for (size_t k = 0; k < 3; ++k) g[k] = real(k + 1) * (x[k] - target[k]);
    const std::span<const real> gradients[] = {g};
    optimiser.step(gradients);
  }
  for (size_t k = 0; k < 3; ++k) EXPECT_NEAR(x[k], target[k], 1e-2);
}

}  // namespace
}  // namespace whence::demo
