#include "weights/safetensors.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <limits>

#include "whence/error.h"

namespace whence {
namespace {

std::vector<uint8_t> file_of(const std::string& header, size_t data_bytes,
                             std::optional<uint64_t> length = {}) {
  const uint64_t n = length.value_or(header.size());
  std::vector<uint8_t> bytes(8 + header.size() + data_bytes);
  std::memcpy(bytes.data(), &n, 8);
  std::memcpy(bytes.data() + 8, header.data(), header.size());
  for (size_t i = 0; i < data_bytes; ++i) bytes[8 + header.size() + i] = uint8_t(i);
  return bytes;
}

std::string message(const std::function<void()>& f, ErrorCode* code = nullptr) {
  try {
    f();
  } catch (const Error& e) {
    if (code) *code = e.code();
    return e.what();
  }
  return "accepted";
}

std::string verdict(const std::vector<uint8_t>& bytes, ErrorCode* code = nullptr) {
  return message([&] { SafetensorsFile::from_bytes(bytes, "m.safetensors"); }, code);
}

std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
         ",\"data_offsets\":" + offsets + "}";
}
std::string object(const std::string& inside) { return "{" + inside + "}"; }

struct Hostile {
  std::string what, header;
  size_t data;
  std::string expected;  // after "m.safetensors: "
  ErrorCode code = ErrorCode::format;
};

const std::string w16 = entry("w", "F32", "[2,2]", "[0,16]");

const Hostile hostile[] = {
    {"header is one brace", "{", 0, "header is not valid JSON at byte 1: expected string literal"},
    {"header is empty", "", 0,
     "header is not valid JSON at byte 0: expected '[', '{', or a literal"},
    {"header byte 0xFF", "\xFF", 0, "header is not valid JSON at byte 0: invalid literal"},
    {"name is not UTF-8", "{\"\xC3\x28\":1}", 0,
     "header is not valid JSON at byte 3: invalid string: ill-formed UTF-8 byte"},
    {"byte order mark", "\xEF\xBB\xBF{}", 0,
     "header is not valid JSON at byte 0: it begins with a byte order mark"},
    {"zero byte after the object", std::string("{}\0x", 4), 0,
     "header is not valid JSON at byte 2: zero byte"},
    {"second value", "{}{}", 0, "header is not valid JSON at byte 2: expected end of input"},
    {"a list", "[]", 0, "header is a list, an object is expected"},
    {"a number", "3", 0, "header is a number, an object is expected"},
    {"tensor is a number", R"({"w":3})", 0, "tensor 'w' is a number, an object is expected"},
    {"tensor is a list", R"({"w":[]})", 0, "tensor 'w' is a list, an object is expected"},
    {"tensor twice", object(w16 + "," + w16), 16, "tensor 'w' is declared twice"},
    {"tensor twice, escaped differently",
     object(w16 + "," + entry("\\u0077", "F32", "[0]", "[16,16]")), 16,
     "tensor 'w' is declared twice"},
    {"metadata twice", R"({"__metadata__":{},"__metadata__":{}})", 0,
     "'__metadata__' is declared twice"},
    {"metadata key twice", R"({"__metadata__":{"a":"1","a":"1"}})", 0,
     "metadata key 'a' occurs twice"},
    {"metadata value is a number", R"({"__metadata__":{"a":1}})", 0,
     "metadata 'a' is a number, a string is expected"},
    {"metadata value is an object", R"({"__metadata__":{"a":{}}})", 0,
     "metadata 'a' is an object, a string is expected"},
    {"metadata is a string", R"({"__metadata__":"x"})", 0,
     "'__metadata__' is a string, an object is expected"},
    {"field twice", R"({"w":{"dtype":"F32","dtype":"F32","shape":[],"data_offsets":[0,4]}})", 4,
     "tensor 'w': field 'dtype' is given twice"},
    {"field missing", R"({"w":{"dtype":"F32","data_offsets":[0,4]}})", 4,
     "tensor 'w': field 'shape' is missing"},
    {"empty tensor object", R"({"w":{}})", 0, "tensor 'w': field 'dtype' is missing"},
    {"field unknown", R"({"w":{"dtype":"F32","shape":[],"data_offsets":[0,4],"x":1}})", 4,
     "tensor 'w': field 'x' is unknown"},
    {"dtype unknown", object(entry("w", "F31", "[1]", "[0,4]")), 4,
     "tensor 'w': dtype 'F31' is not supported (weights may be F64, F32, F16, BF16)",
     ErrorCode::format},
    {"dtype in lower case", object(entry("w", "f32", "[1]", "[0,4]")), 4,
     "tensor 'w': dtype 'f32' is not supported (weights may be F64, F32, F16, BF16)",
     ErrorCode::format},
    {"dtype is a number", R"({"w":{"dtype":32,"shape":[],"data_offsets":[0,4]}})", 4,
     "tensor 'w': field 'dtype' is a number, a string is expected"},
    {"shape is a number", R"({"w":{"dtype":"F32","shape":1,"data_offsets":[0,4]}})", 4,
     "tensor 'w': field 'shape' is a number, a list of numbers is expected"},
    {"shape nests", object(entry("w", "F32", "[[1]]", "[0,4]")), 4,
     "tensor 'w': shape holds a list, numbers are expected"},
    {"negative size", object(entry("w", "F32", "[-1]", "[0,4]")), 4,
     "tensor 'w': shape has a number that is not a whole number from 0 to 9223372036854775807"},
    {"fractional size", object(entry("w", "F32", "[1.0]", "[0,4]")), 4,
     "tensor 'w': shape has a number that is not a whole number from 0 to 9223372036854775807"},
    {"size with exponent", object(entry("w", "F32", "[1e0]", "[0,4]")), 4,
     "tensor 'w': shape has a number that is not a whole number from 0 to 9223372036854775807"},
    {"size beyond 63 bits", object(entry("w", "F32", "[9223372036854775808]", "[0,4]")), 4,
     "tensor 'w': shape has a number that is not a whole number from 0 to 9223372036854775807"},
    {"offset beyond 64 bits", object(entry("w", "F32", "[1]", "[0,18446744073709551616]")), 4,
     "tensor 'w': data_offsets has a number that is not a whole number from 0 to "
     "9223372036854775807"},
    {"nine dimensions", object(entry("w", "F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]")), 4,
     "tensor 'w': more than 8 dimensions", ErrorCode::limit},
    {"one offset", object(entry("w", "F32", "[1]", "[4]")), 4,
     "tensor 'w': data_offsets has 1 numbers, 2 are needed"},
    {"three offsets", object(entry("w", "F32", "[1]", "[0,4,4]")), 4,
     "tensor 'w': data_offsets has 3 numbers, 2 are needed"},
    {"product overflows", object(entry("w", "I32", "[2,9223372036854775807]", "[0,16]")), 16,
     "tensor 'w': shape [2, 9223372036854775807] is too large to exist"},
    {"bits overflow", object(entry("w", "F64", "[4611686018427387904]", "[0,16]")), 16,
     "tensor 'w': shape [4611686018427387904] is too large to exist"},
    {"broken bytes", object(entry("w", "F4", "[3]", "[0,2]")), 2,
     "tensor 'w': shape [3] of F4 does not fill whole bytes"},
    {"range too short", object(entry("w", "F32", "[2,2]", "[0,15]")), 15,
     "tensor 'w': shape [2, 2] of F32 needs 16 bytes but its range has 15"},
    {"range reversed", object(entry("w", "F32", "[1]", "[4,0]")), 4,
     "tensor 'w': bytes 4..0 lie outside the 4 data bytes"},
    {"range past the end", object(entry("w", "F32", "[4]", "[0,16]")), 14,
     "tensor 'w': bytes 0..16 lie outside the 14 data bytes"},
    {"hole at the start", object(entry("w", "F32", "[1]", "[4,8]")), 8,
     "bytes 0..4 belong to no tensor"},
    {"hole between",
     object(entry("a", "F32", "[1]", "[0,4]") + "," + entry("b", "F32", "[1]", "[8,12]")), 12,
     "bytes 4..8 belong to no tensor"},
    {"overlap",
     object(entry("a", "F32", "[2]", "[0,8]") + "," + entry("b", "F32", "[2]", "[4,12]")), 12,
     "tensors 'a' and 'b' overlap at byte 4"},
    {"all claim the same bytes", object(w16 + "," + entry("v", "F32", "[4]", "[0,16]")), 16,
     "tensors 'v' and 'w' overlap at byte 0"},
    {"empty tensor inside another", object(w16 + "," + entry("z", "F32", "[0]", "[8,8]")), 16,
     "tensors 'w' and 'z' overlap at byte 8"},
    {"trailing bytes", object(w16), 19, "3 bytes after the last tensor"},
    {"data without tensors", "{}", 5, "5 bytes after the last tensor"},
    {"name with a zero byte", object(entry("a\\u0000b", "F32", "[1]", "[0,4]")), 4,
     "tensor 'a\\x00b': its name contains a zero byte"},
    {"name that moves the cursor", object(entry("\\u001b[2J", "F3", "[1]", "[0,4]")), 4,
     "tensor '\\x1B[2J': dtype 'F3' is not supported (weights may be F64, F32, F16, BF16)",
     ErrorCode::format},
    {"name too long", object(entry(std::string(1025, 'n'), "F32", "[1]", "[0,4]")), 4,
     "a tensor name of 1025 bytes, the limit is 1024", ErrorCode::limit},
};

TEST(Safetensors, refuses_hostile_headers_with_these_words) {
  EXPECT_GE(std::size(hostile), 45u);
  for (const Hostile& h : hostile) {
    ErrorCode code{};
    EXPECT_EQ(verdict(file_of(h.header, h.data), &code), "m.safetensors: " + h.expected) << h.what;
    EXPECT_EQ(int(code), int(h.code)) << h.what;
  }
}

TEST(Safetensors, refuses_lengths_that_the_file_does_not_have) {
  ErrorCode code{};
  EXPECT_EQ(verdict({1, 2, 3, 4, 5}),
            "m.safetensors: not a safetensors file: 5 bytes, at least 8 needed");
  EXPECT_EQ(verdict({}), "m.safetensors: not a safetensors file: 0 bytes, at least 8 needed");
  EXPECT_EQ(verdict(file_of("{}", 0, UINT64_MAX), &code),
            "m.safetensors: header of 18446744073709551615 bytes is over the limit of 100000000");
  EXPECT_EQ(code, ErrorCode::limit);
  EXPECT_EQ(verdict(file_of("{}", 0, 100'000'001)),
            "m.safetensors: header of 100000001 bytes is over the limit of 100000000");
  EXPECT_EQ(verdict(file_of("{}", 1, 4)),
            "m.safetensors: header claims 4 bytes but only 3 follow; the download is probably "
            "incomplete");
}

TEST(Safetensors, names_other_kinds_of_files_and_what_to_do) {
  const auto text = [](std::string s) { return std::vector<uint8_t>(s.begin(), s.end()); };
  const std::string convert =
      "convert it with torch.load(..., weights_only=True) and safetensors.torch.save_file";
  const std::pair<std::string, std::string> kinds[] = {
      {"\x80\x02}q\x01(X\x05", "a pickle checkpoint, not safetensors; " + convert},
      {"PK\x03\x04\x14\x00\x08\x08model/data.pkl",
       "a zip archive (perhaps a pickle checkpoint), not safetensors; " + convert},
      {"version https://git-lfs.github.com/spec/v1\n",
       "a git-lfs pointer, not safetensors; fetch the real file with git lfs pull"},
      {"<!DOCTYPE html><html>",
       "an HTML page, not safetensors; the download failed; fetch the "
       "real file"},
      {"\x1f\x8b\x08\x01\x01\x01\x01", "a gzip archive, not safetensors; unpack it first"},
      {"\x89HDF\r\n\x1a\n", "an HDF5 file, not safetensors; give a .safetensors file"},
      {"\x93NUMPY\x01", "a NumPy array, not safetensors; give a .safetensors file"},
      {"GGUF\x03", "a GGUF file, not safetensors; give a .safetensors file"},
  };
  for (const auto& [bytes, expected] : kinds)
    EXPECT_EQ(verdict(text(bytes)), "m.safetensors: this is " + expected);
}

TEST(Safetensors, every_truncation_of_a_valid_file_is_refused) {
  const std::vector<OutputTensor> tensors{
      output_tensor("a", Tensor::of({3}, {1, 2, 3})),
      output_tensor("b", Tensor::of({2, 1}, {4, 5}), StoredDtype::f16)};
  const std::vector<uint8_t> whole = serialize_safetensors(tensors, {{"format", "pt"}});
  EXPECT_EQ(verdict(whole), "accepted");
  for (size_t n = 0; n < whole.size(); ++n)
    EXPECT_NE(verdict({whole.begin(), whole.begin() + int64_t(n)}), "accepted") << n;
}

TEST(Safetensors, the_smallest_file_is_88_bytes) {
  const Tensor w = Tensor::of({2, 2}, {1, 2, 3, 4});
  const std::vector<uint8_t> bytes = serialize_safetensors({output_tensor("w", w)});
  ASSERT_EQ(bytes.size(), 88u);
  const uint8_t first[8] = {0x40, 0, 0, 0, 0, 0, 0, 0};
  EXPECT_EQ(std::memcmp(bytes.data(), first, 8), 0);
  EXPECT_EQ(std::string(bytes.begin() + 8, bytes.begin() + 72),
            R"({"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}})"
            "       ");
  const Tensor back = SafetensorsFile::from_bytes(bytes, "m").read("w");
  EXPECT_EQ(back.shape(), w.shape());
  EXPECT_TRUE(std::equal(back.reals().begin(), back.reals().end(), w.reals().begin()));
}

