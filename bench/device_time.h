// Time that a device spends on queued work.
#pragma once

#include <memory>

#include "runtime/stream.h"

namespace whence::bench {

// start(), queue work, then stop() waits for it and gives its seconds: between two events on the
// stream of a GPU, by the clock of the host elsewhere.
class DeviceTimer {
 public:
  explicit DeviceTimer(Stream& s);
  ~DeviceTimer();
  void start();
  double stop();

 private:
  struct Events;
  Stream& stream_;
  std::unique_ptr<Events> events_;
  double began_ = 0;
};

// Bytes of operands that leave nothing of a call in the caches when all of them were used since.
size_t beyond_cache(const Device& device);

}  // namespace whence::bench
