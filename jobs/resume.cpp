#include "jobs/resume.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>

namespace whence::jobs {
namespace {

// What a line is to the job.
struct Standing {
  bool known = false;     // of an input and method of the job
  bool replaced = false;  // it goes, whatever happens to other lines
  bool current = false;   // it could stay
  size_t item = 0, method = 0;
};

class Review {
 public:
  Review(const Facts& job, const std::vector<Item>& items, const std::vector<size_t>& mine,
         const std::filesystem::path& folder)
      : job_(job), items_(items), folder_(folder) {
    for (const size_t i : mine) by_id_[items[i].id] = i;
  }

  Standing standing(Results::Line& line, bool resume) {
    Standing s;
    const auto item = by_id_.find(line.id);
    if (item == by_id_.end()) return s;
    s.item = item->second;
    if (line.method.empty()) {
      s.replaced = line.failed;
      return s;
    }
    const auto& methods = job_.methods;
    s.method =
        size_t(std::find_if(methods.begin(), methods.end(),
                            [&](const MethodChoice& m) { return m.info->id == line.method; }) -
               methods.begin());
    if (s.method == methods.size()) return s;
    s.known = true;
    const auto& targets = job_.targets;
    const size_t target =
        size_t(std::find_if(targets.begin(), targets.end(),
                            [&](const NamedTarget& t) { return t.key == line.wanted; }) -
               targets.begin());
    if (line.failed) {
      s.replaced = true;
    } else if (target == targets.size()) {
      s.known = false;  // another target's; it stays unless its files do not
      s.replaced = shares_files(line.text, s);
    } else {
      line.rank = rank_of(job_, s.item, int64_t(s.method), target);
      s.current = resume && is_current(line, s, targets[target]);
      s.replaced = !s.current;
    }
    return s;
  }

  size_t stale() const { return stale_; }
  const std::string& first_difference() const { return first_difference_; }

 private:
  bool is_current(const Results::Line& line, const Standing& s, const NamedTarget& target) {
    std::string difference;
    if (jobs::is_current(line.text, job_, items_[s.item], job_.methods[s.method], target, folder_,
                         difference))
      return true;
    if (!difference.empty() && stale_++ == 0) first_difference_ = difference;
    return false;
  }

  bool shares_files(const std::string& line, const Standing& s) const {
    const Record record = Record::parse(line, nullptr, false);
    const auto files = record.find("files");
    if (files == record.end() || !files->is_array()) return false;
    for (const NamedTarget& target : job_.targets)
      for (const std::string& name :
           file_names(job_, items_[s.item], job_.methods[s.method], target))
        if (name != items_[s.item].id + ".logits.npy" &&
            std::find(files->begin(), files->end(), Record(name)) != files->end())
          return true;
    return false;
  }

  const Facts& job_;
  const std::vector<Item>& items_;
  const std::filesystem::path& folder_;
  std::map<std::string, size_t> by_id_;
  size_t stale_ = 0;
  std::string first_difference_;
};

}  // namespace

WorkList plan_work(Results& results, const Facts& job, const std::vector<Item>& items,
                   const std::vector<size_t>& mine, bool resume) {
  Review review(job, items, mine, results.folder());
  std::vector<Results::Line>& lines = results.lines();
  std::vector<Standing> standings;
  std::vector<std::vector<size_t>> current(job.methods.size(),
                                           std::vector<size_t>(items.size(), 0));
  for (Results::Line& line : lines) {
    standings.push_back(review.standing(line, resume));
    const Standing& s = standings.back();
    if (s.current) ++current[s.method][s.item];
  }
  WorkList work;
  work.pending.assign(job.methods.size(), std::vector<bool>(items.size(), false));
  for (const size_t i : mine) {
    bool any = false;
    for (size_t m = 0; m < job.methods.size(); ++m)
      any |= work.pending[m][i] = current[m][i] < job.targets.size();
    if (any) work.items.push_back(i);
  }
  // All targets of an input and method are computed together, so they are replaced together.
  std::vector<bool> gone;
  for (const Standing& s : standings)
    gone.push_back(s.replaced || (s.known && work.pending[s.method][s.item]));
  if (resume && review.stale() > 0)
    work.note = fmt::format(
        "{} results are of another model file or other options (first "
        "difference: {}); they are computed again",
        review.stale(), review.first_difference());
  results.drop(gone);
  return work;
}

}  // namespace whence::jobs
