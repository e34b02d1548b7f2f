// Samples: many masked inputs of each item, forward only, and what the model answers to each. What
// tells the samples of an item apart stays small, such as a map of a few cells; the masked input is
// made from it and from the item where the model runs, and never exists for more rows than a chunk.
#pragma once

#include "explain/method.h"

namespace whence {

class Samples {
 public:
  // Makes the masked inputs, in the shape of `items` [rows, ...], from the items and from inputs of
  // the graph that it adds under names of its own.
  using Mask = std::function<Value(Graph&, Value items)>;
  // `samples` for every item at most.
  Samples(const Setup& setup, int64_t samples, const Mask& mask);
  Pass& pass() { return pass_; }
  const Pass& pass() const { return pass_; }

  struct Sample {
    int64_t item, id;  // `id` tells the samples of an item apart
  };
  // Runs all samples, as many at once as the pass has rows. `fill` puts the sample's mask into a
  // row (Pass::input_row), `take` gets the logits of each sample in their order. No answer depends
  // on the chunk.
  void run(const Inputs& inputs, const std::vector<Sample>& samples,
           const std::function<void(const Sample&, int64_t row)>& fill,
           const std::function<void(const Sample&, std::span<const real> logits)>& take);

 private:
  Machine machine_;
  Pass pass_;
};

}  // namespace whence
