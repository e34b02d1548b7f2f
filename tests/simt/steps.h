// Steps of real kernels that can be left out, and the kernel cases that notice.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "tests/simt/cases.h"
#include "tests/simt/schedules.h"
#include "tests/simt/sources.h"

namespace whence::simt_test {

struct Step {
  enum Kind : uint8_t {
    none,
    barrier,      // a barrier or warp barrier does nothing
    exchange,     // a shuffle or vote leaves every lane what it brought
    mask,         // a shuffle or vote forgets the last lane
    copy_wait,    // no wait for asynchronous copies
    copy_early,   // waits leave one more group of copies under way
    copy_commit,  // no group of copies is closed
  } kind = none;
  Place at;  // of barriers, exchanges, masks
};
std::string text(Step::Kind kind);

// What a case does where nothing is left out.
struct Passed {
  const KernelCase* of;
  ref::Reals outputs;
  std::set<Place> barriers, exchanges;
  bool copies;
};
Passed pass(const KernelCase& c);

struct Notice {
  std::string by;    // "bits", "fault", "crash", "race", "memory error"; empty if nobody noticed
  std::string what;  // all that was said
  std::string name;  // of the case that did
  size_t runs = 0;   // up to and with the one that did
};
// Runs those of the cases that pass the step, in a process of its own, until one notices.
Notice noticed(const Step& step, const std::vector<Passed>& cases,
               const std::vector<simt::Schedule>& schedules);

}  // namespace whence::simt_test