TEST(Safetensors, accepts_what_the_format_allows) {
  EXPECT_EQ(verdict(file_of("{}", 0)), "accepted");
  EXPECT_EQ(verdict(file_of("{}   \n", 0)), "accepted");
  EXPECT_EQ(verdict(file_of(" \n\t{}", 0)), "accepted");
  EXPECT_EQ(verdict(file_of(R"({"__metadata__":{}})", 0)), "accepted");
  // Any order; scalars; empty tensors on boundaries; types that are never weights.
  const std::string many =
      object(entry("c", "I64", "[]", "[5,13]") + "," + entry("z", "F32", "[3,0,5]", "[5,5]") + "," +
             entry("b", "U8", "[5]", "[0,5]") + "," + R"("__metadata__":{"format":"pt"})" + "," +
             entry("a", "F4", "[4]", "[13,15]") + "," + entry("e", "F32", "[0]", "[15,15]"));
  const std::vector<uint8_t> bytes = file_of(many, 15);
  const SafetensorsFile f = SafetensorsFile::from_bytes(bytes, "m");
  ASSERT_EQ(f.entries().size(), 5u);
  EXPECT_EQ(f.entries()[0].name, "a");
  EXPECT_EQ(f.metadata().at("format"), "pt");
  EXPECT_EQ(f.find("c")->begin, 5u);
  EXPECT_EQ(f.find("d"), nullptr);
  EXPECT_EQ(f.read("z").shape(), (Shape{3, 0, 5}));
  EXPECT_EQ(message([&] { f.read("c"); }),
            "m: tensor 'c': dtype 'I64' is not supported (weights may be F64, F32, F16, BF16)");
  EXPECT_EQ(message([&] { f.read("q"); }), "m: there is no tensor 'q'");
}

