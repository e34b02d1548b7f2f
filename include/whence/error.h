// Errors. Every failure of the library is one exception type that carries a stable code,
// one sentence for people, and fields for programs. The library never prints, exits or aborts.
#pragma once

#include <exception>
#include <string>
#include <string_view>
#include <utility>

namespace whence {

// What a program that handles errors needs to tell apart at least; follows from the code.
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

// What failed. Stable: programs may switch on it.
enum class ErrorCode {
  usage,
  not_found,  // file: it is not there
  io,         // file: it cannot be read
  format,     // file: its content is not what it must be
  limit,      // file: it, or something in it, is larger than whence reads
  output,     // file: a result cannot be written, or its place holds something else
  keys,       // name
  shape,
  dtype,  // shape: integers where reals are needed, or the reverse; a device's memory on the host
  unsupported,
  item,           // the input itself: its size, its type, its picture
  nonfinite,      // item: its answer or its attribution
  no_memory,      // memory
  device_memory,  // device, as the next two
  device_missing,
  device_lost,
  busy,  // state, as the next one
  cancelled,
  internal,
};
constexpr ErrorKind kind_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::usage:
      return ErrorKind::usage;
    case ErrorCode::not_found:
    case ErrorCode::io:
    case ErrorCode::format:
    case ErrorCode::limit:
    case ErrorCode::output:
      return ErrorKind::file;
    case ErrorCode::keys:
      return ErrorKind::name;
    case ErrorCode::shape:
    case ErrorCode::dtype:
      return ErrorKind::shape;
    case ErrorCode::unsupported:
      return ErrorKind::unsupported;
    case ErrorCode::item:
    case ErrorCode::nonfinite:
      return ErrorKind::item;
    case ErrorCode::no_memory:
      return ErrorKind::memory;
    case ErrorCode::device_memory:
    case ErrorCode::device_missing:
    case ErrorCode::device_lost:
      return ErrorKind::device;
    case ErrorCode::busy:
    case ErrorCode::cancelled:
      return ErrorKind::state;
    case ErrorCode::internal:
      break;
  }
  return ErrorKind::internal;
}

struct ErrorFields {
  std::string file, item, tensor, expected, found;
  long long offset = -1;  // byte offset inside `file`, or -1
};

class Error : public std::exception {
 public:
  Error(ErrorCode code, std::string message, ErrorFields fields = {})
      : code_(code), message_(std::move(message)), fields_(std::move(fields)) {}
  const char* what() const noexcept override { return message_.c_str(); }
  ErrorKind kind() const noexcept { return kind_of(code_); }
  ErrorCode code() const noexcept { return code_; }
  const ErrorFields& fields() const noexcept { return fields_; }

 private:
  ErrorCode code_;
  std::string message_;
  ErrorFields fields_;
};

// Text from a file or a command line, safe to print on one line of a terminal: at most 120 bytes,
// every byte that is not printable written as \xNN (valid UTF-8 beyond ASCII is kept).
std::string printable(std::string_view text);

}  // namespace whence
