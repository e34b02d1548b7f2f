// Lines of results.jsonl, and what a line must say for its result to be used again.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "jobs/inputs.h"
#include "jobs/requests.h"
#include "jobs/results.h"
#include "jobs/settings.h"
#include "jobs/targets.h"

namespace whence::jobs {

struct WrittenFile {
  std::string name;
  size_t bytes;
};

struct ClassScore {
  int64_t index;
  double logit;
  std::optional<double> probability;  // none of a value
};
// The `count` most probable classes, or the largest values; the first of equals first.
std::vector<ClassScore> top_classes(std::span<const real> logits, Outputs outputs, int64_t count);

// What all lines of a job share.
struct Facts {
  std::filesystem::path folder;  // of the outputs
  std::string model, digest;
  std::string setup;  // fingerprint of preprocessing and class names
  std::string draws;  // fingerprint of the file of draws, or empty
  uint64_t seed = 0;
  Save save;
  std::vector<std::string> labels;
  std::vector<NamedTarget> targets;
  std::vector<MethodChoice> methods;
};
// Reads the files that options of the methods name, to tell one from another.
Facts job_facts(const Model& model, const Settings& settings, std::vector<NamedTarget> targets);
// FNV-1a, 16 hex digits: tells one file from another, not more.
std::string fingerprint(std::span<const uint8_t> bytes);
// Place of a line in the order of an unbroken run. `method` -1: the input itself failed.
int64_t rank_of(const Facts& job, size_t item, int64_t method, size_t target);

Record top_record(const std::vector<ClassScore>& top, const std::vector<std::string>& labels);
Record result_record(const Facts& job, const Item& item, const MethodChoice& method,
                     const NamedTarget& target, const Result& result,
                     const std::vector<ClassScore>& top, const std::vector<WrittenFile>& files,
                     double milliseconds);
// `method`: null where the input could not even be read.
Record error_record(const Facts& job, const Item& item, const MethodChoice* method,
                    const std::string& error);

// "cat.tam", or "cat.tam.TARGET" where there are several targets.
std::string file_stem(const Facts& job, const Item& item, const MethodChoice& method,
                      const NamedTarget& target);
// Names of the files that a result consists of.
std::vector<std::string> file_names(const Facts& job, const Item& item, const MethodChoice& method,
                                    const NamedTarget& target);

// Whether the result of `line` is the one that would be computed now and all its files are in
// place. `difference`: the first thing that differs, as "steps 50, now 100"; empty where it is not
// about settings.
bool is_current(const std::string& line, const Facts& job, const Item& item,
                const MethodChoice& method, const NamedTarget& target,
                const std::filesystem::path& folder, std::string& difference);

}  // namespace whence::jobs
