// Interruption: a first SIGINT or SIGTERM asks the job to finish, a second one ends the process.
#pragma once

namespace whence::cli {

// Also turns SIGPIPE and SIGXFSZ into failed writes, which have messages.
void catch_signals();
// The number of the signal that asked for the end, or 0.
int signal_caught();

}  // namespace whence::cli
