// Where lanes meet: barriers, warp operations, and what is said when they cannot.
#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/simt/engine_impl.h"
#include "kernels/simt/sanitizers.h"

namespace whence::simt {

// A flag that is read between fences orders what stands before the one and after the other. Which
// flags are read is not known here, so every fence comes after all earlier ones.
void Engine::fence(Site site) {
  release(&counts);
  yield(site);
  acquire(&counts);
}

void Engine::barrier(Site site) {
  if (skipped(site)) return;
  step(site);
  if (done_ > 0)
    fail(site, std::to_string(done_) + " threads of the block ended before this barrier");
  if (at_barrier_ == 0)
    barrier_site_ = site;
  else if (site != barrier_site_)
    fail(site, "divergent barrier: another thread of the block waits at " + text(barrier_site_));
  lane->site = site;
  uint64_t* clock = &clocks_->barrier[barriers_ % 2];
  release(clock);
  if (++at_barrier_ < lanes_.size()) {
    wait(Lane::at_barrier);
  } else {
    Lane* self = lane;
    at_barrier_ = 0;
    ++barriers_;
    record(site);
    for (Lane& l : lanes_)
      if (&l != self) make_ready(l);
    scheduler_.rank_warps();
  }
  acquire(clock);
}

void Engine::warp_barrier(Site site, uint32_t mask) {
  if (skipped(site)) return;
  const unsigned index = lane->index;
  release(&clocks_->arrive[index]);
  operation("__syncwarp", site, mask, nullptr, nullptr, true);
  acquire(&clocks_->depart[index]);
}

// The lane that came first to the operation that the running lane comes to; itself, perhaps.
Lane* Engine::first_of(const char* name, Site site, uint32_t mask) {
  const unsigned warp = lane->index / 32;
  const uint32_t mine = uint32_t{1} << lane->index % 32;
  const auto refuse = [&](const std::string& what) { fail(site, std::string(name) + ": " + what); };
  const auto lowest = [](uint32_t bits) { return unsigned(std::countr_zero(bits)); };
  if (!(mask & mine)) refuse("the thread is not in its own mask " + std::to_string(mask));
  if (const uint32_t gone = mask & ended_[warp])
    refuse("lane " + std::to_string(lowest(gone)) + " of the mask has ended");
  Lane* first = lane;
  for (uint32_t rest = in_operation_[warp] & mask; rest != 0;) {
    const unsigned i = lowest(rest);
    const Lane& other = lanes_[warp * 32 + i];
    rest &= ~(uint32_t{1} << i);
    if (!(other.mask & mine)) continue;  // waits for others and may meet this lane later
    if (other.mask != mask || std::strcmp(other.operation, name) != 0 || other.site != site)
      refuse("lane " + std::to_string(i) + " of the warp is in " + other.operation + " at " +
             text(other.site) + (other.mask != mask ? " with another mask" : ""));
    first = other.first;
    rest &= ~first->here;
  }
  return first;
}

void Engine::operation(const char* name, Site site, uint32_t mask, void* operand,
                       void (*finish)(void* const operands[32]), bool orders) {
  step(site);
  Lane *self = lane, *lanes = self - self->index % 32;
  uint32_t& in_operation = in_operation_[self->index / 32];
  const uint32_t mine = uint32_t{1} << self->index % 32;
  self->first = first_of(name, site, mask);
  self->site = site;
  self->operation = name;
  self->mask = mask;
  self->operand = operand;
  uint32_t& here = self->first->here;
  here = self->first == self ? mine : here | mine;
  if (here != mask) {
    in_operation |= mine;
    return wait(Lane::at_operation);
  }
  in_operation &= ~mask;
  const auto each = [&](auto f) {
    for (unsigned i = 0; i < 32; ++i)
      if (mask >> i & 1) f(lanes[i]);
  };
  if (finish) {
    void* operands[32] = {};
    each([&](Lane& l) { operands[l.index % 32] = l.operand; });
    finish(operands);
  }
  if (orders) {
    record(site);
    each([&](Lane& l) { acquire(&clocks_->arrive[l.index]); });
    each([&](Lane& l) { release(&clocks_->depart[l.index]); });
  }
  each([&](Lane& l) {
    if (&l != self) make_ready(l);
  });
}

void Engine::record(Site site) {
  if (std::find(sites.begin(), sites.end(), site) != sites.end()) return;
  const Unseen bookkeeping;
  sites.push_back(site);
}

std::string Engine::where(Dim block) const {
  return std::string("kernel ") + grid_->kernel + ", block " + text(block);
}

std::string Engine::who_waits() const {
  struct Group {
    std::string where;
    size_t count;
  };
  std::vector<Group> groups;
  for (const Lane& l : lanes_) {
    const std::string where = l.state == Lane::at_barrier ? "wait at the barrier at " + text(l.site)
                              : l.state == Lane::at_operation
                                  ? std::string("wait in ") + l.operation + " at " + text(l.site)
                                  : "have ended";
    const auto it = std::find_if(groups.begin(), groups.end(),
                                 [&](const Group& g) { return g.where == where; });
    if (it == groups.end())
      groups.push_back({where, 1});
    else
      ++it->count;
  }
  std::string all;
  for (const Group& g : groups)
    all += (all.empty() ? "" : ", ") + std::to_string(g.count) + " threads " + g.where;
  return all;
}

void Engine::never_ends(Site site) {
  fail(site, "no end after " + std::to_string(step_limit) +
                 " waits and atomics of this block: a thread seems to wait for what never comes");
}

void Engine::fail(Site site, const std::string& what) {
  error_ = where(current.block) + ", thread " + text(lane->thread) +
           (site.line ? ", " + text(site) : "") + ": " + what;
  throw Stopped{};
}

}  // namespace whence::simt
