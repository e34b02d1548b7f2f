#include "jobs/group.h"

#include <fmt/core.h>

#include <filesystem>

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
    if (entry(i).row < 0)
      add_error(i, -1, entry(i).error, out);
    else if (const std::string name = folder_in_the_way(item(i)); !name.empty())
      add_error(
          i, -1,
          fmt::format("{}: a folder is where its result should go", path_text(job_.folder / name)),
          out);
  std::vector<size_t> methods, places;
  for (size_t m = 0; m < job_.methods.size(); ++m) {
    const std::vector<size_t> own = pending(m);
    if (own.empty()) continue;
    if (own != places) {
      explain(methods, places, out);
      methods.clear();
      places = pending(m);
    }
    methods.push_back(m);
  }
  explain(methods, places, out);
  GroupReport& report = out.report;
  for (State& state : states_) {
    report.failed += state.failed;
    for (Results::Line& line : state.lines) report.lines.push_back(std::move(line));
    for (Finished& result : state.results) report.results.push_back(std::move(result));
  }
}

std::string GroupRun::folder_in_the_way(const Item& item) const {
  std::error_code ignored;
  for (const MethodChoice& method : job_.methods)
    for (const NamedTarget& target : job_.targets)
      for (const std::string& name : file_names(job_, item, method, target))
        if (std::filesystem::is_directory(job_.folder / name, ignored)) return name;
  return {};
}

std::vector<size_t> GroupRun::pending(size_t method) const {
  std::vector<size_t> places;
  for (size_t i = 0; i < states_.size(); ++i)
    if (!states_[i].failed && work_.pending[method][entry(i).item]) places.push_back(i);
  return places;
}

void GroupRun::explain(const std::vector<size_t>& methods, const std::vector<size_t>& places,
                       GroupOutput& out) {
  std::vector<Request> requests;
  for (const size_t m : methods) requests.push_back(make_request(job_, m, draws_));
  auto outcomes = compute_each<Answer>(
      group_, places, items_,
      [&](const Tensor& batch, size_t first) { return answers(batch, first, requests); });
  // Where one method fails the others may not, and the message is about that method.
  std::vector<size_t> apart;
  for (size_t k = 0; k < outcomes.size(); ++k)
    if (outcomes[k].value)
      predicted(places[k], outcomes[k].value->logits, out);
    else
      apart.push_back(places[k]);
  predict(apart, out);
  for (size_t r = 0; r < methods.size(); ++r) {
    for (size_t k = 0; k < outcomes.size(); ++k)
      if (outcomes[k].value && !states_[places[k]].failed)
        keep(places[k], methods[r], std::move(outcomes[k].value->results[r]),
             outcomes[k].milliseconds / double(methods.size()), out);
    explain_apart(methods[r], apart, out);
  }
}

std::vector<GroupRun::Answer> GroupRun::answers(const Tensor& batch, size_t first,
                                                std::vector<Request>& requests) {
  for (Request& request : requests) {
    request.first_item = uint32_t(first);
    request.model_inputs = member_inputs(request, first, batch.shape()[0]);
  }
  Answers all = explainer_.explain(batch, requests);
  std::vector<Answer> of_items;
  for (Tensor& logits : rows_of(all.logits)) {
    Answer one{std::move(logits), {}};
    for (auto& results : all.results) one.results.push_back(std::move(results[of_items.size()]));
    of_items.push_back(std::move(one));
  }
  return of_items;
}

void GroupRun::predict(const std::vector<size_t>& places, GroupOutput& out) {
  const auto outcomes = compute_each<Tensor>(
      group_, places, items_,
      [&](const Tensor& batch, size_t) { return rows_of(explainer_.logits(batch)); });
  for (size_t k = 0; k < outcomes.size(); ++k)
    if (outcomes[k].value)
      predicted(places[k], *outcomes[k].value, out);
    else
      add_error(places[k], -1, outcomes[k].error, out);
}

void GroupRun::predicted(size_t place, const Tensor& logits, GroupOutput& out) {
  State& state = states_[place];
  if (!state.top.empty()) return;  // by methods before these
  state.top = top_classes(logits.reals(), explainer_.model().outputs, 5);
  if (job_.save.logits)
    state.files.push_back(
        add_file(out.files, job_.folder, item(place).id + ".logits.npy", encode_npy(logits)));
}

void GroupRun::explain_apart(size_t method, std::vector<size_t> places, GroupOutput& out) {
  std::erase_if(places, [&](size_t place) { return states_[place].failed; });
  Request request = make_request(job_, method, draws_);
  auto outcomes =
      compute_each<ByTarget>(group_, places, items_, [&](const Tensor& batch, size_t first) {
        request.first_item = uint32_t(first);
        request.model_inputs = member_inputs(request, first, batch.shape()[0]);
        return explainer_.explain(batch, request);
      });
  for (size_t k = 0; k < outcomes.size(); ++k)
    if (outcomes[k].value)
      keep(places[k], method, std::move(*outcomes[k].value), outcomes[k].milliseconds, out);
    else
      add_error(places[k], int64_t(method), outcomes[k].error, out);
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

void GroupRun::keep(size_t place, size_t method, ByTarget results, double milliseconds,
                    GroupOutput& out) {
  std::vector<Image> drawn;
  if (job_.save.png) try {
      drawn = pictures(place, results);
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::memory || error.kind() == ErrorKind::device ||
          error.kind() == ErrorKind::internal)
        throw;
      return add_error(
          place, int64_t(method),
          fmt::format("{}: cannot be drawn over: {}", printable(item(place).input), error.what()),
          out);
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
