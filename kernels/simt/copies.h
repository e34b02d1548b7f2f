// Asynchronous copies into shared memory that a thread has issued and not yet waited for.
#pragma once

#include <vector>

namespace whence::simt {

// The rules leave open when a copy is done; these are seen at the last moment that is allowed, when
// the thread that issued them waits. Until then the destination is all ones.
class Copies {
 public:
  void start_block();
  void issue(void* to, const void* from, unsigned bytes);
  void commit();                    // what was issued since becomes a group
  void wait(int groups_in_flight);  // for all groups but the last ones
  bool in_flight() const { return !copies_.empty(); }

 private:
  struct Copy {
    void* to;
    const void* from;
    unsigned bytes;
    int group;  // -1 while it is open
  };
  std::vector<Copy> copies_;
  int groups_ = 0;
};

}  // namespace whence::simt
