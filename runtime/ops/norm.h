// What attention shares with the softmax as an op of its own.
#pragma once

#include "whence/ops.h"

namespace whence {

// x * (r - y sum r) over the last axis: the relevance of x when y = softmax(x), expanded at x, has
// the relevance r (rule::Taylor).
Value softmax_relevance(Value x, Value y, Value r);

}  // namespace whence
