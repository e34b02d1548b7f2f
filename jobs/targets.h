// Targets as people write them: a class by index or name, a contrast of two, or what is predicted.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "whence/explain.h"

namespace whence::jobs {

struct NamedTarget {
  Target target;
  std::string typed;  // names the files when there are several targets
  std::string key;    // "predicted", "3" or "3-5": the same for every way to write it
};

// The class that `text` means: an index, a whole name, one of the names that commas separate, or
// whole words of exactly one class (letters of either case). A number that is the index of one
// class and the name of another is neither. Usage errors list what it could be.
NamedTarget read_target(const std::string& text, const std::vector<std::string>& labels);
// No targets at all mean the predicted class; the same target twice is a usage error.
std::vector<NamedTarget> read_targets(const std::vector<std::string>& texts,
                                      const std::vector<std::string>& labels);
// "goldfish" or "goldfish - tench"
std::string target_name(int64_t of, int64_t against, const std::vector<std::string>& labels);

}  // namespace whence::jobs
