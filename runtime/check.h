// How the library's own code reports errors: fail(code, format, arguments...).
#pragma once

#include <fmt/core.h>

#include "whence/error.h"

namespace whence {

[[noreturn]] void fail_with(ErrorCode code, fmt::string_view format, fmt::format_args arguments);

template <class... A>
[[noreturn]] void fail(ErrorCode code, fmt::format_string<A...> format, A&&... a) {
  fail_with(code, format, fmt::make_format_args(a...));
}
template <class... A>
[[noreturn]] void fail_shape(fmt::format_string<A...> format, A&&... a) {
  fail_with(ErrorCode::shape, format, fmt::make_format_args(a...));
}
template <class... A>
[[noreturn]] void fail_usage(fmt::format_string<A...> format, A&&... a) {
  fail_with(ErrorCode::usage, format, fmt::make_format_args(a...));
}

// Guards what only a bug of ours can break; always on.
#define WHENCE_ASSERT(cond)                                                                       \
  do {                                                                                            \
    if (!(cond))                                                                                  \
      ::whence::fail(::whence::ErrorCode::internal,                                               \
                     "internal error at {}:{}: {}; please report it", __FILE__, __LINE__, #cond); \
  } while (0)

}  // namespace whence
