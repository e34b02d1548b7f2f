// What the sanitizers must be told about fibers, shared memory and ordering; nothing in other
// builds. The build defines WHENCE_TSAN where it uses the thread sanitizer, also for the files that
// are compiled without it.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define WHENCE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WHENCE_ASAN 1
#endif
#endif
#ifdef WHENCE_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef WHENCE_TSAN
#include <sanitizer/tsan_interface.h>
extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
// For code that reads other lanes' operands on their behalf: hardware does that without ordering
// memory.
#define WHENCE_UNSEEN_BY_TSAN __attribute__((no_sanitize("thread")))
#else
#define WHENCE_UNSEEN_BY_TSAN
#endif

namespace whence::simt {

#ifdef WHENCE_TSAN
inline constexpr bool race_detector = true;
// All that happened before release(at) happens before what follows acquire(at).
inline void release(void* at) { __tsan_release(at); }
inline void acquire(void* at) { __tsan_acquire(at); }
// While one lives, what the running thread does is no access: the engine's own bookkeeping, whose
// calls of malloc and memset the detector sees even where the caller is not instrumented.
class Unseen {
 public:
  Unseen() {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~Unseen() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
  Unseen(const Unseen&) = delete;
  Unseen& operator=(const Unseen&) = delete;
};
#else
inline constexpr bool race_detector = false;
inline void release(void*) {}
inline void acquire(void*) {}
class Unseen {
 public:
  Unseen() {}
  ~Unseen() {}
};
#endif

#ifdef WHENCE_ASAN
inline void forbid(const void* at, size_t bytes) { __asan_poison_memory_region(at, bytes); }
inline void allow(const void* at, size_t bytes) { __asan_unpoison_memory_region(at, bytes); }
#else
inline void forbid(const void*, size_t) {}
inline void allow(const void*, size_t) {}
#endif

}  // namespace whence::simt