TEST(Safetensors, reads_data_at_any_alignment) {
  // 61 header bytes and one byte tensor put the floats at an odd address.
  const float values[3] = {1.5f, -2.25f, 3e-40f};
  const std::string header =
      object(entry("b", "BOOL", "[1]", "[0,1]") + "," + entry("w", "F32", "[3]", "[1,13]") + "," +
             entry("d", "F64", "[1]", "[13,21]"));
  std::vector<uint8_t> bytes = file_of(header, 21);
  const double wide = -0.1f;
  std::memcpy(bytes.data() + 8 + header.size() + 1, values, 12);
  std::memcpy(bytes.data() + 8 + header.size() + 13, &wide, 8);
  const SafetensorsFile f = SafetensorsFile::from_bytes(bytes, "m");
  for (int i = 0; i < 3; ++i) EXPECT_EQ(f.read("w").reals()[size_t(i)], real(values[i]));
  EXPECT_EQ(f.read("d").reals()[0], real(-0.1f));
}

TEST(Safetensors, a_hundred_thousand_tensors_are_read) {
  std::string header = "{";
  for (int i = 0; i < 100'000; ++i)
    header +=
        (i ? "," : "") + entry("layer." + std::to_string(i), "F32", "[1]",
                               "[" + std::to_string(4 * i) + "," + std::to_string(4 * i + 4) + "]");
  const std::vector<uint8_t> bytes = file_of(header + "}", 400'000);
  EXPECT_EQ(SafetensorsFile::from_bytes(bytes, "m").entries().size(), 100'000u);
}

TEST(Safetensors, limits_can_be_lowered) {
  const std::vector<uint8_t> bytes = file_of(object(w16), 16);
  EXPECT_EQ(message([&] { SafetensorsFile::from_bytes(bytes, "m", {.header_bytes = 56}); }),
            "m: header of 57 bytes is over the limit of 56");
  EXPECT_EQ(message([&] { SafetensorsFile::from_bytes(bytes, "m", {.tensors = 0}); }),
            "m: more than 0 tensors");
  EXPECT_EQ(message([&] { SafetensorsFile::from_bytes(bytes, "m", {.dimensions = 1}); }),
            "m: tensor 'w': more than 1 dimensions");
}

TEST(Safetensors, a_finite_value_never_becomes_infinite) {
  const Tensor large = Tensor::of({3}, {real(1), real(70000), real(-91234.5)});
  EXPECT_EQ(message([&] { output_tensor("w", large, StoredDtype::f16); }),
            "'w': 2 values exceed the range of F16 (largest -91234.5); keep f32 or bf16");
  EXPECT_NO_THROW(output_tensor("w", large, StoredDtype::bf16));
  const Tensor infinite = Tensor::of({1}, {std::numeric_limits<real>::infinity()});
  EXPECT_NO_THROW(output_tensor("w", infinite, StoredDtype::f16));

  // A double beyond float's range, and one that float flushes to zero.
  const std::string header = object(entry("w", "F64", "[2]", "[0,16]"));
  std::vector<uint8_t> bytes = file_of(header, 16);
  const auto put = [&](double a, double b) {
    std::memcpy(bytes.data() + 8 + header.size(), &a, 8);
    std::memcpy(bytes.data() + 16 + header.size(), &b, 8);
  };
  const auto read = [&](Narrowing* lost) {
    return SafetensorsFile::from_bytes(bytes, "m")
        .read(*SafetensorsFile::from_bytes(bytes, "m").find("w"), lost);
  };
  put(1e300, 1);
  if (sizeof(real) == sizeof(float)) {
    EXPECT_EQ(message([&] { read(nullptr); }),
              "m: tensor 'w': 1 values exceed the range of F32 (largest 1e+300); store smaller "
              "weights");
    put(1e-300, 0);
    Narrowing lost;
    EXPECT_EQ(read(&lost).reals()[0], 0);
    EXPECT_EQ(lost.flushed, 1);
  } else {
    EXPECT_EQ(read(nullptr).reals()[0], real(1e300));
  }
}

TEST(Safetensors, files_round_trip_in_every_weight_type) {
  const std::filesystem::path path =
      std::filesystem::path(testing::TempDir()) / ("whence_round_trip" + std::to_string(getpid()));
  const Tensor w =
      Tensor::of({2, 3}, {real(0.5), real(-1), real(2), real(0), real(-0.25), real(3)});
  for (StoredDtype d : {StoredDtype::f32, StoredDtype::f16, StoredDtype::bf16, StoredDtype::f64}) {
    write_safetensors(path, {output_tensor("w", w, d)}, {{"k", "v"}});
    const SafetensorsFile f = SafetensorsFile::open(path);
    EXPECT_EQ(f.entries()[0].dtype, d);
    EXPECT_EQ(f.metadata().at("k"), "v");
    const Tensor back = f.read("w");
    EXPECT_EQ(back.shape(), w.shape());
    EXPECT_TRUE(std::equal(back.reals().begin(), back.reals().end(), w.reals().begin()));
  }
  std::filesystem::remove(path);
  EXPECT_NE(message([&] { SafetensorsFile::open(path); }).find("no such file"), std::string::npos);
  EXPECT_NE(message([&] { SafetensorsFile::open(testing::TempDir()); }).find("a folder"),
            std::string::npos);
}

TEST(Safetensors, a_file_that_changed_is_not_read) {
  const std::filesystem::path path =
      std::filesystem::path(testing::TempDir()) / ("whence_changed" + std::to_string(getpid()));
  write_safetensors(path, {output_tensor("w", Tensor::of({2}, {1, 2}))});
  const SafetensorsFile f = SafetensorsFile::open(path);
  f.release();
  EXPECT_EQ(f.read("w").reals()[1], 2);
  f.release();
  write_safetensors(path, {output_tensor("w", Tensor::of({3}, {1, 2, 3}))});
  EXPECT_NE(message([&] { f.read("w"); }).find("its size changed from 72 to 76 bytes"),
            std::string::npos);
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace whence
