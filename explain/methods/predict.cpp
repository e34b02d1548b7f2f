// The forward pass alone, as a method whose answer is the logits: what `Explainer::logits` runs.
#include "explain/method.h"

namespace whence::catalogue {

Method predict() {
  return {.info = {"predict", "class scores", "", "any", {}},
          .map = [](Scene& s, const Options&) { return map_of(s.logits); }};
}

}  // namespace whence::catalogue
