// The whence program: reads the command line, runs the command, and turns every failure into one
// line on stderr and an exit code.
#include <fmt/core.h>

#include <exception>
#include <new>

#include "cli/commands.h"
#include "cli/console.h"
#include "cli/failure.h"
#include "cli/signals.h"

namespace {

using namespace whence;
using namespace whence::cli;

ExitCode run(const Options& options) {
  switch (options.command) {
    case Command::explain:
      return run_explain(options);
    case Command::predict:
      return run_predict(options);
    case Command::methods:
      return run_methods(options);
    case Command::inspect:
      return run_inspect(options);
    case Command::audit:
      return run_audit(options);
    case Command::demo:
      return run_demo(options);
  }
  return ExitCode::internal;
}

int end_of(const Error& error, Phase phase) {
  if (error.code() == ErrorCode::cancelled && signal_caught()) return 128 + signal_caught();
  complain(error.what());
  return int(exit_code(error, phase));
}

int run_command_line(int argc, char** argv) try {
  std::string text;
  const std::optional<Options> options = read_command_line(argc, argv, text);
  print(text);
  const ExitCode code = options ? run(*options) : ExitCode::done;
  flush_output();
  if (signal_caught()) return 128 + signal_caught();
  // What explain writes to files is delivered all the same.
  const bool lost = reader_is_gone() && !(options && options->command == Command::explain);
  return int(lost ? ExitCode::output : code);
} catch (const Failure& failure) {
  return end_of(failure.error(), failure.phase());
} catch (const Error& error) {
  return end_of(error, Phase::other);
} catch (const std::bad_alloc&) {
  complain("out of memory; a smaller --mem or --chunk may help");
  return int(ExitCode::output);
} catch (const std::exception& error) {
  complain(fmt::format("internal error: {}; please report it", printable(error.what())));
  return int(ExitCode::internal);
}

}  // namespace

int main(int argc, char** argv) {
  hold_standard_streams();
  catch_signals();
  return run_command_line(argc, argv);
}
