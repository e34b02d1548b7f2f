// AdamW (Loshchilov and Hutter 2019): Adam with weight decay that does not pass through the
// moments, after clipping the gradient's length, at a rate that warms up and then falls along a
// cosine.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "whence/tensor.h"

namespace whence::demo {

struct AdamWOptions {
  double rate = 1.5e-3;       // at the end of the warm-up
  double final_share = 0.01;  // of `rate`, at the last step
  int64_t warmup = 200, steps = 8000;
  double beta1 = 0.9, beta2 = 0.98, epsilon = 1e-8;
  double decay = 0.05;
  double clip = 1;  // largest Euclidean length of the whole gradient; 0: any
};

// Of step 0, 1, ...: rate (step + 1) / warmup, then rate (f + (1 - f) (1 + cos(pi t)) / 2), where t
// goes from 0 after the warm-up to 1 at the last step and f is final_share.
double learning_rate(const AdamWOptions& options, int64_t step);

class AdamW {
 public:
  explicit AdamW(const AdamWOptions& options) : options_(options) {}
  // Parameters are the caller's memory and are changed in place. Biases, norms and embeddings of
  // positions are usually not decayed.
  void add(std::span<real> parameter, bool decayed);
  // One gradient per parameter, in the order of add(). Returns the gradient's length before
  // clipping. Throws shape for a wrong count or size, item (nonfinite) for a gradient that is not
  // finite; then nothing has changed.
  double step(std::span<const std::span<const real>> gradients);
  int64_t steps_done() const { return done_; }

 private:
  struct Parameter {
    std::span<real> values;
    bool decayed;
    std::vector<real> first, second;  // moments
  };
  AdamWOptions options_;
  std::vector<Parameter> parameters_;
  int64_t done_ = 0;
};

}  // namespace whence::demo
