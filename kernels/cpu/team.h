// The threads that CPU kernels share. A caller never waits for another thread to begin: it works
// through the parts itself, and threads that are free take parts from it. So a machine that is busy
// with other things costs what it takes, a process may fork, and callers of several threads may
// share the team.
#pragma once

#include <cstdint>

namespace whence::cpu {

// Calls f(context, part) for every part from 0 to parts - 1, on the calling thread and at most
// threads - 1 others, and returns when all calls have. f does not throw. Within f this may be
// called again.
void run_parts(int64_t parts, int threads, void (*f)(void* context, int64_t part), void* context);

}  // namespace whence::cpu
