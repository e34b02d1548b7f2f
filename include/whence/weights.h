// Weights: named tensors, immutable once loaded, shared by any number of plans and threads.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "whence/tensor.h"

namespace whence {

// What plans computed from the weights (packed copies), kept while a plan uses it.
class DerivedCache;
std::shared_ptr<DerivedCache> make_derived_cache();

struct Weights {
  std::map<std::string, Tensor> tensors;  // by the graph's weight names
  std::string digest;  // of every bound tensor's name, shape and bytes; 16 hex digits
  std::shared_ptr<DerivedCache> derived = make_derived_cache();  // shared by copies of this object
};

}  // namespace whence
