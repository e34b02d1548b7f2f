// Points: many inputs made from each item, and the weighted sum of what a pass computes at them.
// Images, draws and sums stay on the device; a step moves a few numbers for each row.
#pragma once

#include "explain/method.h"

namespace whence {

// image = to * item + from * other. What is computed there counts `weight` times.
struct Point {
  real to = 1, from = 0, weight = 1;
};

class Points {
 public:
  // What the second term is: nothing, a tensor that the caller gives, or standard normal variates
  // keyed by the request's seed, the item's index in the job and the step.
  enum class Other : uint8_t { none, given, normal };

  // `wanted` names the values that are summed; `steps` points for every item.
  using Wanted = std::function<Values(Scene&)>;
  Points(const Setup& setup, Other other, int64_t steps, const Wanted& wanted);
  const Pass& pass() const { return pass_; }

  // For each wanted value its sum over the steps, [items, targets, ...], in ascending order of the
  // steps, so that sums do not depend on the chunk. `given` is the other tensor of a point and a
  // number that tells its tensors apart.
  using At = std::function<Point(int64_t item, int64_t step)>;
  struct Given {
    std::span<const real> values;
    int64_t id = -1;
  };
  std::vector<Tensor> run(const Batch& batch, const At& at,
                          const std::function<Given(int64_t item, int64_t step)>& given = nullptr);

 private:
  // Items whose sums are kept on the device at once.
  int64_t group() const { return std::max<int64_t>(1, slots_ / targets_); }
  struct Work;
  void run_chunk(Work& work, int64_t begin, int64_t end);
  std::span<real> sum(size_t i);

  Machine machine_;
  Other other_;
  int64_t steps_, targets_, slots_;
  Pass pass_;
};

}  // namespace whence
