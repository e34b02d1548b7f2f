// Exit codes: decided here and nowhere else, from what failed and what was being done.
#pragma once

#include <exception>
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

// What was being done when an error came.
enum class Phase {
  other,    // only what was typed, the device and the outputs can fail
  model,    // a model was being loaded, or something that comes with one
  request,  // methods were computed as they were asked for, with the files that their options name
};

// An error of which the phase is known.
class Failure : public std::exception {
 public:
  Failure(Error error, Phase phase) : error_(std::move(error)), phase_(phase) {}
  const char* what() const noexcept override { return error_.what(); }
  const Error& error() const noexcept { return error_; }
  Phase phase() const noexcept { return phase_; }

 private:
  Error error_;
  Phase phase_;
};

// Runs `step`, whose errors are of `phase`.
template <class Step>
auto during(Phase phase, Step&& step) {
  try {
    return step();
  } catch (const Error& error) {
    throw Failure(error, phase);
  }
}

inline ExitCode exit_code(const Error& error, Phase phase) {
  if (error.code() == ErrorCode::output) return ExitCode::output;
  switch (error.kind()) {
    case ErrorKind::usage:
      return phase == Phase::model ? ExitCode::model : ExitCode::usage;
    case ErrorKind::memory:
      return ExitCode::output;
    case ErrorKind::device:
      return ExitCode::device;
    case ErrorKind::internal:
      return ExitCode::internal;
    default:
      return phase == Phase::model     ? ExitCode::model
             : phase == Phase::request ? ExitCode::usage
                                       : ExitCode::internal;
  }
}

}  // namespace whence::cli
