// What inputs are compared with, and draws that a request brings along.
#pragma once

#include "explain/method.h"

namespace whence {

// Zeros, or the inputs of a file, the same for every item; or standard normal variates of each
// item's own, from the generator or the request's draws [trials, items, C, H, W].
class Baselines {
 public:
  // Option baselines: zero, random (then `trials` of them), or a .npy file: of one input, or where
  // `several` of two or more.
  Baselines(const Setup& setup, int64_t trials, bool several);
  int64_t count() const { return count_; }
  bool same_for_all_items() const { return source_ != "random"; }
  // Baseline `trial` of an item; valid until the next call.
  std::span<const real> at(const Request& request, int64_t item, int64_t trial);
  // Throws shape where the draws of the request do not suffice for its items.
  void check_draws(const Request& request, int64_t items) const;

 private:
  void read(bool several);
  Shape shape_;
  std::string source_;
  int64_t count_ = 1;
  Tensor values_;
};

// Of a request with draws [draws, items, ...]: throws shape where they do not suffice for `count`
// draws of every item; draw `draw` of an item.
void check_draws(const Request& request, int64_t items, int64_t count, const Shape& item);
std::span<const real> draw_of(const Request& request, int64_t item, int64_t draw);

}  // namespace whence
