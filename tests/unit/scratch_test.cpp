// Scratch memory of kernels: plans ask for it, count it and lend it; a run allocates nothing.
#include "kernels/cpu/scratch.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <new>

#include "tests/unit/devices.h"
#include "tests/unit/op_graph.h"
#include "tests/unit/tiny_model.h"
#ifdef WHENCE_HAVE_SIMT
#include "kernels/simt/stream.h"
#endif

// Counts what C++ allocates while somebody looks. Sanitizers bring their own.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define WHENCE_COUNTS_ALLOCATIONS 0
#else
#define WHENCE_COUNTS_ALLOCATIONS 1
#endif

namespace {
std::atomic<bool> looking{false};
std::atomic<int64_t> allocations{0};
}  // namespace

#if WHENCE_COUNTS_ALLOCATIONS
// Not inlined: the compiler would take free() for the wrong partner of operator new.
#define WHENCE_APART __attribute__((noinline))
WHENCE_APART void* operator new(size_t bytes) {
  if (looking) ++allocations;
  if (void* p = std::malloc(bytes ? bytes : 1)) return p;
  throw std::bad_alloc();
}
WHENCE_APART void* operator new(size_t bytes, std::align_val_t align) {
  if (looking) ++allocations;
  const auto to = size_t(align);
  if (void* p = std::aligned_alloc(to, (bytes + to) / to * to)) return p;
  throw std::bad_alloc();
}
WHENCE_APART void operator delete(void* p) noexcept { std::free(p); }
WHENCE_APART void operator delete(void* p, size_t) noexcept { std::free(p); }
WHENCE_APART void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
WHENCE_APART void operator delete(void* p, size_t, std::align_val_t) noexcept { std::free(p); }
#endif

namespace whence {
namespace {

template <class F>
int64_t allocations_of(F&& f) {
  allocations = 0;
  looking = true;
  f();
  looking = false;
  return allocations;
}

TEST(Loan, is_asked_for_the_most_that_is_taken_at_a_time) {
  Loan loan;
  cpu::Stream s{2, &loan};
  loan.ask();
  {
    const cpu::Scratch<real> first(s, 1, 100);
    { const cpu::Scratch<real> second(s, 3, 5); }
    const cpu::Scratch<int64_t> third(s, 1, 2);
    EXPECT_NE(first.of(0), nullptr) << "memory that may be used although nothing is lent";
  }
  const size_t lines = (100 * sizeof(real) + 63) / 64 + 3;
  EXPECT_EQ(loan.most(), lines * 64);
}

TEST(Loan, lends_what_there_is_and_no_more) {
  alignas(64) std::array<char, 256> memory;
  Loan loan;
  const cpu::Stream s{2, &loan};
  loan.lend(memory.data(), memory.size());
  const auto address = [&](const void* p) { return static_cast<const char*>(p) - memory.data(); };
  const cpu::Scratch<int64_t> two(s, 2, 1);
  EXPECT_EQ(address(two.of(0)), 0);
  EXPECT_EQ(address(two.of(1)), 64) << "threads share no cache line";
  { EXPECT_EQ(address(cpu::Scratch<int64_t>(s, 1, 16).of(0)), 128); }
  EXPECT_EQ(address(cpu::Scratch<int64_t>(s, 1, 1).of(0)), 128) << "given back, taken again";
  EXPECT_THROW(cpu::Scratch<int64_t>(s, 1, 17), std::logic_error);
  EXPECT_EQ(address(cpu::Scratch<int64_t>(s, 1, 16).of(0)), 128) << "a refusal takes nothing";
}

// The scale of each channel is what a batch norm computes on the side: 20 reals.
TEST(Scratch, is_a_part_of_the_plans_bytes) {
  Graph g;
  const Value x = g.input("x", {{2, 3, 3, 20}});
  Values terms{x};
  for (const char* name : {"weight", "bias", "mean", "variance"})
    terms.push_back(g.weight(name, {20}));
  const Value y = batch_norm(terms[0], terms[1], terms[2], terms[3], terms[4], 1e-5);
  const auto lines = [](int64_t reals) { return (size_t(reals) * sizeof(real) + 63) / 64 * 64; };
  EXPECT_EQ(Plan({scale(x, 2)}).bytes(), 2 * lines(360)) << "x and the result";
  const size_t scratch = (lines(20) + Loan::alignment - 1) / Loan::alignment * Loan::alignment;
  const size_t bytes = Plan({y}).bytes();
  EXPECT_GE(bytes, 2 * lines(360) + lines(20));
  EXPECT_LE(bytes, 2 * lines(360) + scratch + Loan::alignment);
  const std::string text = Plan({y}).describe(), columns = text.substr(text.find("batch_norm"));
  EXPECT_NE(columns.find(fmt::format(" {} {:>10} ", 360 * sizeof(real), lines(20))),
            std::string::npos)
      << text;
}

// A thread has its own piece: every further one costs as much as the one before.
TEST(Scratch, grows_with_the_threads) {
  Graph g;
  Values qkv;
  for (const char* name : {"q", "k", "v"}) qkv.push_back(g.input(name, {{2, 64, 128}}));
  const Value context = attention(qkv[0], qkv[1], qkv[2], 4, real(0.2)).context;
  const auto bytes = [&](int threads) { return int64_t(Plan({context}, {{}, threads}).bytes()); };
  const int64_t step = bytes(2) - bytes(1);
  EXPECT_GT(step, 2 * 64 * 32 * int64_t(sizeof(real))) << "keys and values at least";
  EXPECT_NEAR(double(bytes(4) - bytes(2)), double(2 * step), double(Loan::alignment));
  EXPECT_EQ(bytes(100), bytes(8)) << "there are eight heads to share out";
}

TEST(Scratch, a_run_of_any_operator_allocates_nothing) {
  if (!WHENCE_COUNTS_ALLOCATIONS) GTEST_SKIP() << "not counted: a sanitizer allocates";
  for (const OpCase& c : op_cases()) {
    const OpGraph g(c);
    Plan plan(g.results(), {{}, 3});
    const auto run = [&] {
      plan.forward();
      plan.backward();
    };
    run();
    EXPECT_EQ(allocations_of(run), 0) << c.name;
  }
}

TEST(Scratch, a_run_of_a_model_allocates_nothing) {
  if (!WHENCE_COUNTS_ALLOCATIONS) GTEST_SKIP() << "not counted: a sanitizer allocates";
  for (const std::shared_ptr<const Model>& model :
       {tiny_model(2), std::shared_ptr<const Model>(tiny_cnn())}) {
    Graph g;
    const Value logits = model->build(g, 2);
    const Value seed = g.input("seed", logits.type(), Stage::seed);
    Values keep = gradient(logits, seed, {g.at("image")});
    keep.push_back(logits);
    Plan plan(keep, {{}, 3});
    plan.bind(model->weights);
    const auto run = [&] {
      plan.forward();
      plan.backward();
    };
    run();
    EXPECT_EQ(allocations_of(run), 0);
  }
}

#ifdef WHENCE_HAVE_SIMT
TEST(Scratch, a_run_on_a_device_allocates_no_device_memory) {
  for (const OpCase& c : op_cases()) {
    SCOPED_TRACE(c.name);
    const OpGraph g(c);
    Plan plan(g.results(), {.threads = 1, .device = {Device::simt}});
    simt::Stream::inject({simt::Injection::allocation, 1});
    EXPECT_NO_THROW(plan.forward());
    EXPECT_NO_THROW(plan.backward());
    simt::Stream::inject({});
  }
}
#endif

}  // namespace
}  // namespace whence
