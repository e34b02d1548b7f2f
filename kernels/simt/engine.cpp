#include "kernels/simt/engine.h"

#include <cstring>

#include "kernels/simt/crash.h"
#include "kernels/simt/engine_impl.h"
#include "kernels/simt/sanitizers.h"

namespace whence::simt {

constinit thread_local Current current;

bool operator==(const Site& a, const Site& b) {
  return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0);
}

std::string text(Site s) {
  const char* slash = std::strrchr(s.file, '/');
  return std::string(slash ? slash + 1 : s.file) + ":" + std::to_string(s.line);
}

std::string text(Dim d) {
  return "(" + std::to_string(d.x) + ", " + std::to_string(d.y) + ", " + std::to_string(d.z) + ")";
}

namespace {

thread_local Engine engine;

}  // namespace

void Engine::check(const Grid& grid) const {
  const auto refuse = [&](const std::string& what) {
    throw Fault(std::string("kernel ") + grid.kernel + ": invalid launch: " + what);
  };
  if (active_) refuse("a kernel launched a kernel");
  if (grid.threads.count() == 0 || grid.threads.count() > max_threads || grid.threads.z > 64)
    refuse("a block of " + text(grid.threads) +
           " threads, 1 to 1024 are possible, 64 of them in z");
  if (grid.threads.count() % 32 != 0)
    refuse("a block of " + text(grid.threads) + " threads is not whole warps");
  if (grid.blocks.y > max_blocks_yz || grid.blocks.z > max_blocks_yz || grid.blocks.x > 0x7fffffffu)
    refuse("a grid of " + text(grid.blocks) + " blocks");
  if (grid.shared_bytes > max_shared)
    refuse(std::to_string(grid.shared_bytes) + " bytes of dynamic shared memory, at most " +
           std::to_string(max_shared) + " are possible");
}

// Leaves the engine fit for the next grid however this one ends.
struct Engine::Activity {
  Engine& e;
  explicit Activity(Engine& engine_) : e(engine_) { e.active_ = true; }
  ~Activity() {
    e.active_ = false;
    if (race_detector || e.failed() || e.done_ != e.lanes_.size()) e.drop_fibers();
  }
};

void Engine::run(const Grid& grid, const Schedule& schedule, void (*body)(void*), void* data) {
  check(grid);
  grid_ = &grid;
  body_ = body;
  data_ = data;
  if (!home_) home_ = std::make_unique<Fiber>();
  error_.clear();
  thrown_ = nullptr;
  lanes_.clear();
  done_ = 0;
  const Activity activity(*this);
  const CrashReport report(grid.kernel);
  ++counts.grids;
  const uint64_t blocks = grid.blocks.count();
  scheduler_.start_grid({schedule.order, schedule.seed + seed_shift}, blocks);
  for (uint64_t i = 0; i < blocks && !failed(); ++i) {
    const uint64_t n = scheduler_.next_block(), row = n / grid.blocks.x;
    run_block(Dim(n % grid.blocks.x, row % grid.blocks.y, row / grid.blocks.y));
  }
  acquire(this);  // what follows the grid comes after all that its threads did
  if (failed())
    for (const Lane& l : lanes_) acquire(&clocks_->paused[l.index]);
  if (thrown_) std::rethrow_exception(thrown_);
  if (!error_.empty()) throw Fault(error_);
}

void Engine::set_up_block(Dim index) {
  const Dim size = grid_->threads;
  lanes_.resize(size.count());
  for (unsigned i = 0; i < lanes_.size(); ++i) {
    Lane& l = lanes_[i];
    l.thread = Dim(i % size.x, i / size.x % size.y, i / size.x / size.y);
    l.index = i;
    l.state = Lane::fresh;
    l.fiber = nullptr;
    l.copies.start_block();
  }
  scheduler_.start_block(unsigned(lanes_.size() / 32));
  in_operation_.assign(lanes_.size() / 32, 0);
  ended_.assign(lanes_.size() / 32, 0);
  done_ = at_barrier_ = 0;
  barriers_ = steps_ = 0;
  current = {{}, index, size, grid_->blocks};
  arena.start_block(grid_->shared_bytes);
  if (race_detector) {
    // A fiber inherits what its maker has seen, so all are made here, before any runs; and neither
    // clocks nor stacks may be another block's.
    drop_fibers();
    clocks_ = std::make_unique<Clocks>();
    for (Lane& l : lanes_) {
      l.fiber = fibers_.emplace_back(std::make_unique<Fiber>(l.index)).get();
      l.fiber->prepare(enter);
    }
  } else if (!clocks_) {
    clocks_ = std::make_unique<Clocks>();
  }
}

void Engine::run_block(Dim index) {
  set_up_block(index);
  ++counts.blocks;
  counts.threads += lanes_.size();
  running_ = home_.get();
  switch_to(picked(scheduler_.pick()), false);
  if (!failed()) check_block(index);
}

