#include "cli/signals.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>

namespace whence::cli {
namespace {

std::atomic<int> caught{0};
static_assert(std::atomic<int>::is_always_lock_free, "used in a signal handler");

void on_signal(int number) {
  int none = 0;
  if (!caught.compare_exchange_strong(none, number)) ::_exit(128 + number);
}

}  // namespace

void catch_signals() {
  struct sigaction action {};
  sigemptyset(&action.sa_mask);
  action.sa_handler = on_signal;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  action.sa_handler = SIG_IGN;
  ::sigaction(SIGPIPE, &action, nullptr);
  ::sigaction(SIGXFSZ, &action, nullptr);
}

int signal_caught() { return caught.load(); }

}  // namespace whence::cli
