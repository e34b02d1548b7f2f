// `whence predict`: the top classes of every input.
#include <fmt/core.h>

#include <algorithm>
#include <numeric>
#include <optional>

#include "cli/commands.h"
#include "cli/console.h"
#include "cli/models.h"
#include "cli/signals.h"
#include "cli/text.h"
#include "io/npy.h"
#include "jobs/batch.h"
#include "jobs/records.h"
#include "runtime/text.h"

namespace whence::cli {
namespace {

using jobs::Item;

class PredictJob {
 public:
  explicit PredictJob(const Options& options);
  ExitCode run();

 private:
  bool done_early() const;
  void run_group(const jobs::Group& group);
  void show(const Item& item, const Tensor& logits);
  void show_error(const Item& item, const std::string& error);

  const Options& options_;
  std::shared_ptr<const Model> model_;
  std::optional<Explainer> explainer_;
  std::vector<Item> items_;
  std::optional<Table> table_;
  size_t failed_ = 0;
};

PredictJob::PredictJob(const Options& options) : options_(options), model_(open_model(options)) {
  Explainer::Settings settings = options.settings;
  settings.progress = [](double) { return signal_caught() == 0; };
  explainer_.emplace(model_, std::move(settings));
  jobs::InputList inputs = jobs::list_inputs(options.job.inputs, model_->image_shape());
  items_ = std::move(inputs.items);
  for (const std::string& note : inputs.notes) complain(note);
  size_t width = 0;
  for (const Item& item : items_) width = std::max(width, columns(item.id));
  table_.emplace(std::vector<Table::Column>{
      {"input", std::min<size_t>(width, 32)},
      {model_->outputs == Outputs::values ? "value" : "probability", 0, true},
      {"index", 0, true},
      {"class"}});
}

// Nobody reads, and no files are written.
bool PredictJob::done_early() const { return reader_is_gone() && !options_.job.save.logits; }

ExitCode PredictJob::run() {
  std::optional<jobs::Results> folder;  // for exclusive use of it
  if (options_.job.save.logits) folder.emplace(options_.job.folder);
  jobs::InputReader reader(*model_);
  std::vector<size_t> all(items_.size());
  std::iota(all.begin(), all.end(), size_t(0));
  for (size_t next = 0; next < all.size() && !signal_caught() && !done_early();)
    run_group(jobs::read_group(reader, items_, all, next));
  if (failed_) complain(fmt::format("{} of {} inputs failed", failed_, items_.size()));
  return failed_ ? ExitCode::inputs_failed : ExitCode::done;
}

void PredictJob::run_group(const jobs::Group& group) {
  const std::vector<size_t> places = jobs::readable(group);
  const auto outcomes = jobs::compute_each<Tensor>(
      group, places, items_,
      [&](const Tensor& batch, size_t) { return jobs::rows_of(explainer_->logits(batch)); });
  if (options_.job.save.logits) {
    AtomicWriter files;
    for (size_t k = 0; k < outcomes.size(); ++k)
      if (outcomes[k].value)
        files.add(options_.job.folder / (items_[group.entries[places[k]].item].id + ".logits.npy"),
                  encode_npy(*outcomes[k].value));
    files.commit();
  }
  jobs::each_in_turn(
      group, items_, outcomes, [&](const Item& item, const Tensor& value) { show(item, value); },
      [&](const Item& item, const std::string& error) { show_error(item, error); });
  flush_output();
}

void PredictJob::show(const Item& item, const Tensor& logits) {
  const std::vector<jobs::ClassScore> top =
      jobs::top_classes(logits.reals(), model_->outputs, options_.top);
  if (options_.json) {
    jobs::Record record;
    record["id"] = item.id;
    record["input"] = item.input;
    record["model"] = to_utf8(model_->name);
    record["top"] = jobs::top_record(top, model_->labels);
    if (options_.job.save.logits) record["files"] = {item.id + ".logits.npy"};
    print(jobs::line_of(record) + "\n");
    return;
  }
  for (size_t i = 0; i < top.size(); ++i)
    table_->row({i ? std::string() : shortened(item.id, 32),
                 fmt::format("{:.4f}", top[i].probability.value_or(top[i].logit)),
                 std::to_string(top[i].index), to_utf8(model_->labels[size_t(top[i].index)])});
}

void PredictJob::show_error(const Item& item, const std::string& error) {
  ++failed_;
  flush_output();
  complain(error);
  if (!options_.json) return;
  jobs::Record record;
  record["id"] = item.id;
  record["input"] = item.input;
  record["model"] = to_utf8(model_->name);
  record["error"] = to_utf8(error);
  print(jobs::line_of(record) + "\n");
}

}  // namespace

ExitCode run_predict(const Options& options) { return PredictJob(options).run(); }

}  // namespace whence::cli
