#include "kernels/simt/stream.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <deque>
#include <map>
#include <mutex>

#include "kernels/device_error.h"
#include "kernels/simt/sanitizers.h"

namespace whence::simt {
namespace {

using k::DeviceError;

// All device memory of the process. Pages are open only while some queue runs. An allocation ends
// where its last page ends as nearly as alignment allows, and the page after it is never open.
class Memory {
 public:
  void* allocate(size_t bytes) {
    const size_t page = size_t(sysconf(_SC_PAGESIZE));
    const size_t room = (bytes + align - 1) / align * align;
    const size_t pages = (room + page - 1) / page * page;
    void* p =
        mmap(nullptr, pages + page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return nullptr;
    auto* base = static_cast<char*>(p);
    if (mprotect(base, pages, PROT_READ | PROT_WRITE) != 0) {
      munmap(base, pages + page);
      return nullptr;
    }
    std::memset(base, 0xff, pages);  // NaN: memory that nobody set must not look like zeros
    char* at = base + (pages - room);
    forbid(base, pages - room);
    forbid(at + bytes, room - bytes);
    const std::lock_guard lock(mutex_);
    blocks_[at] = {base, pages, page};
    if (running_ == 0) mprotect(base, pages, PROT_NONE);
    return at;
  }

  void release(void* at) noexcept {
    const std::lock_guard lock(mutex_);
    const auto it = blocks_.find(static_cast<char*>(at));
    if (it == blocks_.end()) return;
    const Block b = it->second;
    blocks_.erase(it);
    allow(b.base, b.pages);
    // The addresses stay closed for a while: a use after the release must not meet other memory.
    mprotect(b.base, b.pages, PROT_NONE);
    madvise(b.base, b.pages, MADV_DONTNEED);
    released_.push_back(b);
    if (released_.size() <= max_released) return;
    munmap(released_.front().base, released_.front().pages + released_.front().guard);
    released_.pop_front();
  }

  void open(bool on) {
    const std::lock_guard lock(mutex_);
    running_ += on ? 1 : -1;
    if (running_ != (on ? 1 : 0)) return;
    for (const auto& [at, block] : blocks_)
      mprotect(block.base, block.pages, on ? PROT_READ | PROT_WRITE : PROT_NONE);
  }

 private:
  static constexpr size_t align = 256;  // as cudaMalloc's
  static constexpr size_t max_released = 256;
  struct Block {
    char* base;
    size_t pages, guard;
  };
  std::mutex mutex_;
  std::map<char*, Block> blocks_;
  std::deque<Block> released_;
  int running_ = 0;
};

Memory& memory() {
  static Memory& m = *new Memory;  // static objects may own device memory
  return m;
}

class Injector {
 public:
  void set(Injection injection) {
    const std::lock_guard lock(mutex_);
    injection_ = injection;
    lost_ = false;
  }
  bool fails(Injection::Kind kind) {
    const std::lock_guard lock(mutex_);
    if (lost_) return true;
    if (injection_.kind != kind || --injection_.nth != 0) return false;
    lost_ = injection_.sticky;
    return true;
  }
  bool lost() {
    const std::lock_guard lock(mutex_);
    return lost_;
  }

 private:
  std::mutex mutex_;
  Injection injection_;
  bool lost_ = false;
};

Injector& injector() {
  static Injector& i = *new Injector;
  return i;
}

[[noreturn]] void throw_lost() {
  throw DeviceError(DeviceError::lost, "the device was lost by an earlier fault");
}

std::mutex default_mutex;
Schedule default_schedule;

Schedule schedule_now() {
  const std::lock_guard lock(default_mutex);
  return default_schedule;
}

}  // namespace

struct Stream::Queue {
  Schedule schedule;
  std::vector<std::function<void()>> work;
  // scratch; the last one is in use, the others until the queue has run
  std::vector<std::shared_ptr<void>> rooms;
  size_t room_bytes = 0;
  bool lost = false;
  void add(Injection::Kind kind, const char* what, std::function<void()> item) {
    if (lost) throw_lost();
    if (injector().fails(kind)) {
      lost = injector().lost();
      throw DeviceError(lost ? DeviceError::lost : DeviceError::refused,
                        std::string("an injected failure of a ") + what);
    }
    work.push_back(std::move(item));
  }
};

Stream::Stream() : Stream(schedule_now()) {}
Stream::Stream(Schedule schedule) : queue_(std::make_unique<Queue>()) {
  queue_->schedule = schedule;
}
Stream::~Stream() = default;
Stream::Stream(Stream&&) noexcept = default;
Stream& Stream::operator=(Stream&&) noexcept = default;

std::shared_ptr<void> Stream::allocate(size_t bytes) {
  const bool fails = injector().fails(Injection::allocation);
  if (injector().lost()) throw_lost();
  void* at = fails ? nullptr : memory().allocate(bytes);
  if (!at) return nullptr;
  return {at, [](void* p) { memory().release(p); }};
}

void Stream::copy_in(void* to, const void* from, size_t bytes) {
  queue_->add(Injection::copy, "copy", [=] { std::memcpy(to, from, bytes); });
}
void Stream::copy_out(void* to, const void* from, size_t bytes) {
  queue_->add(Injection::copy, "copy", [=] { std::memcpy(to, from, bytes); });
}

void Stream::copy_within(void* to, const void* from, size_t bytes) {
  queue_->add(Injection::copy, "copy", [=] { std::memcpy(to, from, bytes); });
}

void Stream::launch(const Grid& grid, std::function<void()> kernel) {
  queue_->add(Injection::launch, "launch",
              [grid, kernel = std::move(kernel), schedule = queue_->schedule]() mutable {
                run_grid(
                    grid, schedule, [](void* f) { (*static_cast<std::function<void()>*>(f))(); },
                    &kernel);
              });
}

void Stream::synchronize() {
  Queue& q = *queue_;
  q.add(Injection::synchronize, "synchronisation", [] {});
  std::vector<std::function<void()>> work;
  work.swap(q.work);
  memory().open(true);
  try {
    for (auto& item : work) item();
  } catch (const Fault& f) {
    memory().open(false);
    q.lost = true;
    throw DeviceError(DeviceError::lost, f.what());
  } catch (...) {
    memory().open(false);
    throw;
  }
  memory().open(false);
  if (q.rooms.size() > 1) q.rooms.erase(q.rooms.begin(), q.rooms.end() - 1);
}

void* Stream::scratch(size_t bytes) {
  if (loan && (loan->asking() || loan->lent())) return loan->take_for_queue(bytes);
  Queue& q = *queue_;
  if (q.lost) throw_lost();
  if (bytes > q.room_bytes || q.rooms.empty()) {
    std::shared_ptr<void> room = allocate(bytes);
    if (!room)
      throw DeviceError(DeviceError::out_of_memory,
                        "no " + std::to_string(bytes) + " bytes of device memory");
    q.rooms.push_back(std::move(room));
    q.room_bytes = bytes;
  }
  return q.rooms.back().get();
}

void Stream::inject(Injection injection) { injector().set(injection); }
void Stream::set_schedule(Schedule schedule) {
  const std::lock_guard lock(default_mutex);
  default_schedule = schedule;
}

}  // namespace whence::simt
