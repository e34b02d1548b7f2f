#include "kernels/simt/crash.h"

#include <unistd.h>

#include <charconv>
#include <csignal>

#include "kernels/simt/engine.h"

namespace whence::simt {
namespace {

constinit thread_local const char* running_kernel = nullptr;
struct sigaction others_segv, others_bus;

// Text without allocation, which a signal handler may not use.
class Line {
 public:
  Line& operator<<(const char* s) {
    while (*s && size_ < sizeof text_) text_[size_++] = *s++;
    return *this;
  }
  Line& operator<<(Dim d) {
    return number(d.x, " ("), number(d.y, ", "), number(d.z, ", "), *this << ")";
  }
  void write_out() const {
    if (::write(STDERR_FILENO, text_, size_) < 0) return;  // nothing can be done about it
  }

 private:
  void number(unsigned n, const char* before) {
    *this << before;
    size_ = size_t(std::to_chars(text_ + size_, text_ + sizeof text_, n).ptr - text_);
  }
  char text_[512];
  size_t size_ = 0;
};

// Returns to the access, which fails again and meets the handler that was there before.
void report(int signal) {
  sigaction(SIGSEGV, &others_segv, nullptr);
  sigaction(SIGBUS, &others_bus, nullptr);
  if (!running_kernel) return;
  Line line;
  line << "kernel " << running_kernel << ", block" << current.block << ", thread" << current.thread
       << (signal == SIGBUS ? ": bus error\n" : ": illegal memory access\n");
  line.write_out();
}

bool install() {
  struct sigaction mine = {};
  mine.sa_handler = report;
  mine.sa_flags = SA_ONSTACK;
  sigemptyset(&mine.sa_mask);
  return sigaction(SIGSEGV, &mine, &others_segv) == 0 && sigaction(SIGBUS, &mine, &others_bus) == 0;
}

}  // namespace

CrashReport::CrashReport(const char* kernel) {
  [[maybe_unused]] static const bool installed = install();
  running_kernel = kernel;
}

CrashReport::~CrashReport() { running_kernel = nullptr; }

}  // namespace whence::simt
