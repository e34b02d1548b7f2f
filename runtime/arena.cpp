#include "runtime/arena.h"

#include <algorithm>
#include <numeric>

namespace whence {

size_t place(std::vector<Lifetime>& buffers) {
  const auto rounded = [](size_t bytes, size_t to) { return (bytes + to - 1) / to * to; };
  std::vector<size_t> order(buffers.size());
  std::iota(order.begin(), order.end(), size_t(0));
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return buffers[a].bytes > buffers[b].bytes; });
  size_t total = 0;
  std::vector<size_t> placed;  // by offset
  for (size_t i : order) {
    Lifetime& buffer = buffers[i];
    const size_t need = rounded(buffer.bytes, buffer.align);
    size_t at = 0;
    for (size_t j : placed) {
      const Lifetime& other = buffers[j];
      if (other.last < buffer.first || buffer.last < other.first) continue;
      if (other.offset >= at + need) break;
      at = std::max(at, rounded(other.offset + rounded(other.bytes, other.align), buffer.align));
    }
    buffer.offset = at;
    total = std::max(total, at + need);
    placed.insert(
        std::upper_bound(placed.begin(), placed.end(), i,
                         [&](size_t a, size_t b) { return buffers[a].offset < buffers[b].offset; }),
        i);
  }
  return total;
}

}  // namespace whence
