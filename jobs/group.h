// Explaining one group of inputs with every method of a job.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "jobs/batch.h"
#include "jobs/resume.h"
#include "whence/picture.h"

namespace whence::jobs {

// A result, in the words that people read.
struct Finished {
  std::string id, method;  // of the input; of the method
  std::string target;      // its name, or of a contrast both
  std::optional<real> probability;
  real score = 0;
  std::optional<double> gap;
  std::string stem;  // of its files' names
};

struct GroupReport {
  std::vector<Results::Line> lines;  // of results.jsonl, in the order of their ranks
  std::vector<Finished> results;
  std::vector<std::string> errors;  // one for each failure
  size_t failed = 0;                // inputs with a failure
};

// What a group leaves behind: nothing of it has its final name yet.
struct GroupOutput {
  AtomicWriter files;
  GroupReport report;
};

class GroupRun {
 public:
  GroupRun(const Facts& job, const std::vector<Item>& items, const WorkList& work,
           Explainer& explainer, Painter& painter, const Tensor& draws, const Group& group)
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
    std::vector<Finished> results;
  };
  using ByTarget = std::vector<Result>;
  struct Answer {  // of one entry
    Tensor logits;
    std::vector<ByTarget> results;  // of each request
  };

  // The name of a folder where a result of the item should go; empty: none.
  std::string folder_in_the_way(const Item& item) const;
  // Entries that the method has not been computed for.
  std::vector<size_t> pending(size_t method) const;
  // All of these methods of all of these entries at once; what fails, by each method apart.
  void explain(const std::vector<size_t>& methods, const std::vector<size_t>& places,
               GroupOutput& out);
  std::vector<Answer> answers(const Tensor& batch, size_t first, std::vector<Request>& requests);
  void predict(const std::vector<size_t>& places, GroupOutput& out);
  void predicted(size_t place, const Tensor& logits, GroupOutput& out);
  void explain_apart(size_t method, std::vector<size_t> places, GroupOutput& out);
  std::vector<Tensor> member_inputs(const Request& request, size_t first, int64_t count) const;
  std::vector<Image> pictures(size_t place, const ByTarget& results);
  // Draws and writes, or adds the reason why it cannot be drawn.
  void keep(size_t place, size_t method, ByTarget results, double milliseconds, GroupOutput& out);
  // `method` -1: whichever method.
  void add_error(size_t place, int64_t method, const std::string& message, GroupOutput& out);
  const Entry& entry(size_t place) const { return group_.entries[place]; }
  const Item& item(size_t place) const { return items_[entry(place).item]; }

  const Facts& job_;
  const std::vector<Item>& items_;
  const WorkList& work_;
  Explainer& explainer_;
  Painter& painter_;
  const Tensor& draws_;
  const Group& group_;
  std::vector<State> states_;
};

// A request for a method with the job's targets and seed.
Request make_request(const Facts& job, size_t method, const Tensor& draws);

}  // namespace whence::jobs
