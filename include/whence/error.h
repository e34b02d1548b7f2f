// Errors. Every failure of the library is one exception type that carries a kind, a stable code,
// one sentence for people, and fields for programs. The library never prints, exits or aborts.
#pragma once

#include <exception>
#include <string>
#include <string_view>
#include <utility>

namespace whence {

enum class ErrorKind {
  usage,        // an argument that a person typed or a program passed
  file,         // a file that is absent, unreadable, or not what it claims to be
  name,         // a name that the graph, the model or the checkpoint does not have
  shape,        // sizes or types that do not fit together
  unsupported,  // valid, but not handled
  item,         // one input of many cannot be explained (non-finite result, broken image)
  memory,       // the host is out of memory, or a budget would be exceeded
  device,       // the device is missing, too old, or lost
  state,        // busy or cancelled
  internal,     // a bug in whence
};

// Finer than the kind, and stable: programs may switch on it.
enum class ErrorCode {
  usage,
  not_found,
  io,
  format,
  limit,
  keys,
  shape,
  dtype,
  nonfinite,
  unsupported,
  item,
  no_memory,
  device_memory,
  device_missing,
  device_lost,
  busy,
  cancelled,
  internal,
};

struct ErrorFields {
  std::string file, item, tensor, expected, found;
  long long offset = -1;  // byte offset inside `file`, or -1
};

class Error : public std::exception {
 public:
  Error(ErrorKind kind, ErrorCode code, std::string message, ErrorFields fields = {})
      : kind_(kind), code_(code), message_(std::move(message)), fields_(std::move(fields)) {}
  const char* what() const noexcept override { return message_.c_str(); }
  ErrorKind kind() const noexcept { return kind_; }
  ErrorCode code() const noexcept { return code_; }
  const ErrorFields& fields() const noexcept { return fields_; }

 private:
  ErrorKind kind_;
  ErrorCode code_;
  std::string message_;
  ErrorFields fields_;
};

// Text from a file or a command line, safe to print on one line of a terminal: at most 120 bytes,
// every byte that is not printable written as \xNN (valid UTF-8 beyond ASCII is kept).
std::string printable(std::string_view text);

}  // namespace whence
