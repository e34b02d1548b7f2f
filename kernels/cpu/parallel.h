// Work sharing: contiguous ranges of independent items for the stream's threads. No kernel shares
// out a sum, so what an element's bits are does not depend on how many threads there were.
#pragma once

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <exception>

#include "kernels/kernel.h"

namespace whence::cpu {

// Carries the first exception of a parallel region (scratch memory may run out) to the caller.
class FirstError {
 public:
  template <class F>
  void guard(F&& f) noexcept {
    try {
      f();
    } catch (...) {
      if (!taken_.exchange(true)) error_ = std::current_exception();
    }
  }
  void rethrow() {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  std::atomic<bool> taken_{false};
  std::exception_ptr error_;
};

// f(begin, end) for at most `threads` contiguous ranges that cover [0, items). A range has at least
// `grain` items, so that work of a few microseconds starts no threads.
template <class F>
void parallel_ranges(const Stream& s, int64_t items, int64_t grain, F&& f) {
  if (items <= 0) return;
  const int64_t parts =
      std::clamp<int64_t>(items / std::max<int64_t>(grain, 1), 1, std::max(s.threads, 1));
  if (parts == 1) {
    f(int64_t{0}, items);
    return;
  }
  FirstError error;
#pragma omp parallel num_threads(int(parts))
  {
    // Fewer threads than asked for may come; each takes every team-th range.
    for (int64_t p = omp_get_thread_num(); p < parts; p += omp_get_num_threads())
      error.guard([&] { f(items * p / parts, items * (p + 1) / parts); });
  }
  error.rethrow();
}

// f(item) for heavy items of unequal or disturbed duration: a thread takes the next one when it is
// free.
template <class F>
void parallel_items(const Stream& s, int64_t items, F&& f) {
  const int64_t team = std::min<int64_t>(std::max(s.threads, 1), items);
  if (team <= 1) {
    for (int64_t i = 0; i < items; ++i) f(i);
    return;
  }
  FirstError error;
#pragma omp parallel for num_threads(int(team)) schedule(dynamic, 1)
  for (int64_t i = 0; i < items; ++i) error.guard([&] { f(i); });
  error.rethrow();
}

// Elements of memory traffic that are worth a thread: about 10 microseconds.
inline constexpr int64_t elements_per_thread = 32768;
inline int64_t row_grain(int64_t cols) {
  return std::max<int64_t>(1, elements_per_thread / std::max<int64_t>(cols, 1));
}

}  // namespace whence::cpu
