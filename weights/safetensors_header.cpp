// The JSON header of a safetensors file, read as events: duplicate keys are seen, and memory stays
// proportional to the entries kept.
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "io/json.h"
#include "runtime/check.h"
#include "weights/safetensors.h"

namespace whence {
namespace {

// What the next event means. Anything that does not fit is refused, so nesting is bounded.
enum class At : uint8_t { start, top, metadata, tensor, shape, offsets, end };
enum Field : uint8_t { none = 0, dtype = 1, shape = 2, offsets = 4, all = 7 };

class HeaderReader {
 public:
  HeaderReader(const std::string& file, const SafetensorsLimits& limits)
      : file_(file), limits_(limits) {}
  SafetensorsHeader take() { return std::move(header_); }

  bool null() { return unexpected("null"); }
  bool boolean(bool) { return unexpected("true or false"); }
  bool binary(Json::binary_t&) { return unexpected("binary"); }
  bool number_float(Json::number_float_t, const std::string&) { return bad_number(); }
  bool number_integer(Json::number_integer_t) { return bad_number(); }  // negative ones only
  bool number_unsigned(Json::number_unsigned_t v) {
    if (at_ != At::shape && at_ != At::offsets) return unexpected("a number");
    if (v > uint64_t(std::numeric_limits<int64_t>::max())) return bad_number();
    if (at_ == At::offsets) {
      if (offset_count_ < 2) (offset_count_ == 0 ? entry_.begin : entry_.end) = v;
      ++offset_count_;
      return true;
    }
    if (entry_.shape.size() >= limits_.dimensions)
      fail(ErrorCode::limit, "{}: {}: more than {} dimensions", file_, tensor(),
           limits_.dimensions);
    entry_.shape.push_back(int64_t(v));
    return true;
  }
  bool string(std::string& v) {
    if (at_ == At::metadata) return metadata(v);
    if (at_ != At::tensor || field_ != Field::dtype) return unexpected("a string");
    const auto known = stored_dtype(v);
    if (!known)
      fail(ErrorCode::format,
           "{}: {}: dtype '{}' is not supported (weights may be F64, F32, F16, BF16)", file_,
           tensor(), printable(v));
    entry_.dtype = *known;
    return true;
  }
  bool start_object(size_t) {
    if (at_ == At::start) {
      at_ = At::top;
      return true;
    }
    if (at_ != At::top) return unexpected("an object");
    at_ = in_metadata_ ? At::metadata : At::tensor;
    seen_ = Field::none;
    return true;
  }
  bool key(std::string& v) {
    if (at_ == At::top) return top_key(v);
    if (at_ == At::metadata) {
      metadata_key_ = std::move(v);
      if (header_.metadata.contains(metadata_key_))
        format("metadata key '{}' occurs twice", printable(metadata_key_));
      return true;
    }
    field_ = v == "dtype"          ? Field::dtype
             : v == "shape"        ? Field::shape
             : v == "data_offsets" ? Field::offsets
                                   : Field::none;
    if (field_ == Field::none) format("{}: field '{}' is unknown", tensor(), printable(v));
    if (seen_ & field_) format("{}: field '{}' is given twice", tensor(), v);
    seen_ = uint8_t(seen_ | field_);
    return true;
  }
  bool start_array(size_t) {
    if (at_ != At::tensor || field_ == Field::dtype) return unexpected("a list");
    at_ = field_ == Field::shape ? At::shape : At::offsets;
    offset_count_ = 0;
    return true;
  }
  bool end_array() {
    if (at_ == At::offsets && offset_count_ != 2)
      format("{}: data_offsets has {} numbers, 2 are needed", tensor(), offset_count_);
    at_ = At::tensor;
    return true;
  }
  bool end_object() {
    if (at_ == At::top) {
      at_ = At::end;
      return true;
    }
    if (at_ == At::tensor) {
      for (auto [bit, name] : {std::pair{Field::dtype, "dtype"},
                               {Field::shape, "shape"},
                               {Field::offsets, "data_offsets"}})
        if (!(seen_ & bit)) format("{}: field '{}' is missing", tensor(), name);
      header_.entries.push_back(std::move(entry_));
      entry_ = {};
    }
    at_ = At::top;
    return true;
  }
  bool parse_error(size_t position, const std::string&, const std::exception& error) {
    fail_json(file_ + ": header is", position, error);
  }

 private:
  template <class... A>
  void format(fmt::format_string<A...> text, A&&... a) {
    fail(ErrorCode::format, "{}: {}", file_, fmt::format(text, std::forward<A>(a)...));
  }
  std::string tensor() const { return fmt::format("tensor '{}'", printable(entry_.name)); }

