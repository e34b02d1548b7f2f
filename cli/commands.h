// The commands, each in the file of its name.
#pragma once

#include "cli/failure.h"
#include "cli/options.h"

namespace whence::cli {

ExitCode run_explain(const Options& options);
ExitCode run_predict(const Options& options);
ExitCode run_methods(const Options& options);
ExitCode run_inspect(const Options& options);
ExitCode run_audit(const Options& options);
ExitCode run_demo(const Options& options);

}  // namespace whence::cli
