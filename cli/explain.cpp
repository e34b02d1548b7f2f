// `whence explain`: inputs in groups, each group's results on disk before the next begins.
#include <algorithm>
#include <memory>
#include <optional>

#include "cli/commands.h"
#include "cli/console.h"
#include "cli/explain_group.h"
#include "cli/models.h"
#include "cli/signals.h"
#include "cli/text.h"
#include "io/npy.h"
#include "runtime/check.h"

namespace whence::cli {
namespace {

class ExplainJob {
 public:
  // Loads the model and checks everything that can be checked before work starts.
  explicit ExplainJob(const Options& options);
  ExitCode run();

 private:
  void check_requests();
  Table make_table() const;
  void commit(GroupOutput& out);
  ExitCode close(size_t done);

  const Options& options_;
  std::shared_ptr<const Model> model_;
  JobFacts facts_;
  Tensor draws_;
  std::optional<Explainer> explainer_;
  Painter painter_;
  std::vector<Item> items_;
  std::vector<size_t> mine_;  // of items_: this shard's
  std::optional<Results> results_;
  std::optional<Table> table_;
  Progress progress_;
  std::string progress_text_;
  size_t written_ = 0, failed_ = 0;  // results; inputs
};

ExplainJob::ExplainJob(const Options& options)
    : options_(options), painter_(options.settings.device, options.settings.threads) {
  std::vector<MethodChoice> methods =
      choose_methods(options.methods, options.parameters, options.layer);
  if (!options.draws.empty() &&
      std::none_of(methods.begin(), methods.end(),
                   [](const MethodChoice& method) { return method.is_random(); }))
    quit(ExitCode::usage, "--draws {}: nothing is drawn by these methods and options",
         path_text(options.draws));
  model_ = open_model(options);
  for (MethodChoice& method : methods)
    if (const auto it = method.given.find("models"); it != method.given.end())
      method.models = open_models(it->second, options);
  facts_ = job_facts(*model_, options, std::move(methods),
                     read_targets(options.targets, model_->labels));
  if (!options.draws.empty())
    draws_ = or_quit(ExitCode::usage, [&] { return read_npy(options.draws); });
  Explainer::Settings settings = options.settings;
  settings.progress = [this](double fraction) {
    progress_.show(fmt::format("{} {:.0f}%", progress_text_, fraction * 100));
    return signal_caught() == 0;
  };
  explainer_.emplace(model_, std::move(settings));

  InputList inputs = list_inputs(options.inputs, model_->input);
  items_ = std::move(inputs.items);
  for (size_t i = size_t(options.shard.first); i < items_.size(); i += size_t(options.shard.count))
    mine_.push_back(i);
  check_requests();
  for (const std::string& note : inputs.notes) complain(note);
}

void ExplainJob::check_requests() {
  // Planning a method checks its options, the model's kind, and that the plan fits the memory.
  const auto items = int64_t(std::clamp<size_t>(mine_.size(), 1, group_size));
  for (size_t m = 0; m < facts_.methods.size(); ++m)
    or_quit(ExitCode::usage,
            [&] { return explainer_->bytes(make_request(facts_, m, draws_), items); });
}

Table ExplainJob::make_table() const {
  size_t id = 0, method = 0, name = 0;
  for (const size_t i : mine_) id = std::max(id, columns(items_[i].id));
  for (const MethodChoice& m : facts_.methods) method = std::max(method, m.info->id.size());
  for (const std::string& label : facts_.labels) name = std::max(name, columns(label));
  for (const NamedTarget& target : facts_.targets)
    if (target.target.against >= 0)
      name = std::max(name,
                      columns(target_name(target.target.of, target.target.against, facts_.labels)));
  return Table({{"input", std::min<size_t>(id, 32)},
                {"method", method},
                {"target", std::min<size_t>(name, 28)},
                {"probability", 0, true},
                {"score", 9, true},
                {"gap", 8, true},
                {"files"}});
}

ExitCode ExplainJob::run() {
  results_.emplace(options_.out);
  const WorkList work = plan_work(*results_, facts_, items_, mine_, options_.resume);
  if (!work.note.empty()) complain(path_text(options_.out) + ": " + work.note);
  table_.emplace(make_table());
  InputReader reader(*model_);
  size_t next = 0, done = 0;
  try {
    while (next < work.items.size() && !signal_caught()) {
      progress_text_ =
          fmt::format("{} of {}: {}", next + 1, work.items.size(), items_[work.items[next]].id);
      const std::vector<Entry> group = read_group(reader, items_, work.items, next);
      GroupOutput out;
      GroupRun(facts_, items_, work, *explainer_, painter_, draws_, group).run(out);
      commit(out);
      done += group.size();
    }
  } catch (const Error& error) {
    if (error.code() != ErrorCode::cancelled || !signal_caught())
      throw Failure(exit_code(error, ExitCode::usage), error.what());
  }
  progress_.clear();
  if (options_.resume) results_->sort();
  return close(mine_.size() - work.items.size() + done);
}

void ExplainJob::commit(GroupOutput& out) {
  const std::vector<Results::Line> lines = out.lines;
  results_->commit(out.files, std::move(out.lines));
  progress_.clear();
  for (const std::string& complaint : out.complaints) complain(complaint);
  if (options_.json)
    for (const Results::Line& line : lines) print(line.text + "\n");
  else
    for (const auto& row : out.rows) table_->row(row);
  flush_output();
  written_ += out.rows.size();
  failed_ += out.failed;
}

ExitCode ExplainJob::close(size_t done) {
  if (signal_caught()) {
    complain(fmt::format("{}: interrupted, {} of {} inputs are done; run again with --resume",
                         path_text(options_.out), done, mine_.size()));
    return ExitCode::inputs_failed;  // the signal decides in the end
  }
  if (failed_)
    complain(fmt::format("{} of {} inputs failed, see {}", failed_, mine_.size(),
                         path_text(options_.out / "results.jsonl")));
  else if (!written_)
    complain(fmt::format("{}: nothing to do, all {} inputs are done", path_text(options_.out),
                         mine_.size()));
  return failed_ ? ExitCode::inputs_failed : ExitCode::done;
}

}  // namespace

ExitCode run_explain(const Options& options) { return ExplainJob(options).run(); }

}  // namespace whence::cli
