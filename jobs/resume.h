// What a job still has to compute, given what its folder holds.
#pragma once

#include <string>
#include <vector>

#include "jobs/records.h"

namespace whence::jobs {

struct WorkList {
  std::vector<std::vector<bool>> pending;  // [method][item]
  std::vector<size_t> items;               // with something pending, ascending
  std::string note;                        // why earlier results are not used, where they are not
};

// `mine`: the items of this shard. Without `resume` everything is pending. Lines that the job will
// replace, by results of the same name or by files of the same name, leave results.jsonl; the ones
// that stay and belong to the job get their rank.
WorkList plan_work(Results& results, const Facts& job, const std::vector<Item>& items,
                   const std::vector<size_t>& mine, bool resume);

}  // namespace whence::jobs
