// JSON from files that nobody vouches for: bounded size and depth, no key twice, and typed access
// whose errors name the file, the key, what was found and what is allowed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace whence {

using Json = nlohmann::json;

struct JsonLimits {
  int64_t bytes = int64_t(16) << 20;
  int depth = 64;
};

// Throws file errors (code format or limit) that begin with `file`. Stricter than the usual
// parsers: a key that occurs twice in one object, a byte order mark and a zero byte are errors.
Json parse_json(std::string_view text, const std::string& file, const JsonLimits& limits = {});
Json read_json(const std::filesystem::path& path, const JsonLimits& limits = {});

// For parsers that read events instead of a tree: throws unless a strict parse may start.
// `what` is the subject of the messages, for example "model.safetensors: header is".
void check_json_start(std::string_view text, const std::string& what);
// Throws what a parse error of the library means: "<what> not valid JSON at byte <k>: expected
// ...". No content of the file is repeated.
[[noreturn]] void fail_json(const std::string& what, size_t position, const std::exception& error);

// "a string", "a list", ...: the type of a value, for messages.
std::string_view json_type(const Json& value);

// One object of a document. `path` names it in messages, for example "vision_config."; empty at the
// top. A value of null counts as absent.
class JsonObject {
 public:
  JsonObject(const Json& value, std::string file, std::string path = {});
  bool has(const char* key) const { return find(key) != nullptr; }
  const Json* find(const char* key) const;  // null when absent
  // Absent values give nothing; values of another type or outside the range throw format.
  std::optional<int64_t> integer(const char* key, int64_t low, int64_t high) const;
  std::optional<double> number(const char* key, double low, double high) const;
  std::optional<bool> flag(const char* key) const;
  std::optional<std::string> text(const char* key) const;
  std::optional<JsonObject> object(const char* key) const;
  const Json& value() const { return *value_; }
  const std::string& file() const { return file_; }
  // The name of a key in messages: the path and the key.
  std::string name(std::string_view key) const;

 private:
  const Json* value_;
  std::string file_, path_;
};

// The checks of `JsonObject` for a value found elsewhere, for example in a list.
int64_t json_integer(const Json& value, const std::string& file, const std::string& name,
                     int64_t low, int64_t high);
double json_number(const Json& value, const std::string& file, const std::string& name, double low,
                   double high);

}  // namespace whence
