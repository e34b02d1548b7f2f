#include "io/npy.h"

#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>

#include "io/bytes.h"
#include "io/codecs.h"
#include "io/files.h"
#include "runtime/text.h"

namespace whence {
namespace {

constexpr size_t most_header_bytes = 10'000;

struct NpyHeader {
  std::string descr;
  bool fortran = false;
  std::vector<int64_t> sizes;
};

// The header is a Python dictionary; just what NumPy writes into it is understood, nothing is
// evaluated.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& name) : text_(text), name_(name) {}

  NpyHeader run() {
    NpyHeader header;
    bool has_descr = false, has_order = false, has_shape = false;
    expect('{');
    while (!accept('}')) {
      const std::string key = quoted();
      expect(':');
      if (key == "descr" && !has_descr) {
        has_descr = true;
        header.descr = descr();
      } else if (key == "fortran_order" && !has_order) {
        has_order = true;
        header.fortran = boolean();
      } else if (key == "shape" && !has_shape) {
        has_shape = true;
        header.sizes = tuple();
      } else {
        fail_format(name_, "NumPy header has the key '{}', or has it twice", printable(key));
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_blanks();
    if (at_ != text_.size()) fail_here("the end");
    if (!has_descr || !has_order || !has_shape)
      fail_format(name_, "NumPy header lacks '{}'",
                  !has_descr   ? "descr"
                  : !has_order ? "fortran_order"
                               : "shape");
    return header;
  }

 private:
  [[noreturn]] void fail_here(std::string_view expected) const {
    fail_format(name_, "NumPy header has not {} at its byte {}", expected, at_);
  }
  void skip_blanks() {
    while (at_ < text_.size() &&
           std::string_view(" \t\r\n\f").find(text_[at_]) != std::string_view::npos)
      ++at_;
  }
  bool accept(char c) {
    skip_blanks();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) fail_here(fmt::format("'{}'", c));
  }
  std::string quoted() {
    skip_blanks();
    if (at_ >= text_.size() || (text_[at_] != '\'' && text_[at_] != '"'))
      fail_here("a quoted name");
    const size_t end = text_.find(text_[at_], at_ + 1);
    if (end == std::string_view::npos) fail_here("a closed quotation");
    std::string value(text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return value;
  }
  std::string descr() {
    skip_blanks();
    if (at_ < text_.size() && text_[at_] == '[')
      fail_unsupported(name_, "an array of records is not read; save each field as an array");
    return quoted();
  }
  bool boolean() {
    skip_blanks();
    for (const bool value : {false, true}) {
      const std::string_view word = value ? "True" : "False";
      if (text_.substr(at_, word.size()) != word) continue;
      at_ += word.size();
      return value;
    }
    fail_here("True or False");
  }
  std::vector<int64_t> tuple() {
    std::vector<int64_t> sizes;
    expect('(');
    while (!accept(')')) {
      skip_blanks();
      int64_t size = 0;
      const char* first = text_.data() + at_;
      const auto parsed = std::from_chars(first, text_.data() + text_.size(), size);
      if (parsed.ec != std::errc() || *first == '-') fail_here("a size");
      at_ += size_t(parsed.ptr - first);
      sizes.push_back(size);
      if (!accept(',')) {
        if (sizes.size() == 1) fail_here("a comma after the only size");
        expect(')');
        break;
      }
    }
    return sizes;
  }
  std::string_view text_;
  const std::string& name_;
  size_t at_ = 0;
};

struct Element {
  char kind = 0;  // 'f', 'i', 'u' or 'b'
  size_t size = 0;
  bool big_endian = false;
};

Element parse_descr(const std::string& descr, const std::string& name) {
  if (descr.size() >= 2 && descr[1] == 'O')
    fail_unsupported(name, "an array of Python objects is not read; save it as numbers");
  if (descr.size() == 3 && std::string_view("<>|").find(descr[0]) != std::string_view::npos) {
    const Element e{descr[1], size_t(descr[2] - '0'), descr[0] == '>'};
    const bool whole = (e.kind == 'i' || e.kind == 'u') &&
                       (e.size == 1 || e.size == 2 || e.size == 4 || e.size == 8);
    const bool floating = e.kind == 'f' && (e.size == 2 || e.size == 4 || e.size == 8);
    const bool boolean = e.kind == 'b' && e.size == 1;
    if ((whole || floating || boolean) && (descr[0] != '|' || e.size == 1)) return e;
  }
  fail_unsupported(name,
                   "elements of type '{}' are not read (float16 to float64, int8 to int64, "
                   "uint8 to uint64 and bool are)",
                   printable(descr));
}

// IEEE 754 binary16 by its bits; exact.
double half_to_double(uint32_t bits) {
  const double sign = bits >> 15 ? -1 : 1;
  const int exponent = int(bits >> 10 & 31);
  const double fraction = bits & 1023;
  if (exponent == 31)
    return fraction == 0 ? sign * HUGE_VAL : std::numeric_limits<double>::quiet_NaN();
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024 + fraction, exponent - 25);
}

uint64_t load(const uint8_t* p, const Element& e) {
  uint64_t v = 0;
  for (size_t i = 0; i < e.size; ++i) v = v << 8 | p[e.big_endian ? i : e.size - 1 - i];
  return v;
}

double to_double(uint64_t bits, const Element& e) {
  if (e.size == 2) return half_to_double(uint32_t(bits));
  if (e.size == 4) return std::bit_cast<float>(uint32_t(bits));
  return std::bit_cast<double>(bits);
}

// Converts elements into a tensor; `at` is the row-major position.
class Store {
 public:
  Store(Tensor& tensor, const Element& element, const std::string& name)
      : shape_(tensor.shape()), element_(element), name_(name) {
    if (element.kind == 'f')
      reals_ = tensor.reals();
    else if (tensor.type().dtype == Dtype::i32)
      ints_ = tensor.ints();
    else if (tensor.type().dtype == Dtype::u8)
      bytes_ = tensor.values<uint8_t>();
    else
      longs_ = tensor.values<int64_t>();
  }
  void put(int64_t at, uint64_t bits) const {
    if (element_.kind == 'f')
      put_real(at, to_double(bits, element_));
    else if (!bytes_.empty())
      bytes_[size_t(at)] = uint8_t(bits);
    else if (!longs_.empty())
      longs_[size_t(at)] = int64_t(bits);
    else
      put_integer(at, bits);
  }

