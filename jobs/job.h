// A job: methods over many inputs, in groups, each group's results on disk before the next begins.
// Inputs that fail become lines with an error and stop nothing.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "jobs/group.h"
#include "jobs/settings.h"
#include "whence/explain.h"

namespace whence::jobs {

struct Progress {
  size_t item = 0, items = 0;  // the first of the group that is computed, from 1; of how many
  const std::string& id;       // of that item
  double fraction = 0;         // done of the pass that runs
};

// What a caller hears and says while a job runs, on the thread that runs it. Each may be empty.
struct Watch {
  // Asked before each group and within passes; true ends the job. What is finished stays.
  std::function<bool()> interrupted = {};
  std::function<void(const Progress&)> progress = {};
  std::function<void(const std::string&)> note = {};   // what was left out, what is computed again
  std::function<void(const GroupReport&)> group = {};  // is on disk
};

struct Summary {
  size_t inputs = 0;   // of this shard
  size_t done = 0;     // of these, the ones that need nothing more, failed ones included
  size_t failed = 0;   // by this run
  size_t written = 0;  // results, by this run
};

class Job {
 public:
  // Checks everything that can be checked before work starts, and lists the inputs. Usage errors
  // are about the settings; others name the file or the method. Nothing is written.
  Job(std::shared_ptr<const Model> model, const Settings& settings,
      const Explainer::Settings& computing, Watch watch = {});
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  const Facts& facts() const { return facts_; }
  const std::vector<Item>& items() const { return items_; }   // all inputs
  const std::vector<size_t>& shard() const { return mine_; }  // of these, the job's own

  // Once. The folder is held until the job is destroyed. Errors with the code `output`: results
  // cannot be written. An interrupted job returns, and goes on where it was when a job of the same
  // settings resumes.
  Summary run();

 private:
  void check_requests();
  bool interrupted() const { return watch_.interrupted && watch_.interrupted(); }
  void run_groups(const WorkList& work, Summary& summary);

  std::shared_ptr<const Model> model_;
  bool resume_;
  Watch watch_;
  Facts facts_;
  Tensor draws_;
  std::optional<Explainer> explainer_;
  Painter painter_;
  std::vector<Item> items_;
  std::vector<size_t> mine_;  // of items_: this shard's
  std::optional<Results> results_;
  size_t at_ = 0;       // in the list of work: the group that is computed
  size_t pending_ = 0;  // length of that list
  std::string id_;      // of the group's first item
};

}  // namespace whence::jobs
