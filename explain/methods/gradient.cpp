// gradient: Simonyan, Vedaldi and Zisserman 2014, "Deep inside convolutional networks" (arXiv
// 1312.6034). input-x-gradient: Shrikumar et al. 2016, "Not just a black box" (arXiv 1605.01713).
//   g = d score / d x     E = g, |g| or x * g
#include "explain/method.h"

namespace whence::catalogue {

Method gradient() {
  return {.info = {"gradient",
                   "derivative of the score by each input value",
                   "Simonyan et al. 2014, arXiv 1312.6034",
                   "any",
                   {gradient_of("logit"),
                    flag("abs", false, "true: magnitudes instead of signed values")}},
          .map = [](Scene& s, const Options& o) {
            const Value g = s.gradient(o.score(), {s.entry})[0];
            return map_of(o.flag("abs") ? abs(g) : g);
          }};
}

Method input_x_gradient() {
  return {.info = {"input-x-gradient",
                   "input times its derivative",
                   "Shrikumar et al. 2016, arXiv 1605.01713",
                   "any",
                   {gradient_of("logit")}},
          .map = [](Scene& s, const Options& o) {
            return map_of(mul(s.entry, s.gradient(o.score(), {s.entry})[0]));
          }};
}

}  // namespace whence::catalogue
