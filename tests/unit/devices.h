// The devices that tests of plans run on: what this machine does not have is skipped, and says so.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "whence/device.h"
#include "whence/error.h"

namespace whence {

inline std::vector<std::string> device_names() {
  return {"cpu",
#ifdef WHENCE_HAVE_SIMT
          "simt",
#endif
          "cuda"};
}

// The device, or a test that says that it is skipped.
#define WHENCE_DEVICE_OR_SKIP(device_, name) \
  Device device_;                            \
  try {                                      \
    device_ = whence::device(name);          \
  } catch (const Error& e) {                 \
    GTEST_SKIP() << "not run: " << e.what(); \
  }

}  // namespace whence
