// The objects behind the handles of a library's double.
#pragma once

#include <memory>
#include <mutex>
#include <set>
#include <vector>

namespace whence::twins {

// Which objects live. What was destroyed is kept, so that its address never means another object.
class Objects {
 public:
  // False where there is nowhere to put the handle.
  template <class T>
  bool create(T** handle, T value = {}) {
    if (!handle) return false;
    const std::lock_guard lock(mutex_);
    const auto object = std::make_shared<T>(std::move(value));
    all_.push_back(object);
    live_.insert(*handle = object.get());
    return true;
  }
  bool destroy(const void* handle) {
    const std::lock_guard lock(mutex_);
    return live_.erase(handle) > 0;
  }
  template <class... T>
  bool live(T*... handles) {
    const std::lock_guard lock(mutex_);
    return (live_.contains(handles) && ...);
  }
  size_t count() {
    const std::lock_guard lock(mutex_);
    return live_.size();
  }

 private:
  std::mutex mutex_;
  std::vector<std::shared_ptr<void>> all_;
  std::set<const void*> live_;
};

// Bytes [begin, end).
struct Memory {
  uintptr_t begin, end;
  Memory(const void* p, size_t bytes) : begin(reinterpret_cast<uintptr_t>(p)), end(begin + bytes) {}
  bool meets(const Memory& other) const { return begin < other.end && other.begin < end; }
  bool aligned(uintptr_t bytes) const { return begin % bytes == 0; }
};

}  // namespace whence::twins
