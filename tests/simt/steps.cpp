#include "tests/simt/steps.h"

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <stdexcept>

#include "kernels/simt/sanitizers.h"
#include "tests/simt/child.h"

namespace whence::simt_test {
namespace {

Step left_out;
std::set<Place> exchanges;
bool copies = false;

std::string folderless(const char* path) { return std::filesystem::path(path).filename().string(); }
bool in_kernels(const char* path) { return std::strstr(path, "kernels/cuda/") != nullptr; }
bool is_left_out(simt::Site site) {
  return site.line == left_out.at.line && folderless(site.file) == left_out.at.file;
}
void nothing(void* const[32]) {}

}  // namespace
}  // namespace whence::simt_test

// The linker leads the kernels' calls of these functions of the engine here (--wrap).
namespace whence::simt {

using Finish = void(void* const operands[32]);
void real_operation(const char*, Site, uint32_t, void*, Finish*) asm(
    "__real__ZN6whence4simt14warp_operationEPKcNS0_4SiteEjPvPFvPKS4_E");
void real_wait(int) asm("__real__ZN6whence4simt9copy_waitEi");
void real_commit() asm("__real__ZN6whence4simt11copy_commitEv");
void operation(const char*, Site, uint32_t, void*,
               Finish*) asm("__wrap__ZN6whence4simt14warp_operationEPKcNS0_4SiteEjPvPFvPKS4_E");
void wait(int) asm("__wrap__ZN6whence4simt9copy_waitEi");
void commit() asm("__wrap__ZN6whence4simt11copy_commitEv");

void operation(const char* name, Site site, uint32_t mask, void* operand, Finish* finish) {
  using simt_test::Step;
  if (name[0] == '_' && simt_test::in_kernels(site.file)) {  // not matrices
    const Unseen bookkeeping;
    simt_test::exchanges.insert({simt_test::folderless(site.file), site.line});
    const Step::Kind kind = simt_test::left_out.kind;
    if (kind == Step::exchange && simt_test::is_left_out(site)) finish = simt_test::nothing;
    if (kind == Step::mask && simt_test::is_left_out(site)) mask &= ~(uint32_t{1} << 31);
  }
  real_operation(name, site, mask, operand, finish);
}
void wait(int left) {
  using simt_test::Step;
  if (simt_test::left_out.kind == Step::copy_wait) return;
  real_wait(simt_test::left_out.kind == Step::copy_early ? left + 1 : left);
}
void commit() {
  {
    const Unseen bookkeeping;
    simt_test::copies = true;
  }
  if (simt_test::left_out.kind != simt_test::Step::copy_commit) real_commit();
}

}  // namespace whence::simt

namespace whence::simt_test {
namespace {

bool passes(const Step& step, const Passed& c) {
  switch (step.kind) {
    case Step::none:
      return false;
    case Step::barrier:
      return c.barriers.contains(step.at);
    case Step::exchange:
    case Step::mask:
      return c.exchanges.contains(step.at);
    case Step::copy_wait:
    case Step::copy_early:
    case Step::copy_commit:
      return c.copies;
  }
  return false;
}

void leave_out(const Step& step) {
  left_out = step;
  simt::limit_steps(uint64_t{1} << 22);
  if (step.kind == Step::barrier) simt::skip_barriers("/" + step.at.file, step.at.line);
}

// Throws where the case notices. Says before each run that it begins.
void run_all(const Passed& c, const std::vector<simt::Schedule>& schedules) {
  for (const simt::Schedule& schedule : schedules) {
    std::printf("RUN %s\n", c.of->name().c_str());
    std::fflush(stdout);
    simt::Stream s(schedule);
    const ref::Reals y = c.of->run(s);
    if (simt::race_detector) continue;  // a race is a race, whatever it leads to
    if (std::memcmp(y.data(), c.outputs.data(), y.size() * sizeof(real)) != 0)
      throw std::runtime_error("OTHER BITS");
  }
}

const char* what_kind(const std::string& said) {
  constexpr const char* kinds[][2] = {
      {"ThreadSanitizer: data race", "race"}, {"ERROR: AddressSanitizer", "memory error"},
      {"runtime error:", "memory error"},     {"OTHER BITS", "bits"},
      {"ended by signal", "crash"},           {"DEADLYSIGNAL", "crash"}};
  for (const auto& [mark, kind] : kinds)
    if (said.find(mark) != std::string::npos) return kind;
  return "fault";
}

}  // namespace

std::string text(Step::Kind kind) {
  constexpr const char* names[] = {"nothing",
                                   "barrier left out",
                                   "exchange left out",
                                   "mask without its last lane",
                                   "wait for copies left out",
                                   "wait for one group of copies less",
                                   "group of copies not closed"};
  return names[kind];
}

Passed pass(const KernelCase& c) {
  simt::forget_barrier_sites();
  exchanges.clear();
  copies = false;
  simt::Stream s;
  Passed p{&c, c.run(s), {}, {}, false};
  for (const simt::Site site : simt::barrier_sites())
    if (in_kernels(site.file)) p.barriers.insert({folderless(site.file), site.line});
  p.exchanges = exchanges;
  p.copies = copies;
  return p;
}

Notice noticed(const Step& step, const std::vector<Passed>& cases,
               const std::vector<simt::Schedule>& schedules) {
  const Ending e = in_child([&] {
    leave_out(step);
    for (const Passed& c : cases)
      if (passes(step, c)) run_all(c, schedules);
  });
  Notice notice;
  notice.what = e.text;
  for (size_t at = 0; (at = e.text.find("RUN ", at)) != std::string::npos; ++at) {
    notice.name = e.text.substr(at + 4, e.text.find('\n', at) - at - 4);
    ++notice.runs;
  }
  if (!e.clean) notice.by = what_kind(e.text);
  return notice;
}

}  // namespace whence::simt_test
