// Work sharing among threads.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cfenv>
#include <numeric>
#include <stdexcept>
#include <thread>

#include "kernels/cpu/parallel.h"

namespace whence {
namespace {

using cpu::parallel_items;
using cpu::parallel_ranges;
using cpu::Stream;

TEST(Team, every_part_is_done_once_whatever_the_threads) {
  for (int threads : {0, 1, 2, 3, 16})
    for (int64_t parts : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> done(size_t(parts) + 1);
      parallel_items(Stream{threads}, parts, [&](int64_t i) { ++done[size_t(i)]; });
      for (int64_t i = 0; i < parts; ++i) EXPECT_EQ(done[size_t(i)], 1) << threads << ", " << i;
    }
}

TEST(Team, ranges_cover_every_item_once_and_are_not_too_small) {
  for (int threads : {1, 2, 5})
    for (int64_t items : {0, 1, 99, 100, 101, 12345}) {
      std::vector<int> done(static_cast<size_t>(items));
      std::atomic<int64_t> shortest{items};
      parallel_ranges(Stream{threads}, items, 100, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) ++done[size_t(i)];
        for (int64_t s = shortest;
             end - begin < s && !shortest.compare_exchange_weak(s, end - begin);) {
        }
      });
      for (int n : done) ASSERT_EQ(n, 1);
      EXPECT_GE(shortest, std::min<int64_t>(items, 100));
    }
}

TEST(Team, callers_of_several_threads_share_it) {
  std::vector<std::thread> callers;
  std::atomic<int64_t> total{0};
  for (int c = 0; c < 6; ++c)
    callers.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        std::vector<int64_t> part(8);
        parallel_items(Stream{3}, 8, [&](int64_t i) { part[size_t(i)] = i + 1; });
        total += std::accumulate(part.begin(), part.end(), int64_t{0});
      }
    });
  for (std::thread& t : callers) t.join();
  EXPECT_EQ(total, 6 * 200 * 36);
}

TEST(Team, a_part_may_share_out_work_of_its_own) {
  std::atomic<int> done{0};
  parallel_items(Stream{3}, 4,
                 [&](int64_t) { parallel_items(Stream{3}, 5, [&](int64_t) { ++done; }); });
  EXPECT_EQ(done, 20);
}

TEST(Team, the_first_error_reaches_the_caller_and_the_team_goes_on) {
  for (int round = 0; round < 20; ++round)
    EXPECT_THROW(parallel_items(Stream{4}, 50,
                                [&](int64_t i) {
                                  if (i % 7 == 3) throw std::runtime_error("part");
                                }),
                 std::runtime_error);
  std::atomic<int> done{0};
  parallel_items(Stream{4}, 50, [&](int64_t) { ++done; });
  EXPECT_EQ(done, 50);
}

// Threads do not survive a fork; the child's calls do their work alone.
TEST(Team, a_forked_process_goes_on) {
  std::atomic<int> before{0};
  parallel_items(Stream{2}, 10, [&](int64_t) { ++before; });
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    std::atomic<int> done{0};
    parallel_items(Stream{2}, 10, [&](int64_t) { ++done; });
    _exit(done == 10 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

TEST(Team, helpers_round_as_usual_whatever_the_caller_does) {
  std::fenv_t saved;
  std::fegetenv(&saved);
  std::fesetround(FE_UPWARD);
  std::atomic<int> unusual{0};
  const std::thread::id caller = std::this_thread::get_id();
  parallel_items(Stream{12}, 200, [&](int64_t) {
    if (std::this_thread::get_id() != caller && std::fegetround() != FE_TONEAREST) ++unusual;
    std::this_thread::yield();
  });
  std::fesetenv(&saved);
  EXPECT_EQ(unusual, 0);
}

}  // namespace
}  // namespace whence
