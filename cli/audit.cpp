// `whence audit`: relevance in, out and lost at every node of a relevance pass.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "cli/commands.h"
#include "cli/console.h"
#include "cli/failure.h"
#include "cli/models.h"
#include "cli/signals.h"
#include "jobs/batch.h"
#include "jobs/requests.h"
#include "jobs/results.h"
#include "jobs/targets.h"
#include "runtime/text.h"

namespace whence::cli {
namespace {

using jobs::Item;
using jobs::Record;

class AuditJob {
 public:
  explicit AuditJob(const Options& options);
  ExitCode run();

 private:
  void run_group(const jobs::Group& group);
  void show(const Item& item, const std::vector<Audit>& audits);
  void show_error(const Item& item, const std::string& error);
  Record start_record(const Item& item) const;

  const Options& options_;
  jobs::MethodChoice method_;
  std::shared_ptr<const Model> model_;
  std::optional<Explainer> explainer_;
  std::vector<jobs::NamedTarget> targets_;
  std::vector<Item> items_;
  size_t failed_ = 0, shown_ = 0;
};

// Infinities and NaN have no JSON.
Record number(double value) {
  return std::isfinite(value) ? Record(shortest(real(value))) : Record(nullptr);
}

std::string number_text(double value) { return fmt::format("{:.5g}", value); }
std::string number_text(const std::optional<double>& value) {
  return value ? number_text(*value) : "-";
}

Record step_record(const AuditRow& row) {
  Record record;
  record["value"] = row.name;
  record["op"] = row.kind;
  record["rule"] = row.rule;
  record["in"] = number(row.in);
  record["out"] = number(row.out);
  record["lost"] = number(row.lost());
  if (row.absorbed) record["bias"] = number(*row.absorbed);
  if (row.probabilities) record["attention"] = number(*row.probabilities);
  return record;
}

// The block that a value belongs to: its name up to the number in it ("blocks.3" of
// "blocks.3.attn.out"), or its first part.
std::string block_of(const std::string& name) {
  for (size_t at = 0; at < name.size();) {
    const size_t end = std::min(name.find('.', at), name.size());
    const bool numbered = std::all_of(name.begin() + int64_t(at), name.begin() + int64_t(end),
                                      [](char c) { return c >= '0' && c <= '9'; });
    if (numbered) return name.substr(0, end);
    at = end + 1;
  }
  return name.substr(0, name.find('.'));
}

// Does the row of block `next` stand apart from those of `block`? Not where it has no name, and not
// between values that stand alone, such as "logits" and "norm".
bool begins_block(const std::string& block, const std::string& next) {
  const auto alone = [](const std::string& name) { return name.find('.') == name.npos; };
  if (block.empty() || next.empty() || block == next) return false;
  return !(alone(block) && alone(next)) && !next.starts_with(block + ".");
}

void print_table(const Audit& audit) {
  const auto has = [&](auto field) {
    return std::any_of(audit.rows.begin(), audit.rows.end(),
                       [&](const AuditRow& row) { return (row.*field).has_value(); });
  };
  const bool bias = has(&AuditRow::absorbed), attention = has(&AuditRow::probabilities);
  std::vector<Table::Column> columns{{"value"}, {"op"}, {"rule"}};
  for (const char* title : {"in", "out", "lost"}) columns.push_back({title, 11, true});
  if (bias) columns.push_back({"to bias", 11, true});
  if (attention) columns.push_back({"attention", 11, true});
  std::vector<std::vector<std::string>> lines;
  for (const AuditRow& row : audit.rows) {
    lines.push_back({row.name.empty() ? "-" : row.name, row.kind, row.rule, number_text(row.in),
                     number_text(row.out), number_text(row.lost())});
    if (bias) lines.back().push_back(number_text(row.absorbed));
    if (attention) lines.back().push_back(number_text(row.probabilities));
    for (size_t i = 0; i < 3; ++i)
      columns[i].width = std::max(columns[i].width, lines.back()[i].size());
  }
  Table table(columns);
  std::string block;
  for (size_t i = 0; i < lines.size(); ++i) {
    const std::string& name = audit.rows[i].name;
    const std::string next = name.empty() ? block : block_of(name);
    if (begins_block(block, next)) print("\n");
    block = next;
    table.row(lines[i]);
  }
}

AuditJob::AuditJob(const Options& options)
    : options_(options),
      method_(jobs::choose_methods({options.method.empty() ? "lrp" : options.method},
                                   options.parameters)[0]),
      model_(open_model(options)),
      targets_(jobs::read_targets(options.job.targets, model_->labels)) {
  Explainer::Settings settings = options.settings;
  settings.progress = [](double) { return signal_caught() == 0; };
  explainer_.emplace(model_, std::move(settings));
  jobs::InputList inputs = jobs::list_inputs(options.job.inputs, model_->image_shape());
  items_ = std::move(inputs.items);
  for (const std::string& note : inputs.notes) complain(note);
}

ExitCode AuditJob::run() {
  jobs::InputReader reader(*model_);
  std::vector<size_t> all(items_.size());
  std::iota(all.begin(), all.end(), size_t(0));
  during(Phase::request, [&] {
    for (size_t next = 0; next < all.size() && !signal_caught() && !reader_is_gone();)
      run_group(jobs::read_group(reader, items_, all, next));
  });
  if (failed_) complain(fmt::format("{} of {} inputs failed", failed_, items_.size()));
  return failed_ ? ExitCode::inputs_failed : ExitCode::done;
}

void AuditJob::run_group(const jobs::Group& group) {
  Request request;
  request.method = method_.info->id;
  request.options = method_.given;
  request.targets.clear();
  for (const jobs::NamedTarget& target : targets_) request.targets.push_back(target.target);
  const auto outcomes = jobs::compute_each<std::vector<Audit>>(
      group, jobs::readable(group), items_,
      [&](const Tensor& batch, size_t) { return explainer_->audit(batch, request); });
  jobs::each_in_turn(
      group, items_, outcomes,
      [&](const Item& item, const std::vector<Audit>& value) { show(item, value); },
      [&](const Item& item, const std::string& error) { show_error(item, error); });
  flush_output();
}

Record AuditJob::start_record(const Item& item) const {
  Record record;
  record["id"] = item.id;
  record["input"] = item.input;
  record["model"] = to_utf8(model_->name);
  record["method"] = method_.info->id;
  return record;
}

void AuditJob::show(const Item& item, const std::vector<Audit>& audits) {
  for (const Audit& audit : audits) {
    const std::string name = jobs::target_name(audit.target, audit.against, model_->labels);
    const double gap = audit.input - audit.seed;
    if (options_.json) {
      Record record = start_record(item);
      record["options"] = method_.options();
      record["rules"] = audit.rules;
      record["target"] = audit.target;
      if (audit.against >= 0) record["against"] = audit.against;
      record["target_name"] = name;
      record["score"] = number(double(audit.score));
      record["seed_relevance"] = number(audit.seed);
      record["input_relevance"] = number(audit.input);
      record["gap"] = number(gap);
      record["steps"] = Record::array();
      for (const AuditRow& row : audit.rows) record["steps"].push_back(step_record(row));
      print(jobs::line_of(record) + "\n");
      continue;
    }
    print(fmt::format("{}{}: {} of {}, rules {}, score {}\n\n", shown_++ ? "\n" : "", item.id,
                      method_.info->id, to_utf8(name), audit.rules,
                      number_text(double(audit.score))));
    print_table(audit);
    print(fmt::format("\nrelevance of the output {}, of the input {}, gap {}\n",
                      number_text(audit.seed), number_text(audit.input), number_text(gap)));
  }
}

void AuditJob::show_error(const Item& item, const std::string& error) {
  ++failed_;
  flush_output();
  complain(error);
  if (!options_.json) return;
  Record record = start_record(item);
  record["error"] = to_utf8(error);
  print(jobs::line_of(record) + "\n");
}

}  // namespace

ExitCode run_audit(const Options& options) { return AuditJob(options).run(); }

}  // namespace whence::cli
