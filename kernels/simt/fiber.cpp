// Context switches: a hand-written one for x86-64, the C library's ucontext elsewhere.
#include "kernels/simt/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <new>

#include "kernels/simt/sanitizers.h"

#if !defined(__x86_64__) || defined(WHENCE_UCONTEXT)
#define WHENCE_SWITCH_UCONTEXT 1
#include <ucontext.h>
#endif

#ifndef WHENCE_SWITCH_UCONTEXT
// Saves the registers that a call preserves and the stack pointer, then continues where `to` was
// saved. The vector state is the caller's business by the System V convention; control words are
// the same on all fibers.
extern "C" void whence_simt_switch(void** from, void* to);
asm(R"(
.text
.p2align 4
.globl whence_simt_switch
.hidden whence_simt_switch
.type whence_simt_switch, @function
whence_simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size whence_simt_switch, .-whence_simt_switch
)");
#endif

namespace whence::simt {
namespace {

// Instrumented frames are several times larger.
#if defined(WHENCE_ASAN) || defined(WHENCE_TSAN)
constexpr size_t stack_bytes = size_t{256} << 10;
#else
constexpr size_t stack_bytes = size_t{64} << 10;
#endif

}  // namespace

struct Fiber::Context {
  char* mapping = nullptr;  // guard page, then the stack
  size_t mapped = 0;
  char *bottom = nullptr, *top = nullptr;
#ifdef WHENCE_SWITCH_UCONTEXT
  ucontext_t saved;
#else
  void* saved = nullptr;
#endif
#ifdef WHENCE_ASAN
  const void* thread_bottom = nullptr;  // of the thread's own stack, learned at the first switch
  size_t thread_size = 0;
  void* fake_stack = nullptr;
#endif
#ifdef WHENCE_TSAN
  void* tsan = nullptr;
#endif
};

namespace {

#ifdef WHENCE_ASAN
thread_local Fiber* left = nullptr;  // the fiber that the switch in progress came from
#endif

}  // namespace

Fiber::Fiber() : context_(std::make_unique<Context>()) {
#ifdef WHENCE_TSAN
  context_->tsan = __tsan_get_current_fiber();
#endif
}

Fiber::Fiber(size_t index) : context_(std::make_unique<Context>()) {
  const size_t page = size_t(sysconf(_SC_PAGESIZE));
  Context& c = *context_;
  c.mapped = page + stack_bytes;
  void* memory = mmap(nullptr, c.mapped, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  c.mapping = static_cast<char*>(memory);
  mprotect(c.mapping, page, PROT_NONE);
  c.bottom = c.mapping + page;
  c.top = c.bottom + stack_bytes - index % 16 * 192;
}

Fiber::~Fiber() {
  Context& c = *context_;
#ifdef WHENCE_TSAN
  if (c.mapping && c.tsan) __tsan_destroy_fiber(c.tsan);
#endif
  if (c.mapping) {
    allow(c.bottom, stack_bytes);
    munmap(c.mapping, c.mapped);
  }
}

void Fiber::prepare(Entry entry) {
  Context& c = *context_;
  allow(c.bottom, stack_bytes);
#ifdef WHENCE_TSAN
  if (c.tsan) __tsan_destroy_fiber(c.tsan);
  c.tsan = __tsan_create_fiber(0);
#endif
#ifdef WHENCE_SWITCH_UCONTEXT
  getcontext(&c.saved);
  c.saved.uc_stack.ss_sp = c.bottom;
  c.saved.uc_stack.ss_size = size_t(c.top - c.bottom);
  c.saved.uc_link = nullptr;
  makecontext(&c.saved, entry, 0);
#else
  // As if `entry` had been called: an aligned stack with a return address on it, here null so that
  // debuggers stop there.
  auto* at = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(c.top) / 16 * 16);
  *--at = nullptr;
  *--at = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--at = nullptr;
  c.saved = at;
#endif
}

void Fiber::resume(Fiber& from, [[maybe_unused]] bool forget) {
  Context &to = *context_, &old = *from.context_;
#ifdef WHENCE_ASAN
  left = &from;
  const void* bottom = to.mapping ? to.bottom : to.thread_bottom;
  const size_t size = to.mapping ? stack_bytes : to.thread_size;
  __sanitizer_start_switch_fiber(forget ? nullptr : &old.fake_stack, bottom, size);
#endif
#ifdef WHENCE_TSAN
  __tsan_switch_to_fiber(to.tsan, __tsan_switch_to_fiber_no_sync);
#endif
#ifdef WHENCE_SWITCH_UCONTEXT
  swapcontext(&old.saved, &to.saved);
#else
  whence_simt_switch(&old.saved, to.saved);
#endif
#ifdef WHENCE_ASAN
  const void* from_bottom = nullptr;
  size_t from_size = 0;
  __sanitizer_finish_switch_fiber(old.fake_stack, &from_bottom, &from_size);
  if (left && !left->context_->mapping) {
    left->context_->thread_bottom = from_bottom;
    left->context_->thread_size = from_size;
  }
#endif
}

void Fiber::arrived() {
#ifdef WHENCE_ASAN
  const void* from_bottom = nullptr;
  size_t from_size = 0;
  __sanitizer_finish_switch_fiber(nullptr, &from_bottom, &from_size);
  if (left && !left->context_->mapping) {
    left->context_->thread_bottom = from_bottom;
    left->context_->thread_size = from_size;
  }
#endif
}

}  // namespace whence::simt
