// One caller at a time, for objects that are no use to two: the second is refused, not made to
// wait.
#pragma once

#include <atomic>

#include "runtime/check.h"

namespace whence {

class Exclusive {
 public:
  // `what`: "the plan". Throws busy while another one of the same flag lives.
  Exclusive(std::atomic_flag& flag, const char* what) : flag_(flag) {
    if (flag_.test_and_set(std::memory_order_acquire))
      fail(ErrorCode::busy, "{} is busy: it does one thing at a time", what);
  }
  ~Exclusive() { flag_.clear(std::memory_order_release); }
  Exclusive(const Exclusive&) = delete;
  Exclusive& operator=(const Exclusive&) = delete;

 private:
  std::atomic_flag& flag_;
};

}  // namespace whence
