// `whence explain`: a job, with a table or JSON lines of what it writes.
#include <fmt/core.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "cli/commands.h"
#include "cli/console.h"
#include "cli/failure.h"
#include "cli/models.h"
#include "cli/signals.h"
#include "cli/text.h"
#include "io/files.h"
#include "jobs/job.h"
#include "runtime/text.h"

namespace whence::cli {
namespace {

class ExplainCommand {
 public:
  explicit ExplainCommand(const Options& options);
  ExitCode run();

 private:
  jobs::Watch watch();
  Table make_table() const;
  void show(const jobs::GroupReport& report);
  ExitCode close(const jobs::Summary& summary);

  const Options& options_;
  std::optional<jobs::Job> job_;
  std::optional<Table> table_;
  ProgressLine progress_;
};

ExplainCommand::ExplainCommand(const Options& options) : options_(options) {
  jobs::Settings settings = options.job;
  settings.methods = jobs::choose_methods(options.methods, options.parameters, options.layer);
  const std::shared_ptr<const Model> model = open_model(options);
  for (jobs::MethodChoice& method : settings.methods)
    if (const auto it = method.given.find("models"); it != method.given.end())
      method.models = open_models(it->second, options);
  during(Phase::request, [&] { job_.emplace(model, settings, options.settings, watch()); });
  table_.emplace(make_table());
}

jobs::Watch ExplainCommand::watch() {
  return {.interrupted = [] { return signal_caught() != 0; },
          .progress =
              [this](const jobs::Progress& at) {
                progress_.show(fmt::format("{} of {}: {} {:.0f}%", at.item, at.items, at.id,
                                           at.fraction * 100));
              },
          .note = [](const std::string& note) { complain(note); },
          .group = [this](const jobs::GroupReport& report) { show(report); }};
}

Table ExplainCommand::make_table() const {
  const jobs::Facts& facts = job_->facts();
  size_t id = 0, method = 0, name = 0;
  for (const size_t i : job_->shard()) id = std::max(id, columns(job_->items()[i].id));
  for (const jobs::MethodChoice& m : facts.methods) method = std::max(method, m.info->id.size());
  for (const std::string& label : facts.labels) name = std::max(name, columns(label));
  for (const auto& [target, typed, key] : facts.targets)
    if (target.against >= 0)
      name = std::max(name, columns(jobs::target_name(target.of, target.against, facts.labels)));
  return Table({{"input", std::min<size_t>(id, 32)},
                {"method", method},
                {"target", std::min<size_t>(name, 28)},
                {"probability", 0, true},
                {"score", 9, true},
                {"gap", 8, true},
                {"files"}});
}

// "cat.tam.{png,npy}"
std::string files_text(const std::string& stem, const jobs::Save& save) {
  if (save.png && save.npy) return stem + ".{png,npy}";
  return save.png ? stem + ".png" : save.npy ? stem + ".npy" : "-";
}

void ExplainCommand::show(const jobs::GroupReport& report) {
  progress_.clear();
  for (const std::string& error : report.errors) complain(error);
  if (options_.json)
    for (const jobs::Results::Line& line : report.lines) print(line.text + "\n");
  else
    for (const jobs::Finished& one : report.results)
      table_->row({shortened(one.id, 32), one.method, shortened(to_utf8(one.target), 28),
                   one.probability ? fmt::format("{:.4f}", *one.probability) : "-",
                   fmt::format("{:.4g}", one.score),
                   one.gap ? fmt::format("{:.1e}", *one.gap) : std::string("-"),
                   files_text(one.stem, options_.job.save)});
  flush_output();
}

ExitCode ExplainCommand::run() {
  const jobs::Summary summary = during(Phase::request, [&] { return job_->run(); });
  progress_.clear();
  return close(summary);
}

ExitCode ExplainCommand::close(const jobs::Summary& summary) {
  const std::filesystem::path& folder = options_.job.folder;
  if (signal_caught()) {
    complain(fmt::format("{}: interrupted, {} of {} inputs are done; run again with --resume",
                         path_text(folder), summary.done, summary.inputs));
    return ExitCode::inputs_failed;  // the signal decides in the end
  }
  if (summary.failed)
    complain(fmt::format("{} of {} inputs failed, see {}", summary.failed, summary.inputs,
                         path_text(folder / "results.jsonl")));
  else if (!summary.written)
    complain(fmt::format("{}: nothing to do, all {} inputs are done", path_text(folder),
                         summary.inputs));
  return summary.failed ? ExitCode::inputs_failed : ExitCode::done;
}

}  // namespace

ExitCode run_explain(const Options& options) { return ExplainCommand(options).run(); }

}  // namespace whence::cli
