// Scratch memory of one thread, for operands that a kernel rearranges.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/vec.h"

namespace whence::cpu {
inline namespace WHENCE_ISA {

// At least `count` reals on a cache line boundary, contents unspecified. There is one piece per
// thread and Tag; it grows to the largest request and is kept for the thread's next kernel, so that
// running a plan again allocates nothing. A later call with the same Tag invalidates the pointer.
template <class Tag>
real* scratch(int64_t count) {
  constexpr size_t line = 64;
  static thread_local std::vector<real> memory;
  const size_t needed = size_t(count) + line / sizeof(real);
  if (memory.size() < needed) memory.assign(needed, 0);
  const auto address = reinterpret_cast<uintptr_t>(memory.data());
  return memory.data() + (line - address % line) % line / sizeof(real);
}

}  // namespace WHENCE_ISA
}  // namespace whence::cpu
