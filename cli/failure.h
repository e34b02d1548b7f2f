// How a command ends before its time: an exit code and one line for stderr.
#pragma once

#include <fmt/core.h>

#include <exception>
#include <string>
#include <utility>

#include "whence/error.h"

namespace whence::cli {

enum class ExitCode : int {
  done = 0,
  inputs_failed = 1,
  usage = 2,
  model = 3,
  device = 4,
  output = 5,  // an output cannot be written, or the host is out of memory
  internal = 70,
  // 128 + n: ended by signal n
};

class Failure : public std::exception {
 public:
  Failure(ExitCode code, std::string message) : code_(code), message_(std::move(message)) {}
  const char* what() const noexcept override { return message_.c_str(); }
  ExitCode code() const noexcept { return code_; }

 private:
  ExitCode code_;
  std::string message_;
};

template <class... A>
[[noreturn]] void quit(ExitCode code, fmt::format_string<A...> format, A&&... a) {
  throw Failure(code, fmt::format(format, std::forward<A>(a)...));
}

// `otherwise`: of the errors whose meaning depends on what was being done (reading a model, writing
// an output), as their kind alone does not say.
inline ExitCode exit_code(const Error& error, ExitCode otherwise) {
  switch (error.kind()) {
    case ErrorKind::usage:
      return ExitCode::usage;
    case ErrorKind::memory:
      return ExitCode::output;
    case ErrorKind::device:
      return ExitCode::device;
    case ErrorKind::internal:
      return ExitCode::internal;
    default:
      return otherwise;
  }
}

// Runs `step`; errors of the library become the end of the command.
template <class Step>
auto or_quit(ExitCode otherwise, Step&& step) {
  try {
    return step();
  } catch (const Error& error) {
    throw Failure(exit_code(error, otherwise), error.what());
  }
}

}  // namespace whence::cli
