#include "models/companions.h"

#include "io/files.h"
#include "runtime/check.h"

namespace whence {

namespace fs = std::filesystem;

namespace {

constexpr int64_t max_side = 16384, max_channels = 1024, max_classes = 1'000'000;

}  // namespace

Companions::Companions(const Checkpoint& checkpoint, const LoadOptions& options)
    : checkpoint_(checkpoint), options_(options), config_(read("config.json")) {}

std::optional<Json> Companions::read(const char* name) const {
  std::error_code error;
  if (!checkpoint_.folder() || !fs::exists(*checkpoint_.folder() / name, error)) return {};
  return read_json(*checkpoint_.folder() / name);
}

std::string Companions::path(const char* name) const {
  return path_text(*checkpoint_.folder() / name);
}

std::optional<JsonObject> Companions::config() const {
  if (!config_) return {};
  return JsonObject(*config_, path("config.json"));
}

std::string Companions::architecture() const {
  if (!options_.arch.empty() || !config_) return options_.arch;
  return config()->text("architecture").value_or("");
}

std::optional<Preprocess> Companions::preprocess(ImageSize size) const {
  for (const char* name : {"preprocessor_config.json", "processor_config.json"}) {
    const auto stated = read(name);
    if (!stated) continue;
    const JsonObject top(*stated, path(name));
    return preprocess_from_hugging_face(top.object("image_processor").value_or(top));
  }
  const auto top = config();
  if (!top) return {};
  // Older files have the keys of pretrained_cfg at the top.
  const auto pretrained = top->object("pretrained_cfg");
  if (!pretrained && !(top->has("architecture") && top->has("mean"))) return {};
  return preprocess_from_timm(pretrained.value_or(*top), size);
}

std::vector<std::string> Companions::labels(int64_t classes,
                                            std::vector<std::string>& notes) const {
  if (!options_.labels.empty()) return read_labels(options_.labels, classes);
  if (config_)
    if (auto labels = labels_from_config(*config(), classes)) return *labels;
  notes.emplace_back("class names are not stated: classes are called by their index");
  return numbered_labels(classes);
}

Outputs Companions::outputs(int64_t classes, std::vector<std::string>& notes) const {
  const auto top = config();
  const auto type = top ? top->text("problem_type") : std::nullopt;
  if (!type || *type == "single_label_classification") {
    if (classes > 1) return Outputs::single_label;
    notes.emplace_back("one output is read as a value: it cannot be one class of several");
    return Outputs::values;
  }
  if (*type == "multi_label_classification") return Outputs::multi_label;
  if (*type == "regression") return Outputs::values;
  fail(ErrorCode::unsupported,
       "{}: problem_type '{}' is not supported (single_label_classification, "
       "multi_label_classification, regression)",
       top->file(), printable(*type));
}

void check_preprocess(const Preprocess& recipe, ImageSize size, const std::string& where) {
  const auto given = output_size(recipe);
  if (given && (given->height != size.height || given->width != size.width))
    fail_shape("{}: preprocessing gives images of {} x {}, the model takes {} x {}", where,
               given->height, given->width, size.height, size.width);
}

std::optional<std::array<int64_t, 3>> timm_input_size(const JsonObject& config) {
  // Keys of the pretrained configuration stand at the top of older files.
  const JsonObject pretrained = config.object("pretrained_cfg").value_or(config);
  const Json* size = pretrained.find("input_size");
  if (!size) return {};
  if (!size->is_array() || size->size() != 3)
    fail(ErrorCode::format, "{}: 'input_size' must be a list of channels, height and width",
         config.file());
  const std::string key = pretrained.name("input_size");
  return {{json_integer((*size)[0], config.file(), key, 1, max_channels),
           json_integer((*size)[1], config.file(), key, 1, max_side),
           json_integer((*size)[2], config.file(), key, 1, max_side)}};
}

std::optional<int64_t> stated_classes(const JsonObject& config) {
  auto classes = config.integer("num_labels", 1, max_classes);
  if (const auto labels = config.object("id2label"))
    if (!labels->value().empty()) classes = int64_t(labels->value().size());
  if (classes && *classes > max_classes)
    fail(ErrorCode::limit, "{}: {} labels, the limit is {}", config.file(), *classes, max_classes);
  return classes;
}

std::optional<ImageSize> stated_sides(const JsonObject& config, const char* key, int64_t most) {
  const Json* v = config.find(key);
  if (!v) return {};
  if (!v->is_array()) {
    const int64_t side = *config.integer(key, 1, most);
    return ImageSize{side, side};
  }
  if (v->size() != 2)
    fail(ErrorCode::format, "{}: '{}' has {} numbers, 2 are needed", config.file(),
         config.name(key), v->size());
  return ImageSize{json_integer((*v)[0], config.file(), config.name(key), 1, most),
                   json_integer((*v)[1], config.file(), config.name(key), 1, most)};
}

}  // namespace whence
