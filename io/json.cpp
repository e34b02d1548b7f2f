#include "io/json.h"

#include "io/files.h"
#include "runtime/check.h"

namespace whence {
namespace {

// Builds the tree from events, so that a second value for a key can be refused (a tree that was
// built by the library has silently kept one of them).
class TreeBuilder {
 public:
  TreeBuilder(const std::string& file, int depth) : file_(file), depth_(depth) {}
  Json take() { return std::move(root_); }

  bool null() { return add(nullptr); }
  bool boolean(bool v) { return add(v); }
  bool number_integer(Json::number_integer_t v) { return add(v); }
  bool number_unsigned(Json::number_unsigned_t v) { return add(v); }
  bool number_float(Json::number_float_t v, const std::string&) { return add(v); }
  bool string(std::string& v) { return add(std::move(v)); }
  bool binary(Json::binary_t&) { return false; }
  bool start_object(size_t) { return open(Json::object()); }
  bool start_array(size_t) { return open(Json::array()); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }
  bool key(std::string& v) {
    if (open_.back()->contains(v))
      fail(ErrorCode::format, "{}: key '{}' occurs twice in one object", file_, printable(v));
    key_ = std::move(v);
    return true;
  }
  bool parse_error(size_t position, const std::string&, const std::exception& error) {
    fail_json(file_ + ":", position, error);
  }

 private:
  Json* place(Json v) {
    if (open_.empty()) {
      root_ = std::move(v);
      return &root_;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(v));
      return &parent.back();
    }
    return &(parent[std::move(key_)] = std::move(v));
  }
  bool add(Json v) {
    place(std::move(v));
    return true;
  }
  bool open(Json v) {
    if (int(open_.size()) >= depth_)
      fail(ErrorCode::limit, "{}: JSON is nested deeper than {} levels", file_, depth_);
    // The pointers above stay valid: only the innermost value grows while it is open.
    open_.push_back(place(std::move(v)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  const std::string& file_;
  int depth_;
  Json root_;
  std::vector<Json*> open_;
  std::string key_;
};

// The library's sentence without the text it quotes from the file:
// "... - unexpected <token>; expected <tokens>" or "... - <what>; last read: '<text>'; ...".
std::string cause(std::string_view message) {
  if (message.find("number overflow") != message.npos) return "number is too large";
  const size_t begin = message.find(" - ");
  if (begin == message.npos) return "syntax error";
  const std::string_view rest = message.substr(begin + 3);
  const size_t expected = rest.starts_with("unexpected ") ? rest.find("; expected ") : rest.npos;
  if (expected != rest.npos) return std::string(rest.substr(expected + 2));
  return std::string(rest.substr(0, rest.find("; last read")));
}

}  // namespace

void check_json_start(std::string_view text, const std::string& what) {
  if (text.substr(0, 3) == "\xEF\xBB\xBF")
    fail(ErrorCode::format, "{} not valid JSON at byte 0: it begins with a byte order mark", what);
  // The parser takes a zero byte for the end of the text and would ignore what follows.
  if (const size_t at = text.find('\0'); at != text.npos)
    fail(ErrorCode::format, "{} not valid JSON at byte {}: zero byte", what, at);
}

void fail_json(const std::string& what, size_t position, const std::exception& error) {
  fail(ErrorCode::format, "{} not valid JSON at byte {}: {}", what,
       position == 0 ? 0 : position - 1, cause(error.what()));
}

Json parse_json(std::string_view text, const std::string& file, const JsonLimits& limits) {
  if (int64_t(text.size()) > limits.bytes)
    fail(ErrorCode::limit, "{}: {} bytes, the limit is {}", file, text.size(), limits.bytes);
  check_json_start(text, file + ":");
  TreeBuilder builder(file, limits.depth);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

Json read_json(const std::filesystem::path& path, const JsonLimits& limits) {
  const std::vector<uint8_t> bytes = read_file(path, limits.bytes);
  return parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path_text(path),
                    limits);
}

std::string_view json_type(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::object:
      return "an object";
    case Json::value_t::array:
      return "a list";
    case Json::value_t::string:
      return "a string";
    case Json::value_t::boolean:
      return "true or false";
    case Json::value_t::number_float:
      return "a fraction";
    default:
      return "a whole number";
  }
}

JsonObject::JsonObject(const Json& value, std::string file, std::string path)
    : value_(&value), file_(std::move(file)), path_(std::move(path)) {
  if (value.is_object()) return;
  if (path_.empty())
    fail(ErrorCode::format, "{}: an object is expected, found {}", file_, json_type(value));
  fail(ErrorCode::format, "{}: '{}' is {}, an object is expected", file_,
       path_.substr(0, path_.size() - 1), json_type(value));
}

const Json* JsonObject::find(const char* key) const {
  const auto it = value_->find(key);
  return it == value_->end() || it->is_null() ? nullptr : &*it;
}

std::string JsonObject::name(std::string_view key) const { return path_ + std::string(key); }

int64_t json_integer(const Json& value, const std::string& file, const std::string& name,
                     int64_t low, int64_t high) {
  if (!value.is_number_integer())
    fail(ErrorCode::format, "{}: '{}' is {}, a whole number is expected", file, name,
         json_type(value));
  constexpr auto largest = uint64_t(std::numeric_limits<int64_t>::max());
  const bool huge = value.is_number_unsigned() && value.get<uint64_t>() > largest;
  if (huge || value.get<int64_t>() < low || value.get<int64_t>() > high)
    fail(ErrorCode::format, "{}: '{}' is {}, it must lie between {} and {}", file, name,
         value.dump(), low, high);
  return value.get<int64_t>();
}

double json_number(const Json& value, const std::string& file, const std::string& name, double low,
                   double high) {
  if (!value.is_number())
    fail(ErrorCode::format, "{}: '{}' is {}, a number is expected", file, name, json_type(value));
  const double v = value.get<double>();
  if (!(v >= low && v <= high))
    fail(ErrorCode::format, "{}: '{}' is {}, it must lie between {} and {}", file, name,
         value.dump(), low, high);
  return v;
}

std::optional<int64_t> JsonObject::integer(const char* key, int64_t low, int64_t high) const {
  const Json* v = find(key);
  if (!v) return {};
  return json_integer(*v, file_, name(key), low, high);
}

std::optional<double> JsonObject::number(const char* key, double low, double high) const {
  const Json* v = find(key);
  if (!v) return {};
  return json_number(*v, file_, name(key), low, high);
}

std::optional<bool> JsonObject::flag(const char* key) const {
  const Json* v = find(key);
  if (!v) return {};
  if (!v->is_boolean())
    fail(ErrorCode::format, "{}: '{}' is {}, true or false is expected", file_, name(key),
         json_type(*v));
  return v->get<bool>();
}

std::optional<std::string> JsonObject::text(const char* key) const {
  const Json* v = find(key);
  if (!v) return {};
  if (!v->is_string())
    fail(ErrorCode::format, "{}: '{}' is {}, a string is expected", file_, name(key),
         json_type(*v));
  return v->get<std::string>();
}

std::optional<JsonObject> JsonObject::object(const char* key) const {
  const Json* v = find(key);
  if (!v) return {};
  return JsonObject(*v, file_, name(key) + ".");
}

}  // namespace whence
