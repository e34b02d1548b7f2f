// What a job is to do.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "jobs/requests.h"

namespace whence::jobs {

// What is written of a result beside its line in results.jsonl.
struct Save {
  bool png = false;     // the map over the input
  bool npy = false;     // the attribution
  bool logits = false;  // of the input
};

// Inputs first, first + count, first + 2 count, ...
struct Shard {
  int64_t first = 0, count = 1;
};

struct Settings {
  std::vector<std::string> inputs;    // images, folders of images, .npy files
  std::vector<MethodChoice> methods;  // choose_methods
  std::vector<std::string> targets;   // as people write them (targets.h); none: the predicted class
  uint64_t seed = 0;
  std::filesystem::path
      draws;  // .npy of standard variates instead of the seeded ones; may be empty
  std::filesystem::path folder;  // of the outputs
  Save save;
  bool resume = false;  // use the results that the folder has
  Shard shard;
};

}  // namespace whence::jobs
