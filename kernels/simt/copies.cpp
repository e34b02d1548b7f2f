#include "kernels/simt/copies.h"

#include <cstring>

#include "kernels/simt/sanitizers.h"

namespace whence::simt {

void Copies::start_block() {
  copies_.clear();
  groups_ = 0;
}

void Copies::issue(void* to, const void* from, unsigned bytes) {
  std::memset(to, 0xff, bytes);
  const Unseen bookkeeping;
  copies_.push_back({to, from, bytes, -1});
}

void Copies::commit() {
  for (Copy& c : copies_)
    if (c.group < 0) c.group = groups_;
  ++groups_;
}

void Copies::wait(int groups_in_flight) {
  size_t kept = 0;
  for (const Copy& c : copies_)
    if (c.group < 0 || c.group >= groups_ - groups_in_flight)
      copies_[kept++] = c;
    else
      std::memcpy(c.to, c.from, c.bytes);
  copies_.resize(kept);
}

}  // namespace whence::simt