void Engine::check_block(Dim index) {
  if (done_ != lanes_.size())
    error_ = where(index) + ": deadlock: " + who_waits();
  else if (const std::string overrun = arena.overrun(); !overrun.empty())
    error_ = where(index) + ": " + overrun;
}

void Engine::enter() {
  Fiber::arrived();
  engine.become(engine.lane);
  for (;;) {
    try {
      engine.body_(engine.data_);
      engine.check_end();
    } catch (const Stopped&) {
    } catch (...) {
      engine.thrown_ = std::current_exception();
    }
    if (engine.failed()) engine.leave();
    engine.finish_lane();
  }
}

void Engine::check_end() const {
  if (lane->copies.in_flight())
    engine.fail({}, "the thread ended while its asynchronous copies are in flight");
  if (at_barrier_ > 0)
    engine.fail({}, "the thread ended while " + std::to_string(at_barrier_) +
                        " of its block wait at the barrier at " + text(barrier_site_));
}

// Runs on the fiber of a lane that has returned; comes back to run another fresh lane on it.
void Engine::finish_lane() {
  lane->state = Lane::done;
  ended_[lane->index / 32] |= uint32_t{1} << lane->index % 32;
  scheduler_.set_ready(lane->index, false);
  ++done_;
  Lane* next = picked(scheduler_.pick());
  if (!next) leave();
  release(this);
  if (race_detector) return switch_to(next, true);
  if (next->state == Lane::fresh) {
    next->fiber = running_;
    return become(next);
  }
  free_.push_back(running_);
  switch_to(next, true);
}

void Engine::become(Lane* next) {
  lane = next;
  next->state = Lane::ready;
  current.thread = next->thread;
}

void Engine::switch_to(Lane* next, bool forget) {
  ++counts.switches;
  Fiber* from = running_;
  if (from != home_.get()) release(&clocks_->paused[lane->index]);
  lane = next;
  if (next->state == Lane::fresh && !next->fiber) {
    if (free_.empty())
      free_.push_back(fibers_.emplace_back(std::make_unique<Fiber>(fibers_.size())).get());
    next->fiber = free_.back();
    free_.pop_back();
    next->fiber->prepare(enter);
  }
  running_ = next->fiber;
  current.thread = next->thread;
  next->fiber->resume(*from, forget);
}

void Engine::leave() {
  release(this);
  if (!failed() && !race_detector && done_ == lanes_.size()) free_.push_back(running_);
  home_->resume(*running_, true);
  std::terminate();  // nobody resumes a fiber that has left
}

void Engine::wait(Lane::State state) {
  lane->state = state;
  scheduler_.set_ready(lane->index, false);
  Lane* next = picked(scheduler_.pick());
  if (!next) leave();
  switch_to(next, false);
}

void Engine::yield(Site site) {
  step(site);
  Lane* next = picked(scheduler_.preempt());
  if (next && next != lane) switch_to(next, false);
}

void run_grid(const Grid& grid, const Schedule& schedule, void (*body)(void*), void* data) {
  engine.run(grid, schedule, body, data);
}
Counts counts() { return engine.counts; }
void skip_barriers(std::string file, int line) { engine.skipped = {std::move(file), line}; }
std::vector<Site> barrier_sites() { return engine.sites; }
void forget_barrier_sites() { engine.sites.clear(); }
void shift_seeds(uint64_t by) { engine.seed_shift = by; }
void limit_steps(uint64_t steps) { engine.step_limit = steps; }

void block_barrier(Site site) { engine.barrier(site); }
void warp_operation(const char* name, Site site, uint32_t mask, void* operand,
                    void (*finish)(void* const operands[32])) {
  engine.operation(name, site, mask, operand, finish, false);
}
void warp_barrier(Site site, uint32_t mask) { engine.warp_barrier(site, mask); }
unsigned lane_number() { return engine.lane->index % 32; }
void* static_shared(Site site, const void* tag, size_t bytes) {
  void* at = engine.arena.array(site, tag, bytes);
  if (!at)
    engine.fail(site, "more than " + std::to_string(max_static_shared) +
                          " bytes of static shared memory, or " + std::to_string(max_shared) +
                          " of both kinds");
  return at;
}
void* dynamic_shared() { return engine.arena.dynamic(); }
void preempt(Site site) { engine.yield(site); }
void fence(Site site) { engine.fence(site); }
void copy_issue(void* to, const void* from, unsigned bytes) {
  engine.lane->copies.issue(to, from, bytes);
}
void copy_commit() { engine.lane->copies.commit(); }
void copy_wait(int groups_in_flight) { engine.lane->copies.wait(groups_in_flight); }
void fault(Site site, const std::string& what) { engine.fail(site, what); }

}  // namespace whence::simt
