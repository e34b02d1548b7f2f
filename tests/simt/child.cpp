#include "tests/simt/child.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <system_error>

// The first report ends a process: a child is to say what its one kernel did, and a test process
// must not go on after a race in what ought to be correct.
extern "C" const char* __tsan_default_options();
extern "C" const char* __tsan_default_options() {
  return "halt_on_error=1:exitcode=66:report_signal_unsafe=0";
}

namespace whence::simt_test {
namespace {

[[noreturn]] void live(const std::function<void()>& f, int out, int seconds) {
  alarm(unsigned(seconds));
  dup2(out, STDOUT_FILENO);
  dup2(out, STDERR_FILENO);
  int code = 0;
  try {
    f();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    code = 1;
  }
  std::fflush(nullptr);
  _exit(code);  // no leak check, no destructors: the parent has the same objects
}

}  // namespace

Ending in_child(const std::function<void()>& f, int seconds) {
  int ends[2];
  if (pipe(ends) != 0) throw std::system_error(errno, std::generic_category(), "pipe");
  std::fflush(nullptr);
  const pid_t pid = fork();
  if (pid < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (pid == 0) {
    close(ends[0]);
    live(f, ends[1], seconds);
  }
  close(ends[1]);
  Ending ending;
  char buffer[4096];
  for (;;) {
    const ssize_t n = read(ends[0], buffer, sizeof buffer);
    if (n > 0) ending.text.append(buffer, size_t(n));
    if (n == 0 || (n < 0 && errno != EINTR)) break;
  }
  close(ends[0]);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  ending.clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  if (WIFSIGNALED(status))
    ending.text += "ended by signal " + std::to_string(WTERMSIG(status)) + "\n";
  return ending;
}

}  // namespace whence::simt_test
