#include "jobs/records.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "io/files.h"
#include "jobs/names.h"
#include "runtime/text.h"

namespace whence::jobs {
namespace {

namespace fs = std::filesystem;

std::string fingerprint_of(const std::string& text) {
  return fingerprint({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

std::string fingerprint_of_file(const fs::path& path) {
  return fingerprint(read_file(path, int64_t(16) << 30));
}

std::string setup_text(const Model& model) {
  const Preprocess& p = model.preprocess;
  std::string text =
      fmt::format("{} {} {} {} {} {} {} {}", int(p.fit), p.resize_height, p.resize_width,
                  int(p.filter), p.crop, p.crop_height, p.crop_width, int(p.crop_rounding));
  for (size_t c = 0; c < 3; ++c) text += fmt::format(" {} {}", p.mean[c], p.std[c]);
  if (model.outputs != Outputs::single_label)
    text += fmt::format(" outputs {}", int(model.outputs));
  for (const std::string& label : model.labels) text += "\n" + label;
  return text;
}

// Of values nothing but themselves is differentiated; records say so.
void use_values(MethodChoice& method, const Model& model) {
  if (model.outputs != Outputs::values) return;
  for (const OptionInfo& option : method.info->options)
    if (option.name == "gradient_of") method.given.emplace("gradient_of", "logit");
}

// What identifies a result: equal fields, equal result.
Record identity(const Facts& job, const Item& item, const MethodChoice& method) {
  Record record;
  record["model_digest"] = job.digest;
  record["setup"] = job.setup;
  record["options"] = method.options();
  record["seed"] = job.seed;
  if (!job.draws.empty()) record["draws"] = job.draws;
  record["input_bytes"] = item.bytes;
  record["input_modified"] = item.modified;
  return record;
}

std::string value_text(const Record& value) {
  return value.is_string() ? printable(value.get<std::string>()) : value.dump();
}

// The first key whose values differ, for a message.
std::string first_difference(const Record& was, const Record& now) {
  for (const auto& [key, value] : now.items()) {
    const auto old = was.find(key);
    if (old == was.end()) return key;
    if (*old == value) continue;
    if (value.is_object() && old->is_object()) return first_difference(*old, value);
    return fmt::format("{} {}, now {}", key, value_text(*old), value_text(value));
  }
  return "fewer options now";
}

}  // namespace

std::vector<ClassScore> top_classes(std::span<const real> logits, Outputs outputs, int64_t count) {
  const auto probabilities = class_probabilities(logits, outputs);
  std::vector<ClassScore> classes;
  for (size_t k = 0; k < logits.size(); ++k) {
    classes.push_back({int64_t(k), double(logits[k]), {}});
    if (!probabilities.empty()) classes.back().probability = probabilities[k];
  }
  const auto keep = classes.begin() + std::min(count, int64_t(classes.size()));
  std::partial_sort(classes.begin(), keep, classes.end(),
                    [&](const ClassScore& a, const ClassScore& b) {
                      const real x = logits[size_t(a.index)], y = logits[size_t(b.index)];
                      return x != y ? x > y : a.index < b.index;
                    });
  classes.erase(keep, classes.end());
  return classes;
}

std::string fingerprint(std::span<const uint8_t> bytes) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const uint8_t byte : bytes) hash = (hash ^ byte) * 0x100000001b3u;
  return fmt::format("{:016x}", hash);
}

Facts job_facts(const Model& model, const Settings& settings, std::vector<NamedTarget> targets) {
  Facts job;
  job.model = to_utf8(model.name);
  job.digest = model.weights.digest;
  job.setup = fingerprint_of(setup_text(model));
  if (!settings.draws.empty()) job.draws = fingerprint_of_file(settings.draws);
  job.seed = settings.seed;
  job.folder = settings.folder;
  job.save = settings.save;
  job.labels = model.labels;
  job.targets = std::move(targets);
  job.methods = settings.methods;
  for (MethodChoice& method : job.methods) use_values(method, model);
  for (MethodChoice& method : job.methods)  // rules=mine.json, baselines=mean.npy
    for (const auto& [name, value] : method.given)
      if (value.ends_with(".json") || value.ends_with(".npy"))
        method.digests[name] = fingerprint_of_file(value);
  return job;
}

int64_t rank_of(const Facts& job, size_t item, int64_t method, size_t target) {
  const int64_t slots = int64_t(job.methods.size()) + 1;
  return (int64_t(item) * slots + method + 1) * int64_t(job.targets.size()) + int64_t(target);
}

Record top_record(const std::vector<ClassScore>& top, const std::vector<std::string>& labels) {
  Record list = Record::array();
  for (const ClassScore& c : top) {
    Record one;
    one["index"] = c.index;
    one["name"] = labels[size_t(c.index)];
    if (c.probability)
      one["probability"] = shortest(real(*c.probability));
    else
      one["value"] = shortest(real(c.logit));
    list.push_back(std::move(one));
  }
  return list;
}

Record result_record(const Facts& job, const Item& item, const MethodChoice& method,
                     const NamedTarget& target, const Result& result,
                     const std::vector<ClassScore>& top, const std::vector<WrittenFile>& files,
                     double milliseconds) {
  const Record own = identity(job, item, method);
  Record record;
  record["id"] = item.id;
  record["input"] = item.input;
  record["model"] = job.model;
  record["method"] = method.info->id;
  record["options"] = own["options"];
  record["seed"] = job.seed;
  record["target"] = result.target;
  if (result.against >= 0) record["against"] = result.against;
  record["target_name"] = target_name(result.target, result.against, job.labels);
  record["score"] = shortest(result.score);
  if (result.probability) record["probability"] = shortest(*result.probability);
  record["top"] = top_record(top, job.labels);
  record["shape"] =
      std::vector<int64_t>(result.attribution.shape().begin(), result.attribution.shape().end());
  if (result.flat) record["flat"] = true;
  record["files"] = Record::array();
  record["file_bytes"] = Record::array();
  for (const WrittenFile& file : files) {
    record["files"].push_back(to_utf8(file.name));
    record["file_bytes"].push_back(file.bytes);
  }
  if (result.gap) record["gap"] = shortest(real(*result.gap));
  for (const Result::Member& member : result.members) {
    Record one;
    one["model"] = to_utf8(member.model);
    one["target"] = member.target;
    one["target_name"] = target_name(member.target, -1, job.labels);
    if (member.probability) one["probability"] = shortest(*member.probability);
    if (member.agreement) one["agreement"] = shortest(real(*member.agreement));
    record["members"].push_back(std::move(one));
  }
  record["wanted"] = target.key;
  for (const auto& [key, value] : own.items()) record[key] = value;
  record["milliseconds"] = std::round(milliseconds * 10) / 10;
  return record;
}

Record error_record(const Facts& job, const Item& item, const MethodChoice* method,
                    const std::string& error) {
  Record record;
  record["id"] = item.id;
  record["input"] = item.input;
  record["model"] = job.model;
  if (method) record["method"] = method->info->id;
  record["error"] = to_utf8(error);
  return record;
}

std::string file_stem(const Facts& job, const Item& item, const MethodChoice& method,
                      const NamedTarget& target) {
  const std::string stem = item.id + "." + method.info->id;
  return job.targets.size() == 1 ? stem : stem + "." + file_name_part(target.typed);
}

std::vector<std::string> file_names(const Facts& job, const Item& item, const MethodChoice& method,
                                    const NamedTarget& target) {
  const std::string stem = file_stem(job, item, method, target);
  std::vector<std::string> names;
  if (job.save.png) names.push_back(stem + ".png");
  if (job.save.npy) names.push_back(stem + ".npy");
  if (job.save.logits) names.push_back(item.id + ".logits.npy");
  return names;
}

bool is_current(const std::string& line, const Facts& job, const Item& item,
                const MethodChoice& method, const NamedTarget& target, const fs::path& folder,
                std::string& difference) {
  const Record record = Record::parse(line, nullptr, false);  // it was parsed when it was read
  const Record now = identity(job, item, method);
  Record was;
  for (const auto& [key, value] : now.items())
    if (record.contains(key)) was[key] = record[key];
  if (was != now) {
    difference = first_difference(was, now);
    return false;
  }
  if (record.contains("draws") != now.contains("draws")) {
    difference = now.contains("draws") ? "draws none, now given" : "draws given, now none";
    return false;
  }
  const auto files = record.find("files"), sizes = record.find("file_bytes");
  if (files == record.end() || sizes == record.end() || !files->is_array() || !sizes->is_array() ||
      files->size() != sizes->size())
    return false;
  for (const std::string& name : file_names(job, item, method, target)) {
    const auto at = std::find(files->begin(), files->end(), Record(to_utf8(name)));
    if (at == files->end()) return false;
    std::error_code error;
    const uintmax_t size = fs::file_size(folder / name, error);
    if (error || (*sizes)[size_t(at - files->begin())] != size) return false;
  }
  return true;
}

}  // namespace whence::jobs
