// Work sharing: contiguous ranges of independent items for the stream's threads. No kernel shares
// out a sum, so what an element's bits are does not depend on how many threads there were.
#pragma once

#include <algorithm>
#include <atomic>
#include <exception>
#include <type_traits>

#include "kernels/cpu/team.h"
#include "kernels/kernel.h"

namespace whence::cpu {

// Carries the first exception of a parallel region to the caller.
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

// The most threads that work on so many parts. A region passes the number of the thread that calls
// it, 0 .. workers() - 1, to functions that want it as their last argument.
inline int64_t workers(const Stream& s, int64_t parts) {
  return std::clamp<int64_t>(parts, 1, std::max(s.threads, 1));
}

template <class F, class... A>
void call(F& f, int64_t worker, A... arguments) {
  if constexpr (std::is_invocable_v<F&, A..., int64_t>)
    f(arguments..., worker);
  else
    f(arguments...);
}

// g(part) for every part from 0 to parts - 1.
template <class G>
void parallel_parts(const Stream& s, int64_t parts, G&& g) {
  struct Context {
    G& g;
    FirstError error;
  } context{g, {}};
  run_parts(
      parts, s.threads,
      [](void* c, int64_t part, int64_t worker) {
        auto& own = *static_cast<Context*>(c);
        own.error.guard([&] { call(own.g, worker, part); });
      },
      &context);
  context.error.rethrow();
}

// How many ranges parallel_ranges() makes.
inline int64_t range_count(const Stream& s, int64_t items, int64_t grain) {
  constexpr int64_t ranges_per_thread = 4;  // a thread that was held up leaves the rest to others
  const int64_t most = s.threads > 1 ? s.threads * ranges_per_thread : 1;
  return std::clamp<int64_t>(items / std::max<int64_t>(grain, 1), 1, most);
}

// f(begin, end) for contiguous ranges that cover [0, items), a few for each thread. A range has at
// least `grain` items, so that work of a few microseconds starts no threads.
template <class F>
void parallel_ranges(const Stream& s, int64_t items, int64_t grain, F&& f) {
  if (items <= 0 || s.asking()) return;
  const int64_t parts = range_count(s, items, grain);
  if (parts == 1) return call(f, 0, int64_t{0}, items);
  parallel_parts(s, parts, [&](int64_t p, int64_t worker) {
    call(f, worker, items * p / parts, items * (p + 1) / parts);
  });
}

// f(item) for heavy items of unequal or disturbed duration: a thread takes the next one when it is
// free.
template <class F>
void parallel_items(const Stream& s, int64_t items, F&& f) {
  if (s.asking()) return;
  if (s.threads <= 1 || items <= 1) {
    for (int64_t i = 0; i < items; ++i) call(f, 0, i);
    return;
  }
  parallel_parts(s, items, f);
}

// Elements of memory traffic that are worth a thread: about 10 microseconds.
inline constexpr int64_t elements_per_thread = 32768;
inline int64_t row_grain(int64_t cols) {
  return std::max<int64_t>(1, elements_per_thread / std::max<int64_t>(cols, 1));
}

}  // namespace whence::cpu
