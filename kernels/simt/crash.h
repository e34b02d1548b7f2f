// What a process says when a kernel brings it down.
#pragma once

namespace whence::simt {

// While one lives, an illegal memory access on this thread is reported with the kernel's name and
// the indices of the block and the thread that run, before whatever else happens then.
class CrashReport {
 public:
  explicit CrashReport(const char* kernel);
  ~CrashReport();
  CrashReport(const CrashReport&) = delete;
  CrashReport& operator=(const CrashReport&) = delete;
};

}  // namespace whence::simt
