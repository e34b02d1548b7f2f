// What a call says when it fails.
#pragma once

#include <gtest/gtest.h>

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

// Of a usage error.
inline std::string usage_message(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::usage) << e.what();
    return e.what();
  }
  return "accepted";
}

}  // namespace whence
