// Where values live: intervals of steps are packed into one block of memory.
#pragma once

#include <cstddef>
#include <vector>

namespace whence {

// Memory that is in use from step `first` to step `last`, both included.
struct Lifetime {
  size_t bytes = 0;
  int first = 0, last = 0;
  size_t offset = 0;  // written by place()
  size_t align = 64;
};

// Gives every buffer an offset (a multiple of its alignment) so that no two buffers with a common
// step overlap, large ones first, each at the lowest free place. Returns the size of the block.
size_t place(std::vector<Lifetime>& buffers);

}  // namespace whence
