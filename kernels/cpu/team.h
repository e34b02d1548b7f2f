// The threads that CPU kernels share. A caller never waits for another thread to begin: it works
// through the parts itself, and threads that are free take parts from it. So a machine that is busy
// with other things costs what it takes, a process may fork, and callers of several threads may
// share the team.
#pragma once

#include <cstdint>

namespace whence::cpu {

// Calls f(context, part, worker) for every part from 0 to parts - 1, on the calling thread, which
// is worker 0, and at most threads - 1 others, and returns when all calls have. No two calls at a
// time have the same worker. f does not throw. Within f this may be called again.
using PartFunction = void (*)(void* context, int64_t part, int64_t worker);
void run_parts(int64_t parts, int threads, PartFunction f, void* context);

}  // namespace whence::cpu
