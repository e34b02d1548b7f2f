// The balance of a relevance pass: what came to every node, what it handed on, and what is gone.
// With sums over each sample, R_in - R_out = lost; a pass from `seed` to the input has
//   seed - input = the sum of what its steps lost.
#include <algorithm>
#include <map>

#include "explain/method.h"
#include "explain/rules/file.h"
#include "runtime/check.h"
#include "runtime/text.h"
#include "whence/rules.h"

namespace whence {
namespace {

// Places of a row's sums among the values that a pass keeps, -1 where there is none.
struct RowSums {
  int in = -1, absorbed = -1, probabilities = -1;
  std::vector<int> out;
};

// The sums that a pass keeps: [B] each.
struct Recorded {
  std::vector<AuditRow> rows;  // without numbers
  std::vector<RowSums> sums;
  int seed = -1, input = -1;
  std::string rules;
};

class Recorder {
 public:
  Recorder(Scored& s, const Job& job) : s_(s), job_(job) {}

  Values run(Recorded& into) {
    Values wrt{s_.image};
    for (int64_t l = first_attention(); l < s_.model.blocks; ++l)
      wrt.push_back(s_.attention(l).probs);
    const RuleTable table = relevance_rules(job_);
    const Value seed = relevance_seed(s_, job_);
    into = {};
    into.rules = table.name;
    into.seed = total(seed);
    const Values of = relevance(s_.logits, seed, wrt, table,
                                [&](const RelevanceStep& step) { record(step, into); });
    into.input = total(of[0]);
    for (size_t i = 1; i < of.size(); ++i) set_apart(total(of[i]), into);
    return std::move(kept_);
  }

 private:
  // Methods that read the relevance of attentions do so from this block on.
  int64_t first_attention() const {
    if (job_.info.id == "partial-lrp") return s_.model.blocks - 1;
    if (job_.info.id == "transformer-attribution")
      return job_.options.integer("start_layer", 0, s_.model.blocks - 1);
    return s_.model.blocks;
  }

  // Where the sum of each sample's elements is kept.
  int total(Value v) {
    const auto [at, fresh] = places_.try_emplace(v, int(kept_.size()));
    if (fresh) {
      std::vector<int> axes;
      for (int i = 1; i < v.shape().rank(); ++i) axes.push_back(i);
      kept_.push_back(axes.empty() ? v : sum(v, axes));
    }
    return at->second;
  }

  // At once, so that relevances need not stay in memory until their sums are made.
  void record(const RelevanceStep& step, Recorded& into) {
    AuditRow row;
    row.name = s_.graph.node(step.out).name;
    row.kind = step.kind;
    row.rule = step.rule;
    RowSums sums;
    sums.in = total(step.relevance);
    if (step.absorbed) sums.absorbed = total(step.absorbed);
    for (Value part : step.parts) sums.out.push_back(total(part));
    into.rows.push_back(std::move(row));
    into.sums.push_back(std::move(sums));
  }

  // What an attention gives to its probabilities goes no further: the queries and keys have it too.
  static void set_apart(int probabilities, Recorded& into) {
    for (RowSums& row : into.sums)
      if (std::erase(row.out, probabilities)) row.probabilities = probabilities;
  }

  Scored& s_;
  const Job& job_;
  Values kept_;
  std::map<Value, int> places_;
};

Audit audit_of(const Recorded& recorded, const Pass& pass, int64_t row) {
  const auto number = [&](int place) { return double(pass.wanted(size_t(place))[size_t(row)]); };
  Audit audit;
  audit.rules = recorded.rules;
  audit.rows = recorded.rows;
  audit.seed = number(recorded.seed);
  audit.input = number(recorded.input);
  for (size_t i = 0; i < audit.rows.size(); ++i) {
    AuditRow& to = audit.rows[i];
    const RowSums& from = recorded.sums[i];
    to.in = number(from.in);
    for (int part : from.out) to.out += number(part);
    if (from.absorbed >= 0) to.absorbed = number(from.absorbed);
    if (from.probabilities >= 0) to.probabilities = number(from.probabilities);
  }
  return audit;
}

const MethodInfo& relevance_method(const std::string& id) {
  const std::vector<std::string> ids{"lrp", "full-lrp", "transformer-attribution", "partial-lrp"};
  const MethodInfo& info = method(id);
  if (std::find(ids.begin(), ids.end(), id) == ids.end())
    fail_usage("method {} spreads no relevance; {} do", id, listing(ids));
  return info;
}

}  // namespace

std::vector<std::vector<Audit>> Explainer::audit(const Tensor& inputs, const Request& request) {
  const MethodInfo& info = relevance_method(request.method);
  check_applies(info, *model_, request);
  check_targets(*model_, request.targets);
  check_inputs(*model_, inputs);
  const Job job{*model_,          settings_, request, info, OptionSet(info, request.options),
                inputs.shape()[0]};
  if (info.id == "lrp") job.options.choice("reduce", {"sum", "none"});  // has no use here
  Recorded recorded;
  Pass pass = chunked_pass(*model_, settings_, ScoreKind::logit, job.items,
                           [&](Scored& s) { return Recorder(s, in_f32(job)).run(recorded); });
  std::vector<std::vector<Audit>> audits(static_cast<size_t>(job.items));
  const Loops loops(job, ScoreKind::logit);
  const Clean clean =
      loops.items(pass, inputs, request.targets, nullptr, [&](int64_t item, size_t, int64_t row) {
        audits[size_t(item)].push_back(audit_of(recorded, pass, row));
      });
  for (size_t i = 0; i < audits.size(); ++i)
    for (size_t t = 0; t < audits[i].size(); ++t) {
      const Result result = loops.result(clean, int64_t(i), t);
      audits[i][t].target = result.target;
      audits[i][t].against = result.against;
      audits[i][t].score = result.score;
    }
  return audits;
}

}  // namespace whence
