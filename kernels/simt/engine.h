// The emulator's engine: runs a grid of CUDA threads on the host, each as a fiber, so that a kernel
// is executed, and its mistakes are found, where there is no GPU.
//
// A block at a time, its warps in an order that a seed decides. A fiber runs until it waits: at a
// block barrier, or in a warp operation until every lane of the mask has come. Shared memory is an
// arena that starts as NaN and has guarded gaps between arrays. What cannot go on is a Fault that
// says who waits where. A thread that spins on memory without any call of device.h is not noticed.
//
// Under the thread sanitizer every CUDA thread is a thread of its own for the detector: barriers,
// warp barriers and the ends of grids order accesses, fences order fences, and shuffles, votes and
// atomics order nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/dim.h"

namespace whence::simt {

using k::Dim;

struct Site {
  const char* file = "";
  int line = 0;
  friend bool operator==(const Site& a, const Site& b);
};
std::string text(Site s);  // "rows.cu:12"

// A fault that the emulator found in a kernel or its launch.
class Fault : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Which ready thread runs next. priority: a seed ranks the warps, and the best-ranked one runs as
// far ahead as it can, which lockstep orders hide.
enum class Order : uint8_t { forward, reverse, random, priority };
struct Schedule {
  Order order = Order::priority;
  uint64_t seed = 0;
};

struct Grid {
  const char* kernel = "";
  Dim blocks, threads;
  size_t shared_bytes = 0;  // dynamic
};

// The limits of the devices that kernels are written for (compute capability 8.0 and later).
inline constexpr size_t max_static_shared = size_t{48} << 10, max_shared = size_t{163} << 10;
inline constexpr unsigned max_threads = 1024, max_blocks_yz = 65535;

// Runs body(data) once for each thread of the grid. Throws Fault, and what the body throws.
void run_grid(const Grid& grid, const Schedule& schedule, void (*body)(void*), void* data);

// What has run on this thread of the host so far.
struct Counts {
  uint64_t grids = 0, blocks = 0, threads = 0, switches = 0;
};
Counts counts();

// For tests; each applies to the grids that this thread of the host runs.
//
// Makes the barriers and warp barriers of one line do nothing: a test that does not notice does not
// need them. `file` is compared with the end of the path; line 0 skips nothing.
void skip_barriers(std::string file, int line);
std::vector<Site> barrier_sites();  // of the barriers and warp barriers that have been passed
void forget_barrier_sites();
void shift_seeds(uint64_t by);  // added to the seed of every grid
// The number of waits and atomics after which a block counts as one that never ends.
inline constexpr uint64_t default_step_limit = uint64_t{1} << 26;
void limit_steps(uint64_t steps);

// --- what the functions of device.h are made of; valid inside run_grid only ---

struct Current {
  Dim thread, block, threads, blocks;
};
extern constinit thread_local Current current;

void block_barrier(Site site);
// The lanes of `mask` meet. The last one to come runs `finish` on all operands (null for lanes
// outside the mask). Operations that have a name are told apart by it.
void warp_operation(const char* name, Site site, uint32_t mask, void* operand,
                    void (*finish)(void* const operands[32]));
void warp_barrier(Site site, uint32_t mask);
unsigned lane_number();
// The array that `site` declares, one for each block; `tag` is an address of its own for each
// declaration and each instance of a template around it. The dynamic array, of the launch's bytes.
void* static_shared(Site site, const void* tag, size_t bytes);
void* dynamic_shared();
void preempt(Site site = {});  // another thread may run now
void fence(Site site);
void copy_issue(void* to, const void* from, unsigned bytes);
void copy_commit();
void copy_wait(int groups_in_flight);
[[noreturn]] void fault(Site site, const std::string& what);

}  // namespace whence::simt
