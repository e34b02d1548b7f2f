// How devices report that something went wrong.
#pragma once

#include <stdexcept>
#include <string>

namespace whence::k {

class DeviceError : public std::runtime_error {
 public:
  enum Kind { out_of_memory, lost, refused } kind;
  DeviceError(Kind k, const std::string& what) : std::runtime_error(what), kind(k) {}
};

}  // namespace whence::k
