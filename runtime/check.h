// How the library's own code reports errors: fail(kind, code, format, arguments...).
#pragma once

#include <fmt/format.h>

#include "whence/error.h"

namespace whence {

template <class... A>
[[noreturn]] void fail(ErrorKind kind, ErrorCode code, fmt::format_string<A...> format, A&&... a) {
  throw Error(kind, code, fmt::format(format, std::forward<A>(a)...));
}
template <class... A>
[[noreturn]] void fail_shape(fmt::format_string<A...> format, A&&... a) {
  throw Error(ErrorKind::shape, ErrorCode::shape, fmt::format(format, std::forward<A>(a)...));
}
template <class... A>
[[noreturn]] void fail_usage(fmt::format_string<A...> format, A&&... a) {
  throw Error(ErrorKind::usage, ErrorCode::usage, fmt::format(format, std::forward<A>(a)...));
}

// Guards what only a bug of ours can break; always on.
#define WHENCE_ASSERT(cond)                                                                       \
  do {                                                                                            \
    if (!(cond))                                                                                  \
      ::whence::fail(::whence::ErrorKind::internal, ::whence::ErrorCode::internal,                \
                     "internal error at {}:{}: {}; please report it", __FILE__, __LINE__, #cond); \
  } while (0)

}  // namespace whence
