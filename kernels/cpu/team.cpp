#include "kernels/cpu/team.h"

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace whence::cpu {
namespace {

// On the stack of the caller, who leaves it when nobody helps any more.
struct Job {
  PartFunction f;
  void* context;
  int64_t parts;
  int places;  // helpers that may still come; under the team's mutex
  std::atomic<int64_t> next{0};
  std::atomic<int> helpers{0};

  void work(int64_t worker) {
    for (int64_t part = next.fetch_add(1); part < parts; part = next.fetch_add(1))
      f(context, part, worker);
  }
};

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

class Team {
 public:
  void run(Job& job, int threads) {
    {
      const std::lock_guard lock(mutex_);
      grow(threads - 1);
      job.places = threads - 1;
      jobs_.push_back(&job);
    }
    published_.fetch_add(1);
    published_.notify_all();
    job.work(0);
    {
      const std::lock_guard lock(mutex_);
      jobs_.erase(std::find(jobs_.begin(), jobs_.end(), &job));
    }
    // What is left are parts that helpers have begun.
    for (int i = 0; job.helpers.load(std::memory_order_acquire) > 0; ++i) {
      if (i < spins)
        pause();
      else
        std::this_thread::yield();
    }
  }

 private:
  // About 20 microseconds: the pauses between the steps of a plan are shorter.
  static constexpr int spins = 1000;

  // Fewer threads than wanted will do.
  void grow(int wanted) {
    try {
      for (; threads_ < wanted; ++threads_) std::thread([this] { help(); }).detach();
    } catch (const std::system_error&) {
    }
  }

  // A job to help with; `worker` is the place that was taken in it, which nobody else gets.
  Job* take(int64_t& worker) {
    const std::lock_guard lock(mutex_);
    for (Job* job : jobs_)
      if (job->places > 0 && job->next.load(std::memory_order_relaxed) < job->parts) {
        worker = job->places--;
        job->helpers.fetch_add(1, std::memory_order_relaxed);
        return job;
      }
    return nullptr;
  }

  void help() {
    std::fesetenv(FE_DFL_ENV);  // a thread inherits the rounding mode of the one that made it
    for (;;) {
      const uint32_t seen = published_.load();
      int64_t worker = 0;
      if (Job* job = take(worker)) {
        job->work(worker);
        job->helpers.fetch_sub(1, std::memory_order_release);  // the job may be gone from here on
        continue;
      }
      for (int i = 0; i < spins && published_.load(std::memory_order_relaxed) == seen; ++i) pause();
      published_.wait(seen);
    }
  }

  std::mutex mutex_;
  std::vector<Job*> jobs_;
  int threads_ = 0;
  std::atomic<uint32_t> published_{0};
};

// Never destroyed: its threads end with the process.
Team& team() {
  static Team* const one = new Team;
  return *one;
}

}  // namespace

void run_parts(int64_t parts, int threads, PartFunction f, void* context) {
  Job job{f, context, parts, 0, {}, {}};
  if (threads <= 1 || parts <= 1)
    job.work(0);
  else
    team().run(job, int(std::min<int64_t>(threads, parts)));
}

}  // namespace whence::cpu
