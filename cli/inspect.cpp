// `whence inspect`: what a model is made of, and what became of its checkpoint.
#include <fmt/core.h>

#include <algorithm>
#include <map>

#include "cli/commands.h"
#include "cli/console.h"
#include "cli/failure.h"
#include "cli/models.h"
#include "jobs/requests.h"
#include "jobs/results.h"
#include "runtime/text.h"

namespace whence::cli {
namespace {

std::string preprocess_text(const Preprocess& p) {
  std::string text;
  if (p.fit == Preprocess::Fit::exact)
    text =
        fmt::format("resize to {} x {} ({}), ", p.resize_width, p.resize_height, name_of(p.filter));
  else if (p.fit == Preprocess::Fit::short_side)
    text = fmt::format("shorter side to {} ({}), ", p.resize_height, name_of(p.filter));
  if (p.crop) text += fmt::format("centre crop {} x {}, ", p.crop_width, p.crop_height);
  return text + fmt::format("mean {} {} {}, std {} {} {}", p.mean[0], p.mean[1], p.mean[2],
                            p.std[0], p.std[1], p.std[2]);
}

struct Place {
  std::string name;
  Shape shape;
  bool weight;
};

std::vector<Place> places(const Model& model) {
  Graph graph;
  model.build(graph, 1);
  std::vector<std::pair<Value, Place>> found;
  for (const auto& [name, value] : graph.names())
    found.push_back({value, {name, value.shape(), graph.node(value).weight}});
  std::stable_sort(found.begin(), found.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<Place> list;
  for (auto& [value, place] : found) list.push_back(std::move(place));
  return list;
}

int64_t parameters(const Model& model) {
  int64_t sum = 0;
  for (const auto& [name, tensor] : model.weights.tensors) sum += tensor.shape().count();
  return sum;
}

std::pair<const char*, const char*> outputs_text(Outputs outputs) {
  switch (outputs) {
    case Outputs::single_label:
      return {"single_label", "one class of these: softmax"};
    case Outputs::multi_label:
      return {"multi_label", "each class by itself: sigmoid"};
    case Outputs::values:
      return {"values", "values, without probabilities"};
  }
  return {};
}

void print_json(const Model& model) {
  jobs::Record record;
  record["model"] = to_utf8(model.name);
  record["architecture"] = model.architecture;
  record["layout"] = model.layout;
  record["digest"] = model.weights.digest;
  record["parameters"] = parameters(model);
  record["input"] = std::vector<int64_t>(model.image_shape().begin(), model.image_shape().end());
  record["classes"] = model.labels;
  record["outputs"] = outputs_text(model.outputs).first;
  record["preprocessing"] = preprocess_text(model.preprocess);
  record["bound"] = model.account.bound;
  record["skipped"] = jobs::Record::array();
  for (const auto& [name, reason] : model.account.skipped)
    record["skipped"].push_back({{"name", name}, {"reason", reason}});
  record["notes"] = model.notes;
  record["names"] = jobs::Record::array();
  for (const Place& place : places(model))
    record["names"].push_back(
        {{"name", place.name},
         {"shape", std::vector<int64_t>(place.shape.begin(), place.shape.end())},
         {"weight", place.weight}});
  print(jobs::line_of(record) + "\n");
}

void print_names(const std::vector<Place>& all, bool weights) {
  size_t width = 0;
  for (const Place& place : all) width = std::max(width, place.name.size());
  Table table({{weights ? "weight" : "value", width}, {"shape"}});
  for (const Place& place : all)
    if (place.weight == weights) table.row({place.name, to_string(place.shape)});
}

void print_account(const Model& model) {
  print(fmt::format("checkpoint     {} tensors used, {} skipped\n", model.account.bound.size(),
                    model.account.skipped.size()));
  for (const auto& [name, reason] : model.account.skipped)
    print(fmt::format("               {}: {}\n", printable(name), reason));
  for (const std::string& note : model.notes) print(fmt::format("note           {}\n", note));
}

void print_text(const Model& model) {
  const int64_t count = model.classes;
  std::string first;
  for (int64_t i = 0; i < std::min<int64_t>(count, 3); ++i)
    first += (i ? ", " : "") + to_utf8(model.labels[size_t(i)]);
  print(fmt::format(
      "model          {}\narchitecture   {}\nlayout         {}\n"
      "weights        {} parameters, digest {}\ninput          {}\n"
      "preprocessing  {}\nclasses        {}: {}{}\noutputs        {}\n",
      to_utf8(model.name), model.architecture, model.layout, parameters(model),
      model.weights.digest, to_string(model.image_shape()), preprocess_text(model.preprocess),
      count, first, count > 3 ? ", ..." : "", outputs_text(model.outputs).second));
  print_account(model);
  const std::vector<Place> all = places(model);
  print("\nnames that can be read, differentiated and written, for a batch of 1\n\n");
  print_names(all, false);
  print("\n");
  print_names(all, true);
}

void print_plan(const Options& options, std::shared_ptr<const Model> model) {
  const jobs::MethodChoice choice =
      jobs::choose_methods({options.method}, options.parameters, options.layer)[0];
  Explainer explainer(std::move(model), options.settings);
  Request request;
  request.method = choice.info->id;
  request.options = choice.given;
  request.layer = choice.layer;
  const auto [bytes, steps] = during(Phase::request, [&] {
    return std::pair(explainer.bytes(request, 1), explainer.describe(request, 1));
  });
  if (options.json) {
    jobs::Record record;
    record["method"] = choice.info->id;
    record["options"] = choice.options();
    record["activation_bytes"] = bytes;
    record["plan"] = steps;
    print(jobs::line_of(record) + "\n");
  } else {
    print(fmt::format("plan of {} for one input: {:.1f} MiB of activations\n\n{}", choice.info->id,
                      double(bytes) / (1 << 20), steps));
  }
}

}  // namespace

ExitCode run_inspect(const Options& options) {
  const std::shared_ptr<const Model> model = open_model(options);
  if (!options.method.empty())
    print_plan(options, model);
  else if (options.json)
    print_json(*model);
  else
    print_text(*model);
  return ExitCode::done;
}

}  // namespace whence::cli
