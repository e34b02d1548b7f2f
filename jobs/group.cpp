#include "jobs/group.h"

#include <fmt/core.h>

#include "io/npy.h"
#include "runtime/text.h"

namespace whence::jobs {
namespace {

WrittenFile add_file(AtomicWriter& files, const std::filesystem::path& folder,
                     const std::string& name, const std::vector<uint8_t>& bytes) {
  files.add(folder / name, bytes);
  return {name, bytes.size()};
}

}  // namespace

Request make_request(const Facts& job, size_t method, const Tensor& draws) {
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
  states_.resize(group_.entries.size());
  for (size_t i = 0; i < states_.size(); ++i)
    if (entry(i).row < 0) add_error(i, -1, entry(i).error, out);
  predict(out);
  for (size_t m = 0; m < job_.methods.size(); ++m) explain(m, out);
  GroupReport& report = out.report;
  for (State& state : states_) {
    report.failed += state.failed;
    for (Results::Line& line : state.lines) report.lines.push_back(std::move(line));
    for (Finished& result : state.results) report.results.push_back(std::move(result));
  }
}

void GroupRun::predict(GroupOutput& out) {
  const std::vector<size_t> places = readable(group_);
  const auto outcomes = compute_each<Tensor>(
      group_, places, items_,
      [&](const Tensor& batch, size_t) { return logits_of(explainer_, batch); });
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
  std::vector<size_t> places;
  for (size_t i = 0; i < states_.size(); ++i)
    if (!states_[i].failed && work_.pending[method][entry(i).item]) places.push_back(i);
  Request request = make_request(job_, method, draws_);
  const auto outcomes =
      compute_each<ByTarget>(group_, places, items_, [&](const Tensor& batch, size_t first) {
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
    for (const Entry& entry : group_.entries)
      if (entry.item >= first && entry.item < first + size_t(count)) {
        if (items_[entry.item].sample >= 0) return {};
        rows.push_back(model->preprocess(entry.picture.image));
      }
    inputs.push_back(stacked(rows));
  }
  return inputs;
}

std::vector<Image> GroupRun::pictures(size_t place, const ByTarget& results) {
  const Picture& input = entry(place).picture;
  std::vector<Painter::Drawing> drawings;
  for (const Result& result : results)
    drawings.push_back({&input.image, &result.attribution, input.region});
  return painter_.overlay(drawings);
}

std::string GroupRun::keep(size_t place, size_t method, const ByTarget& results,
                           double milliseconds, GroupOutput& out) {
  std::vector<Image> drawn;
  if (job_.save.png) try {
      drawn = pictures(place, results);
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::memory || error.kind() == ErrorKind::device ||
          error.kind() == ErrorKind::internal)
        throw;
      return fmt::format("{}: cannot be drawn over: {}", printable(item(place).input),
                         error.what());
    }
  State& state = states_[place];
  const MethodChoice& choice = job_.methods[method];
  for (size_t t = 0; t < results.size(); ++t) {
    const Result& result = results[t];
    const std::string stem = file_stem(job_, item(place), choice, job_.targets[t]);
    std::vector<WrittenFile> files;
    if (job_.save.png)
      files.push_back(add_file(out.files, job_.folder, stem + ".png", encode_png(drawn[t])));
    if (job_.save.npy)
      files.push_back(
          add_file(out.files, job_.folder, stem + ".npy", encode_npy(result.attribution)));
    files.insert(files.end(), state.files.begin(), state.files.end());
    const Record record = result_record(job_, item(place), choice, job_.targets[t], result,
                                        state.top, files, milliseconds / double(results.size()));
    state.lines.push_back({line_of(record), item(place).id, choice.info->id, job_.targets[t].key,
                           false, rank_of(job_, entry(place).item, int64_t(method), t)});
    state.results.push_back({item(place).id, choice.info->id,
                             target_name(result.target, result.against, job_.labels),
                             result.probability, result.score, result.gap, stem});
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
                         rank_of(job_, entry(place).item, method, 0)});
  out.report.errors.push_back(message);
}

}  // namespace whence::jobs
