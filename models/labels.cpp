#include <charconv>
#include <string_view>

#include "io/files.h"
#include "models/companions.h"
#include "runtime/check.h"

namespace whence {
namespace {

void check_count(size_t found, int64_t classes, const std::string& where) {
  if (int64_t(found) != classes)
    fail(ErrorCode::format, "{}: {} labels, the model has {} classes", where, found, classes);
}

std::string label_text(const Json& value, const std::string& where) {
  if (value.is_string()) return value.get<std::string>();
  // The class index of ImageNet: [synset, name].
  if (value.is_array() && !value.empty() && value.back().is_string())
    return value.back().get<std::string>();
  fail(ErrorCode::format, "{}: a label is {}, a string is expected", where, json_type(value));
}

std::vector<std::string> labels_of_list(const Json& list, int64_t classes,
                                        const std::string& where) {
  check_count(list.size(), classes, where);
  std::vector<std::string> labels;
  for (const Json& item : list) labels.push_back(label_text(item, where));
  return labels;
}

std::vector<std::string> labels_of_map(const Json& map, int64_t classes, const std::string& where) {
  check_count(map.size(), classes, where);
  std::vector<std::string> labels(map.size());
  std::vector<bool> seen(map.size());
  for (const auto& [key, value] : map.items()) {
    size_t index = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), index);
    // "01" and "1" would be the same class.
    if (error != std::errc() || end != key.data() + key.size() || index >= labels.size() ||
        seen[index])
      fail(ErrorCode::format, "{}: label key '{}' is not a class index from 0 to {}, each once",
           where, printable(key), labels.size() - 1);
    seen[index] = true;
    labels[index] = label_text(value, where);
  }
  return labels;
}

bool is_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto byte = [&](size_t k) { return static_cast<unsigned char>(text[k]); };
    const unsigned char lead = byte(i);
    const size_t n = lead < 0x80 ? 1 : lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if ((lead >= 0x80 && lead < 0xC2) || lead > 0xF4 || i + n > text.size()) return false;
    for (size_t k = 1; k < n; ++k)
      if ((byte(i + k) & 0xC0) != 0x80) return false;
    i += n;
  }
  return true;
}

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    lines.emplace_back(line);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

}  // namespace

std::optional<std::vector<std::string>> labels_from_config(const JsonObject& config,
                                                           int64_t classes) {
  if (const Json* map = config.find("id2label"); map && map->is_object() && !map->empty())
    return labels_of_map(*map, classes, config.file() + ": 'id2label'");
  // timm; its pretrained_cfg may hold them too.
  std::optional<JsonObject> at = config;
  if (!config.has("label_names") && !config.has("labels")) at = config.object("pretrained_cfg");
  const Json* names = nullptr;
  if (at) names = at->has("label_names") ? at->find("label_names") : at->find("labels");
  if (!names || !names->is_array()) return {};
  std::vector<std::string> labels =
      labels_of_list(*names, classes, config.file() + ": '" + at->name("label_names") + "'");
  // Names are often keys (synsets) and the words stand beside them.
  if (const auto words = at->object("label_descriptions"))
    for (std::string& label : labels)
      if (const auto text = words->text(label.c_str())) label = *text;
  return labels;
}

std::vector<std::string> read_labels(const std::filesystem::path& path, int64_t classes) {
  constexpr int64_t limit = int64_t(16) << 20;
  const std::vector<uint8_t> bytes = read_file(path, limit);
  std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const std::string file = path_text(path);
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  const size_t first = text.find_first_not_of(" \t\r\n");
  if (first != text.npos && (text[first] == '[' || text[first] == '{')) {
    const Json document = parse_json(text, file);
    return document.is_array() ? labels_of_list(document, classes, file)
                               : labels_of_map(document, classes, file);
  }
  if (!is_utf8(text)) fail(ErrorCode::format, "{}: not UTF-8 text", file);
  std::vector<std::string> labels = lines_of(text);
  // Empty lines at the end are no labels.
  while (int64_t(labels.size()) > classes && labels.back().empty()) labels.pop_back();
  check_count(labels.size(), classes, file);
  return labels;
}

std::vector<std::string> numbered_labels(int64_t classes) {
  std::vector<std::string> labels;
  for (int64_t i = 0; i < classes; ++i) labels.push_back(std::to_string(i));
  return labels;
}

}  // namespace whence
