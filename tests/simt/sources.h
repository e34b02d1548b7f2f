// What the kernels' sources say that there is, for tests that must not forget any of it.
#pragma once

#include <compare>
#include <initializer_list>
#include <set>
#include <string>

namespace whence::simt_test {

struct Place {
  std::string file;  // without its folder
  int line = 0;
  auto operator<=>(const Place&) const = default;
};
std::string text(const Place& at);  // "rows.cu:12"

std::set<std::string> declared_kernels();  // by kernels/*.h, on the device
std::set<std::string> cuda_kernels();      // __global__ functions of kernels/cuda in this build
// Lines of kernels/cuda in this build whose code, without comments, has any of the calls.
std::set<Place> lines_with(std::initializer_list<const char*> calls);
inline std::set<Place> barrier_lines() { return lines_with({"__syncthreads(", "__syncwarp("}); }
inline std::set<Place> exchange_lines() { return lines_with({"_sync("}); }

}  // namespace whence::simt_test