  bool top_key(std::string& v) {
    in_metadata_ = v == "__metadata__";
    if (in_metadata_) {
      if (metadata_seen_) format("'__metadata__' is declared twice");
      metadata_seen_ = true;
      return true;
    }
    if (v.size() > limits_.name_bytes)
      fail(ErrorCode::limit, "{}: a tensor name of {} bytes, the limit is {}", file_, v.size(),
           limits_.name_bytes);
    if (v.find('\0') != v.npos) format("tensor '{}': its name contains a zero byte", printable(v));
    if (header_.entries.size() >= limits_.tensors)
      fail(ErrorCode::limit, "{}: more than {} tensors", file_, limits_.tensors);
    entry_.name = std::move(v);
    return true;
  }
  bool metadata(std::string& v) {
    if (v.size() > limits_.metadata_bytes)
      fail(ErrorCode::limit, "{}: metadata '{}' has {} bytes, the limit is {}", file_,
           printable(metadata_key_), v.size(), limits_.metadata_bytes);
    header_.metadata[metadata_key_] = std::move(v);
    return true;
  }
  bool bad_number() {
    if (at_ != At::shape && at_ != At::offsets) return unexpected("a number");
    format("{}: {} has a number that is not a whole number from 0 to {}", tensor(),
           at_ == At::shape ? "shape" : "data_offsets", std::numeric_limits<int64_t>::max());
    return false;
  }
  bool unexpected(const char* found) {
    switch (at_) {
      case At::start:
        format("header is {}, an object is expected", found);
        break;
      case At::metadata:
        format("metadata '{}' is {}, a string is expected", printable(metadata_key_), found);
        break;
      case At::top:
        if (in_metadata_) format("'__metadata__' is {}, an object is expected", found);
        format("{} is {}, an object is expected", tensor(), found);
        break;
      case At::tensor:
        format("{}: field '{}' is {}, {} is expected", tensor(),
               field_ == Field::dtype   ? "dtype"
               : field_ == Field::shape ? "shape"
                                        : "data_offsets",
               found, field_ == Field::dtype ? "a string" : "a list of numbers");
        break;
      default:
        format("{}: {} holds {}, numbers are expected", tensor(),
               at_ == At::shape ? "shape" : "data_offsets", found);
    }
    return false;
  }

  const std::string& file_;
  const SafetensorsLimits& limits_;
  SafetensorsHeader header_;
  At at_ = At::start;
  bool in_metadata_ = false, metadata_seen_ = false;
  uint8_t seen_ = 0;
  Field field_ = Field::none;
  int offset_count_ = 0;
  TensorEntry entry_;
  std::string metadata_key_;
};

// shape x bits / 8 against the range; all arithmetic is checked.
void check_size(const TensorEntry& e, uint64_t data_bytes, const std::string& file) {
  uint64_t bits = uint64_t(bits_of(e.dtype));
  bool overflow = false;
  for (int64_t size : e.shape)
    overflow = __builtin_mul_overflow(bits, uint64_t(size), &bits) || overflow;
  // A zero among huge sizes means no elements; the others still may not overflow.
  if (overflow)
    fail(ErrorCode::format, "{}: tensor '{}': shape {} is too large to exist", file,
         printable(e.name), shape_text(e.shape));
  if (bits % 8 != 0)
    fail(ErrorCode::format, "{}: tensor '{}': shape {} of {} does not fill whole bytes", file,
         printable(e.name), shape_text(e.shape), name_of(e.dtype));
  if (e.begin > e.end || e.end > data_bytes)
    fail(ErrorCode::format, "{}: tensor '{}': bytes {}..{} lie outside the {} data bytes", file,
         printable(e.name), e.begin, e.end, data_bytes);
  if (e.end - e.begin != bits / 8)
    fail(ErrorCode::format, "{}: tensor '{}': shape {} of {} needs {} bytes but its range has {}",
         file, printable(e.name), shape_text(e.shape), name_of(e.dtype), bits / 8, e.end - e.begin);
}

// The tensors tile the data: no hole, no overlap, nothing after the last.
void check_tiling(const std::vector<TensorEntry>& entries, uint64_t data_bytes,
                  const std::string& file) {
  std::vector<uint32_t> order(entries.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    const TensorEntry &x = entries[a], &y = entries[b];
    return std::pair(x.begin, x.end) < std::pair(y.begin, y.end);
  });
  uint64_t at = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    const TensorEntry& e = entries[order[i]];
    if (e.begin > at)
      fail(ErrorCode::format, "{}: bytes {}..{} belong to no tensor", file, at, e.begin);
    if (e.begin < at)
      fail(ErrorCode::format, "{}: tensors '{}' and '{}' overlap at byte {}", file,
           printable(entries[order[i - 1]].name), printable(e.name), e.begin);
    at = e.end;
  }
  if (at != data_bytes)
    fail(ErrorCode::format, "{}: {} bytes after the last tensor", file, data_bytes - at);
}

}  // namespace

std::string shape_text(std::span<const int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

SafetensorsHeader parse_safetensors_header(std::string_view json, uint64_t data_bytes,
                                           const std::string& file,
                                           const SafetensorsLimits& limits) {
  check_json_start(json, file + ": header is");
  HeaderReader reader(file, limits);
  Json::sax_parse(json.begin(), json.end(), &reader);
  SafetensorsHeader header = reader.take();
  std::sort(header.entries.begin(), header.entries.end(),
            [](const TensorEntry& a, const TensorEntry& b) { return a.name < b.name; });
  for (size_t i = 1; i < header.entries.size(); ++i)
    if (header.entries[i].name == header.entries[i - 1].name)
      fail(ErrorCode::format, "{}: tensor '{}' is declared twice", file,
           printable(header.entries[i].name));
  for (const TensorEntry& e : header.entries) check_size(e, data_bytes, file);
  check_tiling(header.entries, data_bytes, file);
  return header;
}

}  // namespace whence
