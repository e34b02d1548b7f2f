// The balance of a relevance pass: what came to every node, what it handed on, and what is gone.
// With sums over each sample, R_in - R_out = lost; a pass from `seed` to the input has
//   seed - input = the sum of what its steps lost.
#include <algorithm>
#include <map>

#include "explain/method.h"
#include "explain/rules/spread.h"
#include "runtime/check.h"
#include "runtime/exclusive.h"
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
  explicit Recorder(Scene& s) : s_(s) {}

  Values run(const Relevance& of, Recorded& into) {
    Values wrt{s_.entry};
    wrt.insert(wrt.end(), of.probs.begin(), of.probs.end());
    into = {};
    into.rules = of.rules.name;
    into.seed = total(of.seed);
    const Values found = relevance(s_.logits, of.seed, wrt, of.rules,
                                   [&](const RelevanceStep& step) { record(step, into); });
    into.input = total(found[0]);
    for (size_t i = 1; i < found.size(); ++i) set_apart(total(found[i]), into);
    return std::move(kept_);
  }

 private:
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

  Scene& s_;
  Values kept_;
  std::map<Value, int> places_;
};

Audit audit_of(const Recorded& recorded, const Rows& rows) {
  const auto number = [&](int place) { return double(rows[size_t(place)][0]); };
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

const Method& relevance_method(const std::string& id) {
  const Method& method = find_method(id);
  if (method.relevance) return method;
  std::vector<std::string> ids;
  for (const auto reach : {MethodInfo::Relevance::to_input, MethodInfo::Relevance::to_attention})
    for (const MethodInfo& info : methods())
      if (info.relevance == reach) ids.push_back(info.id);
  fail_usage("method {} spreads no relevance; {} do", id, listing(ids));
}

}  // namespace

std::vector<std::vector<Audit>> Explainer::audit(const Inputs& inputs, const Request& request) {
  const Exclusive turn(busy_, "the explainer");
  const Method& method = relevance_method(request.method);
  const Machine machine{*model_, settings_, runs_};
  const Options options = checked_options(method, machine, request);
  check_targets(*model_, request.targets);
  check_inputs(*model_, inputs);
  Recorded recorded;
  Pass pass = chunked_pass(machine, {inputs.items()}, [&](Scene& s) {
    return std::vector<Map>{{Recorder(s).run(method.relevance(s, options), recorded), nullptr}};
  });
  std::vector<std::vector<Audit>> audits(static_cast<size_t>(inputs.items()));
  const Clean clean = run_pass(
      machine, pass, inputs, request.targets, nullptr, [&](int64_t item, int64_t row, Chosen) {
        audits[size_t(item)].push_back(audit_of(recorded, pass.rows_of(0, row)));
      });
  for (size_t i = 0; i < audits.size(); ++i)
    for (size_t t = 0; t < audits[i].size(); ++t) {
      const Result result = result_of(clean, ScoreKind::logit, int64_t(i), t);
      audits[i][t].target = result.target;
      audits[i][t].against = result.against;
      audits[i][t].score = result.score;
    }
  return audits;
}

}  // namespace whence
