#include "jobs/job.h"

#include <algorithm>

#include "io/files.h"
#include "io/npy.h"
#include "runtime/check.h"

namespace whence::jobs {
namespace {

void check_draws(const Settings& settings) {
  const auto is_random = [](const MethodChoice& method) { return method.is_random(); };
  if (!settings.draws.empty() && std::ranges::none_of(settings.methods, is_random))
    fail_usage("--draws {}: nothing is drawn by these methods and options",
               path_text(settings.draws));
}

Tensor read_draws(const std::filesystem::path& path) {
  Tensor draws = read_npy(path);
  if (const Dtype dtype = draws.type().dtype; dtype != Dtype::floating)
    fail(ErrorCode::dtype, "{}: {} are given, draws are reals", path_text(path), to_string(dtype));
  return draws;
}

// An input whose results could not be named fails before work starts.
void refuse_long_names(std::vector<Item>& items, const Facts& facts) {
  constexpr size_t most = 255;  // bytes, of common file systems
  size_t longest = 0;           // of what follows an input's id
  for (const MethodChoice& method : facts.methods)
    for (const NamedTarget& target : facts.targets)
      for (const std::string& name : file_names(facts, Item{}, method, target))
        longest = std::max(longest, name.size());
  for (Item& item : items)
    if (item.error.empty() && longest > 0 && item.id.size() + longest > most)
      item.error = fmt::format("{}: its results would have names of {} bytes, {} are possible",
                               path_text(item.path), item.id.size() + longest, most);
}

}  // namespace

Job::Job(std::shared_ptr<const Model> model, const Settings& settings,
         const Explainer::Settings& computing, Watch watch)
    : model_(std::move(model)),
      resume_(settings.resume),
      watch_(std::move(watch)),
      painter_(computing.device, computing.threads) {
  check_draws(settings);
  facts_ = job_facts(*model_, settings, read_targets(settings.targets, model_->labels));
  if (!settings.draws.empty()) draws_ = read_draws(settings.draws);
  Explainer::Settings watched = computing;
  watched.progress = [this](double fraction) {
    if (watch_.progress) watch_.progress({at_ + 1, pending_, id_, fraction});
    return !interrupted();
  };
  explainer_.emplace(model_, std::move(watched));

  InputList inputs = list_inputs(settings.inputs, model_->image_shape());
  items_ = std::move(inputs.items);
  refuse_long_names(items_, facts_);
  for (size_t i = size_t(settings.shard.first); i < items_.size();
       i += size_t(settings.shard.count))
    mine_.push_back(i);
  check_requests();
  if (watch_.note)
    for (const std::string& note : inputs.notes) watch_.note(note);
}

void Job::check_requests() {
  // Planning a method checks its options, the model's kind, and that the plan fits the memory. The
  // plans are those of the first group.
  std::vector<Request> requests;
  for (size_t m = 0; m < facts_.methods.size(); ++m)
    requests.push_back(make_request(facts_, m, draws_));
  explainer_->bytes(requests, int64_t(std::clamp<size_t>(mine_.size(), 1, group_size)));
}

Summary Job::run() {
  results_.emplace(facts_.folder);
  const WorkList work = plan_work(*results_, facts_, items_, mine_, resume_);
  if (!work.note.empty() && watch_.note) watch_.note(path_text(facts_.folder) + ": " + work.note);
  Summary summary;
  summary.inputs = mine_.size();
  summary.done = mine_.size() - work.items.size();
  try {
    run_groups(work, summary);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::cancelled || !interrupted()) throw;
  }
  if (resume_) results_->sort();
  return summary;
}

void Job::run_groups(const WorkList& work, Summary& summary) {
  InputReader reader(*model_);
  pending_ = work.items.size();
  for (size_t next = 0; next < work.items.size() && !interrupted();) {
    at_ = next;
    id_ = items_[work.items[next]].id;
    const Group group = read_group(reader, items_, work.items, next);
    GroupOutput out;
    GroupRun(facts_, items_, work, *explainer_, painter_, draws_, group).run(out);
    results_->commit(out.files, out.report.lines);
    summary.done += group.entries.size();
    summary.failed += out.report.failed;
    summary.written += out.report.results.size();
    if (watch_.group) watch_.group(out.report);
  }
}

}  // namespace whence::jobs
