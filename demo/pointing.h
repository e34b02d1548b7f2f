// The pointing game (Zhang et al., IJCV 2018) on scenes: does a map's peak lie on the thing it
// explains?
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "whence/model.h"

namespace whence::demo {

struct Pointing {
  // Shares of things whose map, resized to the picture, peaks on a pixel of the thing's mask. A map
  // without a peak misses.
  double single = 0;  // of one-thing scenes, explaining that thing's class
  double pairs = 0;   // of two-thing scenes, explaining each of the two classes in turn
};
// On `count` scenes of each sort, none of which training sees. `options` are the method's, `beside`
// the other model of a consensus.
Pointing measure_pointing(std::shared_ptr<const Model> model, const std::string& method,
                          const std::map<std::string, std::string>& options, int64_t count,
                          const std::shared_ptr<const Model>& beside = nullptr);

}  // namespace whence::demo
