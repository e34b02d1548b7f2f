// What a call says when it fails.
#pragma once

#include <functional>
#include <string>

#include "whence/error.h"

namespace whence {

inline std::string message(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "accepted";
}

}  // namespace whence
