// Scratch: memory that a kernel uses only while it runs.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>

namespace whence {

// How a plan hands scratch memory to the kernels on its stream, in two rounds. First it asks: a
// kernel takes its scratch as always, but reads and writes no operand and computes nothing, so
// operands need not exist yet. Then, before every run, it lends that much. Where nobody asks or
// lends, kernels get memory from elsewhere.
class Loan {
 public:
  static constexpr size_t alignment = 256;  // of lent memory on a device, as if allocated there

  void ask() { *this = Loan(State::asking, nullptr, 0); }
  void lend(void* memory, size_t bytes) { *this = Loan(State::lent, memory, bytes); }
  void end() { *this = Loan(); }
  bool asking() const { return state_ == State::asking; }
  bool lent() const { return state_ == State::lent; }
  // The most that was taken at a time since ask() or lend().
  size_t most() const { return most_; }

  // Lent memory, on a cache line boundary; null while there is none. What is taken last is given
  // back first.
  void* take(size_t bytes) {
    const size_t at = taken_, end = at + rounded(bytes);
    if (lent() && end > bytes_)
      throw std::logic_error("a kernel takes more scratch memory than it has asked for");
    taken_ = end;
    most_ = std::max(most_, end);
    return lent() ? static_cast<char*>(memory_) + at : nullptr;
  }
  void give_back(size_t bytes) { taken_ -= rounded(bytes); }
  // As take(), for work on a queue: until the next call.
  void* take_for_queue(size_t bytes) {
    void* const memory = take(bytes);
    give_back(bytes);
    return asking() ? nowhere() : memory;
  }
  // An address for what nobody will touch.
  static void* nowhere() { return reinterpret_cast<void*>(64 * alignment); }

 private:
  enum class State : uint8_t { none, asking, lent };
  Loan(State state, void* memory, size_t bytes) : state_(state), memory_(memory), bytes_(bytes) {}
  static size_t rounded(size_t bytes) { return (bytes + 63) / 64 * 64; }

  State state_ = State::none;
  void* memory_ = nullptr;
  size_t bytes_ = 0, taken_ = 0, most_ = 0;

 public:
  Loan() = default;
};

}  // namespace whence
