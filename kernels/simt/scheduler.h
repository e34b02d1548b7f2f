// Who runs next: the order of a grid's blocks and of a block's threads, decided by a seed.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/simt/engine.h"

namespace whence::simt {

class Scheduler {
 public:
  static constexpr unsigned nobody = ~0u;

  void start_grid(const Schedule& schedule, uint64_t blocks);
  uint64_t next_block();
  void start_block(unsigned warps);  // every lane is ready
  void set_ready(unsigned lane, bool is) {
    const uint32_t bit = uint32_t{1} << lane % 32;
    uint32_t& mask = ready_[lane / 32];
    mask = is ? mask | bit : mask & ~bit;
  }
  // The lane to run when the one that ran waits or has ended; nobody: none can.
  unsigned pick();
  // The lane to run where the one that runs could go on; nobody: let it.
  unsigned preempt();
  void rank_warps();  // anew, at random

 private:
  uint64_t random();
  unsigned random_lane(unsigned warp);  // a ready one

  Schedule schedule_;
  uint64_t state_ = 0;
  uint64_t blocks_ = 0, block_ = 0, step_ = 0;
  std::vector<uint32_t> ready_;  // a bit for each lane that can run, by warp
  std::vector<unsigned> ranks_;  // warps, the one to prefer first
};

}  // namespace whence::simt
