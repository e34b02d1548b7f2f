// How a method spreads relevance from the logits: what audits ask it for.
#pragma once

#include "whence/rules.h"

namespace whence {

struct Relevance {
  RuleTable rules;
  Value seed;         // what the logits have of it
  Values probs = {};  // attentions whose relevance the method reads
};

}  // namespace whence