 private:
  void put_real(int64_t at, double value) const {
    const real narrow = real(value);
    if (std::isinf(narrow) && !std::isinf(value))
      fail_format(name_, "{} at {} is beyond float32", value, index_text(at, shape_));
    reals_[size_t(at)] = narrow;
  }
  void put_integer(int64_t at, uint64_t bits) const {
    const int shift = int(64 - 8 * element_.size);
    const int64_t value = element_.kind == 'i' ? int64_t(bits << shift) >> shift : int64_t(bits);
    const bool beyond_int64 = element_.kind != 'i' && value < 0;
    if (beyond_int64 || value < std::numeric_limits<int32_t>::min() ||
        value > std::numeric_limits<int32_t>::max())
      fail_format(name_, "{} at {} is beyond int32",
                  beyond_int64 ? fmt::format("{}", bits) : fmt::format("{}", value),
                  index_text(at, shape_));
    if (element_.kind == 'b' && value > 1)
      fail_format(name_, "{} at {} is no boolean", value, index_text(at, shape_));
    ints_[size_t(at)] = int32_t(value);
  }
  Shape shape_;
  Element element_;
  const std::string& name_;
  std::span<real> reals_;
  std::span<int32_t> ints_;
  std::span<uint8_t> bytes_;
  std::span<int64_t> longs_;
};

Dtype dtype_for(const Element& e, NpyIntegers integers) {
  if (e.kind == 'f') return Dtype::floating;
  if (integers == NpyIntegers::as_stored && e.kind == 'u' && e.size == 1) return Dtype::u8;
  if (integers == NpyIntegers::as_stored && e.kind == 'i' && e.size == 8) return Dtype::i64;
  return Dtype::i32;
}

// Row-major position of the element that column-major order puts at `flat`.
int64_t transposed(int64_t flat, const Shape& shape) {
  int64_t at = 0, stride = shape.count();
  for (int axis = 0; axis < shape.rank(); ++axis) {
    stride /= shape[axis];
    at += flat % shape[axis] * stride;
    flat /= shape[axis];
  }
  return at;
}

std::string_view header_text(ByteReader& reader, const std::string& name) {
  if (!reader.has(10) || std::memcmp(reader.take(6).data(), "\x93NUMPY", 6) != 0)
    fail_format(name, "not a NumPy array");
  const int version = reader.u8(), minor = reader.u8();
  if (version < 1 || version > 3)
    fail_unsupported(name, "NumPy format {}.{} is not read, 1.0 to 3.0 are", version, minor);
  if (version > 1 && !reader.has(4)) fail_format(name, "NumPy header is cut off");
  const uint32_t length = version == 1 ? reader.le16() : reader.le32();
  if (length > most_header_bytes)
    fail(ErrorCode::limit, "{}: NumPy header of {} bytes is over the limit of {}", name, length,
         most_header_bytes);
  if (!reader.has(length))
    fail_format(name, "NumPy header claims {} bytes but only {} follow", length,
                reader.remaining());
  const auto text = reader.take(length);
  return {reinterpret_cast<const char*>(text.data()), text.size()};
}

Shape checked_shape(const NpyHeader& header, const Element& e, uint64_t remaining,
                    const std::string& name) {
  std::string text = "[";
  for (size_t i = 0; i < header.sizes.size() && i < 10; ++i)
    text += fmt::format("{}{}", i ? ", " : "", header.sizes[i]);
  text += header.sizes.size() > 10 ? ", ...]" : "]";
  if (header.sizes.size() > Shape::max_rank)
    fail_unsupported(name, "shape {} has {} axes, at most {} are read", text, header.sizes.size(),
                     int(Shape::max_rank));
  // Sizes of 0 count as 1 here, so that no partial product of a shape can overflow later.
  uint64_t bytes = sizeof(double);
  bool empty = false;
  for (const int64_t size : header.sizes) {
    empty = empty || size == 0;
    if (__builtin_mul_overflow(bytes, uint64_t(std::max<int64_t>(size, 1)), &bytes) ||
        bytes > INT64_MAX)
      fail_format(name, "shape {} is too large to exist", text);
  }
  const uint64_t needed = empty ? 0 : bytes / sizeof(double) * e.size;
  if (needed != remaining)
    fail_format(name, "shape {} of '{}' needs {} bytes but {} follow", text, header.descr, needed,
                remaining);
  return Shape(header.sizes);
}

// What the header says of the array, and where the array begins.
struct Layout {
  Type type;
  Element element;
  bool fortran = false;
  size_t begin = 0;
};

// `first`: the whole file of `file_bytes`, or as much of it as a header can take.
Layout read_layout(std::span<const uint8_t> first, uint64_t file_bytes, const std::string& name,
                   NpyIntegers integers) {
  ByteReader reader(first);
  const NpyHeader header = HeaderParser(header_text(reader, name), name).run();
  const Element element = parse_descr(header.descr, name);
  const Shape shape = checked_shape(header, element, file_bytes - reader.position(), name);
  return {Type{shape, dtype_for(element, integers)}, element, header.fortran, reader.position()};
}

constexpr int64_t most_file_bytes = int64_t(1) << 34;

}  // namespace

Tensor decode_npy(std::span<const uint8_t> bytes, const std::string& name, NpyIntegers integers) {
  const Layout layout = read_layout(bytes, bytes.size(), name, integers);
  const Element& element = layout.element;
  const Shape& shape = layout.type.shape;
  Tensor tensor(layout.type);
  const auto data = bytes.subspan(layout.begin);
  const bool reorder = layout.fortran && shape.rank() > 1;
  if (element.kind == 'f' && element.size == sizeof(real) && !element.big_endian && !reorder &&
      std::endian::native == std::endian::little) {
    if (!data.empty()) std::memcpy(tensor.data(), data.data(), data.size());
    return tensor;
  }
  const Store store(tensor, element, name);
  const int64_t count = shape.count();
  for (int64_t i = 0; i < count; ++i)
    store.put(reorder ? transposed(i, shape) : i,
              load(data.data() + size_t(i) * element.size, element));
  return tensor;
}

Tensor read_npy(const std::filesystem::path& path, NpyIntegers integers) {
  return decode_npy(read_file(path, most_file_bytes), path_text(path), integers);
}

Type npy_type(const std::filesystem::path& path) {
  const InputFile file(path);
  check_size(file, most_file_bytes);
  constexpr size_t before_header = 12;  // magic bytes, version, length
  std::vector<uint8_t> first(std::min(size_t(file.size()), before_header + most_header_bytes));
  file.read(0, first);
  return read_layout(first, uint64_t(file.size()), file.name(), NpyIntegers::as_i32).type;
}

std::vector<uint8_t> encode_npy(const Tensor& tensor) {
  const Shape& shape = tensor.shape();
  constexpr const char* descriptions[] = {"<f4", "<i4", "|u1", "<i8"};
  const Dtype dtype = tensor.type().dtype;
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': (",
                                   descriptions[size_t(dtype)]);
  for (int axis = 0; axis < shape.rank(); ++axis)
    header += fmt::format("{}{}", axis ? ", " : "", shape[axis]);
  header += shape.rank() == 1 ? ",), }" : "), }";
  // NumPy leaves room for the first size to grow to 21 digits, then pads so that data begins at a
  // multiple of 64, with at least one blank.
  if (shape.rank() > 0) header.append(21 - std::to_string(shape[0]).size(), ' ');
  constexpr size_t prefix = 10, alignment = 64;
  header.append(alignment - (prefix + header.size() + 1) % alignment, ' ');
  header += '\n';

