// Shared memory of the block that runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/simt/engine.h"

namespace whence::simt {

// Arrays lie in one mapping with gaps between them that nobody may touch: the address sanitizer
// watches them, and in other builds overrun() compares their bytes. New memory is all ones: NaN in
// every float type, -1 in integers.
class Arena {
 public:
  Arena() = default;
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  void start_block(size_t dynamic_bytes);
  // The array of this declaration; null where the device's limit is exceeded.
  void* array(Site site, const void* tag, size_t bytes);
  void* dynamic() const { return memory_ + gap; }
  std::string overrun() const;  // which array was overrun, or empty

 private:
  static constexpr size_t gap = 256;
  struct Array {
    const void* tag;
    Site site;
    size_t at, bytes;
  };
  char* open(size_t bytes);  // the next array, with a gap behind it

  char* memory_ = nullptr;
  size_t used_ = 0, static_bytes_ = 0;
  std::vector<Array> arrays_;  // the dynamic one first
};

}  // namespace whence::simt
