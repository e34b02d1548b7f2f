// Runs something that may end the process, in a process of its own.
#pragma once

#include <functional>
#include <string>

namespace whence::simt_test {

struct Ending {
  bool clean = false;  // returned, with nothing to say
  std::string text;    // all that was written on the way
};

// Calls f in a forked child with a time limit. What f throws is written out and is not clean; nor
// is what a sanitizer reports.
Ending in_child(const std::function<void()>& f, int seconds = 60);

}  // namespace whence::simt_test
