#include "kernels/simt/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "kernels/simt/engine.h"
#include "kernels/simt/sanitizers.h"

namespace whence::simt {
namespace {

constexpr size_t capacity = size_t{512} << 10;
constexpr unsigned char unset = 0xff, guard = 0xa5;

}  // namespace

Arena::~Arena() {
  if (!memory_) return;
  allow(memory_, capacity);
  munmap(memory_, capacity);
}

void Arena::start_block(size_t dynamic_bytes) {
  if (memory_ && race_detector) {  // another block's accesses must not meet this one's
    munmap(memory_, capacity);
    memory_ = nullptr;
  }
  if (!memory_) {
    void* p = mmap(nullptr, capacity, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    memory_ = static_cast<char*>(p);
  }
  allow(memory_, capacity);
  std::memset(memory_, guard, gap);
  forbid(memory_, gap);
  used_ = gap;
  static_bytes_ = 0;
  arrays_.clear();
  arrays_.push_back({nullptr, {}, used_, dynamic_bytes});
  open(dynamic_bytes);
}

char* Arena::open(size_t bytes) {
  char* at = memory_ + used_;
  const size_t rounded = (bytes + 15) / 16 * 16;
  std::memset(at, unset, bytes);
  std::memset(at + bytes, guard, rounded - bytes + gap);
  forbid(at + bytes, rounded - bytes + gap);
  used_ += rounded + gap;
  return at;
}

void* Arena::array(Site site, const void* tag, size_t bytes) {
  for (const Array& a : arrays_)
    if (a.tag == tag) return memory_ + a.at;
  const Unseen bookkeeping;  // whoever comes first does not write the array
  static_bytes_ += bytes;
  if (static_bytes_ > max_static_shared || static_bytes_ + arrays_[0].bytes > max_shared ||
      used_ + bytes + 2 * gap > capacity)
    return nullptr;
  arrays_.push_back({tag, site, used_, bytes});
  return open(bytes);
}

std::string Arena::overrun() const {
#ifndef WHENCE_ASAN
  const auto intact = [&](size_t from, size_t to) {
    return std::all_of(memory_ + from, memory_ + to,
                       [](char c) { return static_cast<unsigned char>(c) == guard; });
  };
  if (!intact(0, gap)) return "something was written before the first shared array";
  for (const Array& a : arrays_) {
    const size_t end = a.at + a.bytes;
    if (intact(end, (a.bytes + 15) / 16 * 16 + a.at + gap)) continue;
    const std::string which =
        a.tag ? "the shared array of " + text(a.site) : std::string("the dynamic shared memory");
    return "something was written past the end of " + which;
  }
#endif
  return {};
}

}  // namespace whence::simt
