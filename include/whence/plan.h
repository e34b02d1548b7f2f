// Plan: the part of a graph that was asked for, placed in memory, ready to run any number of times.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "whence/device.h"
#include "whence/graph.h"
#include "whence/weights.h"

namespace whence {

// Reads its graph only while it is made; the graph may grow or go afterwards. One call at a time: a
// second concurrent call throws state (busy). Several plans may run at once and share Weights.
class Plan {
 public:
  struct Options {
    Values given = {};                      // values that become inputs: nothing above them runs
    int threads = 0;                        // 0: WHENCE_THREADS, else one a core
    std::vector<std::string> without = {};  // optional passes (below) that are left out
    Device device = {};
    Precision precision = Precision::f32;  // of the products; CPU plans refuse others
    // Pairs of an input and a kept value whose op may take over that input's memory, and does: what
    // a run leaves there is the input of the next. The input can still be set.
    std::vector<std::pair<Value, Value>> carried = {};
  };
  // The passes over what will run that change speed and memory, and values by no more than
  // rounding: fewer rows, fewer steps, norms as parts of weights. describe() says which have run.
  static const std::vector<std::string>& optional_passes();

  explicit Plan(const Values& keep, Options options);
  explicit Plan(const Values& keep) : Plan(keep, Options{}) {}
  Plan(Plan&&) noexcept;
  Plan& operator=(Plan&&) noexcept;
  ~Plan();

  // Runs the weights stage. What it derives (packed weights) is shared by every plan bound to
  // `weights`. Throws keys or shape errors that list every problem.
  void bind(const Weights& weights);
  // Copies the value, which may be on any device; it may be changed when the call returns. On the
  // plan's own device the copy stays there. The type must match, but for these: bytes are taken as
  // reals, as they are (0 .. 255), and 64-bit integers as 32-bit ones; both by way of the host.
  // Throws item for an integer that does not fit, shape or dtype for another type.
  void set(Value input, const Tensor& value);
  // Its memory, or what will be copied there: to be filled in place before the next run.
  std::span<real> input(Value input);
  void forward();   // runs the data stage
  void backward();  // runs the seed stage; may be repeated with another seed
  // Valid until the plan next runs. On a device, the first view after a run copies the value.
  std::span<const real> view(Value kept) const;
  Tensor get(Value kept) const;                 // a copy on the host
  Tensor get(Value kept, Device device) const;  // a copy there; on the plan's device it stays there
  // No copy: the plan's memory itself, on the plan's device. It stays alive with the tensor, and
  // changes when the plan runs.
  Tensor share(Value kept) const;

  // Of activations and of what kernels need while they run: one allocation on the device, made
  // here.
  size_t bytes() const;
  size_t derived_bytes() const;  // of what the weights stage holds
  int steps(Stage stage) const;
  int steps(std::string_view kind) const;  // how many steps of this kind of op run
  double flops(Stage stage) const;
  std::string describe()
      const;  // a line for each step: kind, name, shape, offset, lifetime, bytes, scratch, flops

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace whence
