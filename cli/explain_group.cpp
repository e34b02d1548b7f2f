#include "cli/explain_group.h"

#include <fmt/core.h>

#include "cli/failure.h"
#include "cli/text.h"
#include "io/npy.h"
#include "runtime/check.h"

namespace whence::cli {
namespace {

WrittenFile add_file(AtomicWriter& files, const std::filesystem::path& folder,
                     const std::string& name, const std::vector<uint8_t>& bytes) {
  or_quit(ExitCode::output, [&] {
    files.add(folder / name, bytes);
    return 0;
  });
  return {name, bytes.size()};
}

// "cat.tam.{png,npy}"
std::string files_text(const std::string& stem, const Save& save) {
  if (save.png && save.npy) return stem + ".{png,npy}";
  return save.png ? stem + ".png" : save.npy ? stem + ".npy" : "-";
}

}  // namespace

Request make_request(const JobFacts& job, size_t method, const Tensor& draws) {
  Request request;
  request.method = job.methods[method].info->id;
  request.options = job.methods[method].given;
  request.layer = job.methods[method].layer;
  request.models = job.methods[method].models;
  request.targets.clear();
  for (const NamedTarget& target : job.targets) request.targets.push_back(target.target);
  request.seed = job.seed;
  request.draws = draws;
  return request;
}

void GroupRun::run(GroupOutput& out) {
  states_.resize(group_.size());
  for (size_t i = 0; i < group_.size(); ++i)
    if (!group_[i].error.empty()) add_error(i, -1, group_[i].error, out);
  predict(out);
  for (size_t m = 0; m < job_.methods.size(); ++m) explain(m, out);
  for (State& state : states_) {
    out.failed += state.failed;
    for (Results::Line& line : state.lines) out.lines.push_back(std::move(line));
    for (auto& row : state.rows) out.rows.push_back(std::move(row));
  }
}

void GroupRun::predict(GroupOutput& out) {
  std::vector<const Entry*> entries;
  std::vector<size_t> places;
  for (size_t i = 0; i < group_.size(); ++i)
    if (!states_[i].failed) {
      entries.push_back(&group_[i]);
      places.push_back(i);
    }
  const auto outcomes = compute_each<Tensor>(entries, items_, [&](const Tensor& batch, size_t) {
    const Tensor logits = explainer_.logits(batch);
    std::vector<Tensor> rows;
    for (int64_t r = 0; r < logits.shape()[0]; ++r)
      rows.push_back(logits.slice(r, r + 1).reshaped({logits.shape()[1]}));
    return rows;
  });
  for (size_t k = 0; k < outcomes.size(); ++k) {
    State& state = states_[places[k]];
    if (!outcomes[k].value) {
      add_error(places[k], -1, outcomes[k].error, out);
      continue;
    }
    state.top = top_classes(outcomes[k].value->reals(), 5);
    if (job_.save.logits)
      state.files.push_back(add_file(out.files, job_.folder, item(places[k]).id + ".logits.npy",
                                     encode_npy(*outcomes[k].value)));
  }
}

void GroupRun::explain(size_t method, GroupOutput& out) {
  std::vector<const Entry*> entries;
  std::vector<size_t> places;
  for (size_t i = 0; i < group_.size(); ++i)
    if (!states_[i].failed && work_.pending[method][group_[i].item]) {
      entries.push_back(&group_[i]);
      places.push_back(i);
    }
  Request request = make_request(job_, method, draws_);
  const auto outcomes =
      compute_each<ByTarget>(entries, items_, [&](const Tensor& batch, size_t first) {
        request.first_item = uint32_t(first);
        request.model_inputs = member_inputs(request, first, batch.shape()[0]);
        return explainer_.explain(batch, request);
      });
  for (size_t k = 0; k < outcomes.size(); ++k) {
    std::string error = outcomes[k].error;
    if (outcomes[k].value)
      error = keep(places[k], method, *outcomes[k].value, outcomes[k].milliseconds, out);
    if (!error.empty()) add_error(places[k], int64_t(method), error, out);
  }
}

// The pictures as each further model takes them; nothing where an input came as an array, which is
// given to all as it is.
std::vector<Tensor> GroupRun::member_inputs(const Request& request, size_t first,
                                            int64_t count) const {
  std::vector<Tensor> inputs;
  for (const auto& model : request.models) {
    std::vector<Tensor> rows;
    for (const Entry& entry : group_)
      if (entry.item >= first && entry.item < first + size_t(count)) {
        if (items_[entry.item].sample >= 0) return {};
        rows.push_back(model->preprocess(entry.input.picture));
      }
    std::vector<const Tensor*> all;
    for (const Tensor& row : rows) all.push_back(&row);
    inputs.push_back(stacked(all));
  }
  return inputs;
}

std::string GroupRun::keep(size_t place, size_t method, const ByTarget& results,
                           double milliseconds, GroupOutput& out) {
  std::vector<Image> pictures;
  try {
    const Input& input = group_[place].input;
    std::vector<Painter::Drawing> drawings;
    for (size_t t = 0; job_.save.png && t < results.size(); ++t)
      drawings.push_back({&input.picture, &results[t].attribution, input.region});
    pictures = painter_.overlay(drawings);
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::memory || error.kind() == ErrorKind::device ||
        error.kind() == ErrorKind::internal)
      throw;
    return fmt::format("{}: cannot be drawn over: {}", printable(item(place).input), error.what());
  }
  State& state = states_[place];
  const MethodChoice& choice = job_.methods[method];
  for (size_t t = 0; t < results.size(); ++t) {
    const Result& result = results[t];
    const std::string stem = file_stem(job_, item(place), choice, job_.targets[t]);
    std::vector<WrittenFile> files;
    if (job_.save.png)
      files.push_back(add_file(out.files, job_.folder, stem + ".png", encode_png(pictures[t])));
    if (job_.save.npy)
      files.push_back(
          add_file(out.files, job_.folder, stem + ".npy", encode_npy(result.attribution)));
    files.insert(files.end(), state.files.begin(), state.files.end());
    const Record record = result_record(job_, item(place), choice, job_.targets[t], result,
                                        state.top, files, milliseconds / double(results.size()));
    state.lines.push_back({line_of(record), item(place).id, choice.info->id, job_.targets[t].key,
                           false, rank_of(job_, group_[place].item, int64_t(method), t)});
    state.rows.push_back(
        {shortened(item(place).id, 32), choice.info->id,
         shortened(to_utf8(target_name(result.target, result.against, job_.labels)), 28),
         fmt::format("{:.4f}", result.probability), fmt::format("{:.4g}", result.score),
         result.gap ? fmt::format("{:.1e}", *result.gap) : std::string("-"),
         files_text(stem, job_.save)});
  }
  return {};
}

void GroupRun::add_error(size_t place, int64_t method, const std::string& message,
                         GroupOutput& out) {
  State& state = states_[place];
  state.failed = true;
  const MethodChoice* choice = method < 0 ? nullptr : &job_.methods[size_t(method)];
  state.lines.push_back({line_of(error_record(job_, item(place), choice, message)),
                         item(place).id,
                         choice ? choice->info->id : std::string(),
                         {},
                         true,
                         rank_of(job_, group_[place].item, method, 0)});
  out.complaints.push_back(message);
}

}  // namespace whence::cli