  std::vector<uint8_t> out;
  out.reserve(prefix + header.size() + size_t(shape.count()) * (dtype == Dtype::i64 ? 8 : 4));
  for (const int byte : {0x93, int('N'), int('U'), int('M'), int('P'), int('Y'), 1, 0,
                         int(header.size() & 255), int(header.size() >> 8)})
    out.push_back(uint8_t(byte));
  for (const char c : header) out.push_back(uint8_t(c));
  const auto append = [&out](auto bits) {
    for (size_t i = 0; i < sizeof bits; ++i) out.push_back(uint8_t(bits >> 8 * i));
  };
  if (dtype == Dtype::floating)
    for (const real value : tensor.reals()) append(std::bit_cast<uint32_t>(float(value)));
  if (dtype == Dtype::i32)
    for (const int32_t value : tensor.ints()) append(uint32_t(value));
  if (dtype == Dtype::u8)
    for (const uint8_t value : tensor.values<uint8_t>()) append(value);
  if (dtype == Dtype::i64)
    for (const int64_t value : tensor.values<int64_t>()) append(uint64_t(value));
  return out;
}

void check_finite(const Tensor& tensor, const std::string& name) {
  int64_t nans = 0, infinities = 0, first = -1, at = 0;
  for (const real value : tensor.reals()) {
    if (!std::isfinite(value)) {
      ++(std::isnan(value) ? nans : infinities);
      if (first < 0) first = at;
    }
    ++at;
  }
  if (first >= 0)
    fail(ErrorCode::nonfinite, "{}: {} NaN and {} infinite values, first at {}", name, nans,
         infinities, index_text(first, tensor.shape()));
}

}  // namespace whence
