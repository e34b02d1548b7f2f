#include "kernels/simt/scheduler.h"

#include <bit>
#include <numeric>
#include <utility>

namespace whence::simt {

uint64_t Scheduler::random() {  // splitmix64 (Steele, Lea and Flood 2014)
  uint64_t x = state_ += 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

void Scheduler::start_grid(const Schedule& schedule, uint64_t blocks) {
  schedule_ = schedule;
  state_ = schedule.seed;
  blocks_ = blocks;
  block_ = 0;
  step_ = 1;
  if (blocks < 2 || schedule.order == Order::forward) return;
  if (schedule.order == Order::reverse) {
    block_ = blocks - 1;
    step_ = blocks - 1;
    return;
  }
  // A step prime to the count visits every block once.
  block_ = random() % blocks;
  do step_ = 1 + random() % (blocks - 1);
  while (std::gcd(step_, blocks) != 1);
}

uint64_t Scheduler::next_block() {
  const uint64_t now = block_;
  block_ = block_ >= blocks_ - step_ ? block_ - (blocks_ - step_) : block_ + step_;
  return now;
}

void Scheduler::start_block(unsigned warps) {
  ready_.assign(warps, ~uint32_t{0});
  ranks_.resize(warps);
  std::iota(ranks_.begin(), ranks_.end(), 0u);
  rank_warps();
}

void Scheduler::rank_warps() {
  for (auto i = unsigned(ranks_.size()); i-- > 1;) std::swap(ranks_[i], ranks_[random() % (i + 1)]);
}

unsigned Scheduler::random_lane(unsigned warp) {
  uint32_t mask = ready_[warp];
  for (auto skip = unsigned(random() % unsigned(std::popcount(mask))); skip > 0; --skip)
    mask &= mask - 1;
  return warp * 32 + unsigned(std::countr_zero(mask));
}

unsigned Scheduler::pick() {
  const auto warps = unsigned(ready_.size());
  switch (schedule_.order) {
    case Order::forward:
      for (unsigned w = 0; w < warps; ++w)
        if (ready_[w]) return w * 32 + unsigned(std::countr_zero(ready_[w]));
      break;
    case Order::reverse:
      for (unsigned w = warps; w-- > 0;)
        if (ready_[w]) return w * 32 + 31 - unsigned(std::countl_zero(ready_[w]));
      break;
    case Order::random: {
      const auto first = unsigned(random() % warps);
      for (unsigned i = 0; i < warps; ++i)
        if (const unsigned w = (first + i) % warps; ready_[w]) return random_lane(w);
      break;
    }
    case Order::priority:
      for (const unsigned w : ranks_)
        if (ready_[w]) return random_lane(w);
      break;
  }
  return nobody;
}

unsigned Scheduler::preempt() {
  if (schedule_.order != Order::random && schedule_.order != Order::priority) return nobody;
  if (random() % 4 != 0) return nobody;
  auto warp = unsigned(random() % ready_.size());
  while (!ready_[warp]) warp = (warp + 1) % unsigned(ready_.size());
  return random_lane(warp);
}

}  // namespace whence::simt
