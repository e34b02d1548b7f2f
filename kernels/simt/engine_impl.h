// One thread's emulator: the grid that runs, its block, its lanes. Internal to the engine.
#pragma once

#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/simt/arena.h"
#include "kernels/simt/copies.h"
#include "kernels/simt/engine.h"
#include "kernels/simt/fiber.h"
#include "kernels/simt/scheduler.h"

namespace whence::simt {

struct Lane {
  enum State : uint8_t { fresh, ready, at_barrier, at_operation, done };
  Dim thread;
  unsigned index = 0;
  State state = fresh;
  Site site;  // where it waits, in which operation, with what
  const char* operation = "";
  uint32_t mask = 0;
  uint32_t here = 0;      // of the first lane that came: those that have
  Lane* first = nullptr;  // to come
  void* operand = nullptr;
  Fiber* fiber = nullptr;
  Copies copies;
};

std::string text(Dim d);  // "(3, 0, 0)"

struct Skipped {
  std::string file;
  int line = 0;
  bool operator()(Site s) const {
    if (line == 0 || s.line != line) return false;
    const std::string_view at = s.file;
    return at.size() >= file.size() && at.substr(at.size() - file.size()) == file;
  }
};

// Places in memory that stand for orderings. A block has its own, so that one block's accesses do
// not come before another's.
struct Clocks {
  // Barriers take turns: a lane that runs ahead has reached the next one, never the one after,
  // while another still leaves this one.
  uint64_t barrier[2];
  uint64_t arrive[max_threads], depart[max_threads];  // warp barriers, by lane
  uint64_t paused[max_threads];  // for who looks after lanes that never end, by lane
};

struct Stopped {};  // thrown by what must not go on, caught at the root of the fiber

class Engine {
 public:
  void run(const Grid& grid, const Schedule& schedule, void (*body)(void*), void* data);
  void barrier(Site site);
  void warp_barrier(Site site, uint32_t mask);
  void operation(const char* name, Site site, uint32_t mask, void* operand,
                 void (*finish)(void* const operands[32]), bool orders);
  void yield(Site site);
  void fence(Site site);
  [[noreturn]] void fail(Site site, const std::string& what);
  [[noreturn]] static void enter();  // a fiber's life

  Lane* lane = nullptr;  // the one that runs
  Arena arena;
  Counts counts;
  Skipped skipped;
  std::vector<Site> sites;
  uint64_t seed_shift = 0, step_limit = default_step_limit;

 private:
  struct Activity;
  void check(const Grid& grid) const;
  void set_up_block(Dim index);
  void run_block(Dim index);
  void check_block(Dim index);
  void become(Lane* next);
  void wait(Lane::State state);  // gives the processor away until made ready
  void switch_to(Lane* next, bool forget);
  void check_end() const;
  void finish_lane();
  [[noreturn]] void leave();  // to the launching context, for good
  Lane* picked(unsigned index) { return index == Scheduler::nobody ? nullptr : &lanes_[index]; }
  void make_ready(Lane& l) {
    l.state = Lane::ready;
    scheduler_.set_ready(l.index, true);
  }
  void step(Site site) {
    if (++steps_ > step_limit) never_ends(site);
  }
  [[noreturn]] void never_ends(Site site);
  Lane* first_of(const char* name, Site site, uint32_t mask);
  void record(Site site);
  void drop_fibers() { free_.clear(), fibers_.clear(); }
  bool failed() const { return thrown_ || !error_.empty(); }
  std::string where(Dim block) const;
  std::string who_waits() const;

  const Grid* grid_ = nullptr;
  void (*body_)(void*) = nullptr;
  void* data_ = nullptr;
  Scheduler scheduler_;
  std::vector<Lane> lanes_;
  std::vector<uint32_t> in_operation_, ended_;  // lanes as bits, by warp
  size_t done_ = 0, at_barrier_ = 0;
  Site barrier_site_;  // where the first to come waits
  uint64_t barriers_ = 0, steps_ = 0;
  std::unique_ptr<Clocks> clocks_;
  std::unique_ptr<Fiber> home_;
  Fiber* running_ = nullptr;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> free_;
  std::string error_;
  std::exception_ptr thrown_;
  bool active_ = false;
};

}  // namespace whence::simt
