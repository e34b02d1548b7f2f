// Scratch memory of one call of a kernel, for operands that it rearranges.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

#include "kernels/kernel.h"

namespace whence::cpu {

// `each` elements for each of `workers` threads, contents unspecified, every piece on a cache line
// boundary: what the stream lends, or memory for the length of the call. Made and destroyed on the
// thread that called the kernel, the last one first.
template <class T>
class Scratch {
 public:
  Scratch(const Stream& s, int64_t workers, int64_t each)
      : loan_(s.loan), each_((each + in_line - 1) / in_line * in_line) {
    bytes_ = size_t(workers * each_) * sizeof(T);
    if (loan_) at_ = static_cast<T*>(loan_->take(bytes_));
    if (at_ || bytes_ == 0) return;
    own_.reset(static_cast<T*>(::operator new(bytes_, line)));
    at_ = own_.get();
  }
  ~Scratch() {
    if (loan_) loan_->give_back(bytes_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* of(int64_t worker) const { return at_ + worker * each_; }

 private:
  static constexpr std::align_val_t line{64};
  static constexpr int64_t in_line = 64 / sizeof(T);
  struct Free {
    void operator()(T* p) const { ::operator delete(p, line); }
  };
  Loan* loan_;
  int64_t each_;
  size_t bytes_ = 0;
  T* at_ = nullptr;
  std::unique_ptr<T, Free> own_;
};

// Where the parts of a worker's piece lie, one behind another.
class Layout {
 public:
  // The offset of a part of `count` reals.
  int64_t add(int64_t count) {
    constexpr int64_t in_line = 64 / sizeof(real);
    const int64_t at = total_;
    total_ += (count + in_line - 1) / in_line * in_line;
    return at;
  }
  int64_t total() const { return total_; }

 private:
  int64_t total_ = 0;
};

}  // namespace whence::cpu
