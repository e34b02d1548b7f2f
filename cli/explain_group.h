// Explaining one group of inputs with every method of a job.
#pragma once

#include <string>
#include <vector>

#include "cli/batch.h"
#include "cli/resume.h"
#include "whence/picture.h"

namespace whence::cli {

// What a group leaves behind: nothing of it has its final name yet.
struct GroupOutput {
  AtomicWriter files;
  std::vector<Results::Line> lines;            // in the order of their ranks
  std::vector<std::vector<std::string>> rows;  // of the table, one for each result
  std::vector<std::string> complaints;         // one for each failure
  size_t failed = 0;                           // inputs with a failure
};

class GroupRun {
 public:
  GroupRun(const JobFacts& job, const std::vector<Item>& items, const WorkList& work,
           Explainer& explainer, Painter& painter, const Tensor& draws,
           const std::vector<Entry>& group)
      : job_(job),
        items_(items),
        work_(work),
        explainer_(explainer),
        painter_(painter),
        draws_(draws),
        group_(group) {}
  void run(GroupOutput& out);

 private:
  struct State {  // of one entry
    bool failed = false;
    std::vector<ClassScore> top;
    std::vector<WrittenFile> files;  // its logits
    std::vector<Results::Line> lines;
    std::vector<std::vector<std::string>> rows;
  };
  using ByTarget = std::vector<Result>;

  void predict(GroupOutput& out);
  void explain(size_t method, GroupOutput& out);
  std::vector<Tensor> member_inputs(const Request& request, size_t first, int64_t count) const;
  // Draws and writes; the reason why it cannot be drawn, or nothing.
  std::string keep(size_t place, size_t method, const ByTarget& results, double milliseconds,
                   GroupOutput& out);
  // `method` -1: whichever method.
  void add_error(size_t place, int64_t method, const std::string& message, GroupOutput& out);
  const Item& item(size_t place) const { return items_[group_[place].item]; }

  const JobFacts& job_;
  const std::vector<Item>& items_;
  const WorkList& work_;
  Explainer& explainer_;
  Painter& painter_;
  const Tensor& draws_;
  const std::vector<Entry>& group_;
  std::vector<State> states_;
};

// A request for a method with the job's targets and seed.
Request make_request(const JobFacts& job, size_t method, const Tensor& draws);

}  // namespace whence::cli
