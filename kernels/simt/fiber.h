// Fibers: stacks that a thread switches between by hand.
#pragma once

#include <cstddef>
#include <memory>

namespace whence::simt {

// One stack with a guard page below it. The fiber that a thread starts on is default-constructed
// and has no stack of its own. Fibers stay on the thread that made them.
class Fiber {
 public:
  using Entry = void (*)();
  Fiber();
  explicit Fiber(size_t index);  // maps a stack; `index` staggers its top over cache sets
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // The next switch to this fiber calls `entry`, which must not return. What ran on the stack
  // before is forgotten without destructors.
  void prepare(Entry entry);
  // Leaves `from`, the running fiber, for this one; returns when somebody switches back. `forget`:
  // nobody will.
  void resume(Fiber& from, bool forget = false);
  // First thing on a fresh stack: completes the switch that came here.
  static void arrived();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

}  // namespace whence::simt
