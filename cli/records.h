// Lines of results.jsonl, and what a line must say for its result to be used again.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "cli/inputs.h"
#include "cli/options.h"
#include "cli/requests.h"
#include "cli/results.h"
#include "cli/targets.h"

namespace whence::cli {

struct WrittenFile {
  std::string name;
  size_t bytes;
};

struct ClassScore {
  int64_t index;
  double probability;
};
// The `count` most probable classes by softmax; the first of equals first.
std::vector<ClassScore> top_classes(std::span<const real> logits, int64_t count);

// What all lines of a job share.
struct JobFacts {
  std::filesystem::path folder;  // of the outputs
  std::string model, digest;
  std::string setup;  // fingerprint of preprocessing and class names
  std::string draws;  // fingerprint of the file of --draws, or empty
  uint64_t seed = 0;
  Save save;
  std::vector<std::string> labels;
  std::vector<NamedTarget> targets;
  std::vector<MethodChoice> methods;
};
JobFacts job_facts(const Model& model, const Options& options, std::vector<MethodChoice> methods,
                   std::vector<NamedTarget> targets);
// Place of a line in the order of an unbroken run. `method` -1: the input itself failed.
int64_t rank_of(const JobFacts& job, size_t item, int64_t method, size_t target);

Record top_record(const std::vector<ClassScore>& top, const std::vector<std::string>& labels);
Record result_record(const JobFacts& job, const Item& item, const MethodChoice& method,
                     const NamedTarget& target, const Result& result,
                     const std::vector<ClassScore>& top, const std::vector<WrittenFile>& files,
                     double milliseconds);
// `method`: null where the input could not even be read.
Record error_record(const JobFacts& job, const Item& item, const MethodChoice* method,
                    const std::string& error);

// "cat.tam", or "cat.tam.TARGET" where there are several targets.
std::string file_stem(const JobFacts& job, const Item& item, const MethodChoice& method,
                      const NamedTarget& target);
// Names of the files that a result consists of.
std::vector<std::string> file_names(const JobFacts& job, const Item& item,
                                    const MethodChoice& method, const NamedTarget& target);

// Whether the result of `line` is the one that would be computed now and all its files are in
// place. `difference`: the first thing that differs, as "steps 50, now 100"; empty where it is not
// about settings.
bool is_current(const std::string& line, const JobFacts& job, const Item& item,
                const MethodChoice& method, const NamedTarget& target,
                const std::filesystem::path& folder, std::string& difference);

}  // namespace whence::cli
