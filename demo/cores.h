// Work that is shared by all cores.
#pragma once

#include <algorithm>
#include <thread>

#include "kernels/cpu/parallel.h"

namespace whence::demo {

inline cpu::Stream every_core() { return {std::max(1, int(std::thread::hardware_concurrency()))}; }

}  // namespace whence::demo
