// A double of cuBLASLt for the emulated device. It computes, counts, and refuses what the
// documentation forbids or leaves open: descriptions that do not fit together or are gone,
// attributes of another size, algorithms that it did not give for this problem, memory that is
// misaligned or overlaps, a workspace that is too small. Whoever misuses it gets no product.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/simt/cublaslt.h"

namespace whence::twins::lt {

using namespace simt::lt;

// The emulated device has the library as long as one of these lives. Not two at a time.
struct Installed {
  Installed();
  ~Installed();
  Installed(const Installed&) = delete;
  Installed& operator=(const Installed&) = delete;
};

// An algorithm that the heuristic may offer, in this order.
struct Offer {
  int32_t splits = 1;
  uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_NONE;
  size_t workspace = 0;  // bytes; needed where D has more columns than free_columns
  int64_t free_columns = 0;
  uint32_t alignment = 4;  // that it needs of pointers and of columns
  bool out_of_place = true;
  int64_t most_columns = INT32_MAX;              // of D; refused where there are more
  cublasStatus_t state = CUBLAS_STATUS_SUCCESS;  // of the result
};
std::vector<Offer> usual_offers();  // one that splits sums, and one for each alignment
void offer(std::vector<Offer> algorithms);
// The next call of a function of this name returns the status.
void fail(const char* function, cublasStatus_t status);
size_t live_objects();  // handles, descriptions, layouts, preferences
uint64_t products();    // that were queued so far, by all streams

}  // namespace whence::twins::lt
