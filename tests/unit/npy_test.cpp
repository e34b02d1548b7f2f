#include "io/npy.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <limits>

#include "io/files.h"
#include "tests/unit/io_cases.h"

namespace whence::test {
namespace {

Bytes npy(const std::string& header, const Bytes& data, int version = 1) {
  Bytes out{0x93, 'N', 'U', 'M', 'P', 'Y', uint8_t(version), 0};
  append_le(out, header.size(), version == 1 ? 2 : 4);
  append(out, bytes_of(header));
  append(out, data);
  return out;
}
std::string header(const std::string& descr, const std::string& shape,
                   const std::string& order = "False") {
  return "{'descr': '" + descr + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }\n";
}

Bytes unhex(const std::string& text) {
  Bytes out;
  for (size_t i = 0; i + 1 < text.size(); i += 2)
    out.push_back(uint8_t(std::stoi(text.substr(i, 2), nullptr, 16)));
  return out;
}

// Every element type, byte order and axis order, written by NumPy itself.
TEST(Npy, reads_what_numpy_writes) {
  const nlohmann::json all = golden("io_npy.json");
  int files = 0;
  for (const nlohmann::json& row : all["files"]) {
    SCOPED_TRACE(row["dtype"].get<std::string>() + " " + row["order"].get<std::string>());
    const Tensor t = decode_npy(unhex(row["hex"]), "x.npy");
    ASSERT_EQ(t.shape(), (Shape{2, 3, 2}));
    const bool floating = row["dtype"].get<std::string>()[1] == 'f';
    ASSERT_EQ(t.type().dtype, floating ? dtype_of<real>() : dtype_of<int32_t>());
    for (size_t i = 0; i < 12; ++i) {
      const double value = floating ? double(t.reals()[i]) : double(t.ints()[i]);
      EXPECT_EQ(value, row["values"][i].get<double>()) << i;
    }
    ++files;
  }
  EXPECT_EQ(files, 30);
}

// Only where a caller asks for it.
TEST(Npy, keeps_bytes_and_64_bit_integers_as_they_are_stored) {
  const nlohmann::json all = golden("io_npy.json");
  int bytes = 0, longs = 0;
  for (const nlohmann::json& row : all["files"]) {
    const std::string dtype = row["dtype"];
    SCOPED_TRACE(dtype);
    const Tensor t = decode_npy(unhex(row["hex"]), "x.npy", NpyIntegers::as_stored);
    const bool byte = dtype.ends_with("u1"), wide = dtype.ends_with("i8");
    const Dtype others = dtype[1] == 'f' ? Dtype::floating : Dtype::i32;
    ASSERT_EQ(t.type().dtype, byte ? Dtype::u8 : wide ? Dtype::i64 : others);
    for (size_t i = 0; i < 12 && byte; ++i)
      EXPECT_EQ(t.values<uint8_t>()[i], row["values"][i].get<uint8_t>());
    for (size_t i = 0; i < 12 && wide; ++i)
      EXPECT_EQ(t.values<int64_t>()[i], row["values"][i].get<int64_t>());
    bytes += byte;
    longs += wide;
  }
  EXPECT_GT(bytes, 0);
  EXPECT_GT(longs, 0);
}

TEST(Npy, writes_bytes_and_64_bit_integers) {
  const std::array<uint8_t, 3> small{0, 7, 255};
  const std::array<int64_t, 2> wide{-1, int64_t{1} << 40};
  const auto text = [](const Bytes& file) { return std::string(file.begin(), file.end()); };
  const Bytes a = encode_npy(Tensor::of({3}, std::span<const uint8_t>(small)));
  EXPECT_NE(text(a).find("'descr': '|u1', 'fortran_order': False, 'shape': (3,)"),
            std::string::npos);
  EXPECT_EQ(a.size(), 128u + 3);
  const Tensor b = decode_npy(encode_npy(Tensor::of({2}, std::span<const int64_t>(wide))), "b.npy",
                              NpyIntegers::as_stored);
  EXPECT_EQ(b.values<int64_t>()[0], -1);
  EXPECT_EQ(b.values<int64_t>()[1], int64_t{1} << 40);
}

TEST(Npy, writes_byte_for_byte_what_numpy_writes) {
  const nlohmann::json all = golden("io_npy.json");
  for (const nlohmann::json& row : all["headers"]) {
    SCOPED_TRACE(row.dump());
    const std::vector<int64_t> sizes = row["shape"];
    const bool real_values = row["dtype"] == "<f4";
    const Bytes file = encode_npy(
        Tensor(Type{Shape(sizes), real_values ? dtype_of<real>() : dtype_of<int32_t>()}));
    EXPECT_EQ(file.size(), row["bytes"].get<size_t>());
    EXPECT_EQ(crc(file), row["crc"].get<uint32_t>());
  }
}

TEST(Npy, values_survive_a_round_trip) {
  const real nan = std::numeric_limits<real>::quiet_NaN(),
             infinity = std::numeric_limits<real>::infinity();
  const Tensor x =
      Tensor::of(Shape{2, 1, 3}, {real(0.1f), -0.0, infinity, nan, real(1e-45f), real(-3.4e38f)});
  const Tensor y = decode_npy(encode_npy(x), "x.npy");
  ASSERT_EQ(y.shape(), x.shape());
  for (size_t i = 0; i < 6; ++i) {
    if (std::isnan(x.reals()[i])) {
      EXPECT_TRUE(std::isnan(y.reals()[i]));
    } else {
      EXPECT_EQ(y.reals()[i], x.reals()[i]) << i;
      EXPECT_EQ(std::signbit(y.reals()[i]), std::signbit(x.reals()[i])) << i;
    }
  }
  const std::vector<int32_t> ids{101, -1, INT32_MAX, INT32_MIN};
  const Tensor z = decode_npy(encode_npy(Tensor::of(Shape{4}, ids)), "ids.npy");
  EXPECT_TRUE(std::equal(ids.begin(), ids.end(), z.ints().begin()));
}

TEST(Npy, files_are_read_by_path) {
  const std::filesystem::path path = std::filesystem::path(::testing::TempDir()) /
                                     ("whence_" + std::to_string(::getpid()) + ".npy");
  write_file_atomically(path, encode_npy(Tensor::of(Shape{2}, {1, real(-2.5)})));
  const Tensor x = read_npy(path);
  EXPECT_EQ(x.shape(), (Shape{2}));
  EXPECT_EQ(x.reals()[1], real(-2.5));
  EXPECT_EQ(npy_type(path), x.type());
  write_file_atomically(path, "text");
  for (const auto& read : {+[](const std::filesystem::path& p) { read_npy(p); },
                           +[](const std::filesystem::path& p) { npy_type(p); }})
    EXPECT_EQ(thrown_by([&] { read(path); }).message, path.string() + ": not a NumPy array");
  std::filesystem::remove(path);
}

// Longer than a header can be, whole and cut off: the header alone says what the whole file says.
TEST(Npy, a_type_needs_no_values) {
  const std::filesystem::path path = std::filesystem::path(::testing::TempDir()) /
                                     ("whence_type_" + std::to_string(::getpid()) + ".npy");
  for (const auto& [file, type] :
       {std::pair(encode_npy(Tensor(Type{{3, 50, 40}})), Type{{3, 50, 40}}),
        std::pair(npy(header("<i8", "(2,3000)", "True"), Bytes(48'000)),
                  Type{{2, 3000}, dtype_of<int32_t>()}),
        std::pair(npy(header("<f8", "(1,)"), Bytes(8, 0x7F)), Type{{1}})}) {
    write_file_atomically(path, file);
    EXPECT_EQ(npy_type(path), type);
    write_file_atomically(path, std::span(file).first(file.size() - 1));
    EXPECT_EQ(thrown_by([&] { npy_type(path); }).message,
              thrown_by([&] { read_npy(path); }).message);
  }
  std::filesystem::remove(path);
}

TEST(Npy, halves_are_exact) {
  // 0x0001 smallest subnormal, 0x03FF largest subnormal, 0x7BFF largest, 0xFC00 minus infinity.
  const Tensor x =
      decode_npy(npy(header("<f2", "(4,)"), {1, 0, 0xFF, 3, 0xFF, 0x7B, 0, 0xFC}), "x");
  const std::vector<double> expected{std::ldexp(1, -24), std::ldexp(1023, -24), 65504, -HUGE_VAL};
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(double(x.reals()[i]), expected[i]);
  EXPECT_TRUE(std::isnan(decode_npy(npy(header("<f2", "()"), {1, 0x7E}), "x").reals()[0]));
}

TEST(Npy, other_spellings_of_the_header) {
  const Bytes data(8);
  const char* headers[] = {
      "{\"shape\":(2,),\"descr\":\"<f4\",\"fortran_order\":True}",
      "  {'fortran_order' : False , 'shape':( 2 , ),'descr':'<f4' , }   \n \n"};
  for (const char* text : headers)
    for (const int version : {1, 2, 3}) {
      EXPECT_EQ(decode_npy(npy(text, data, version), "x").shape(), (Shape{2})) << text;
    }
}

TEST(Npy, hostile_files) {
  const std::string big = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }";
  const struct {
    const char* name;
    Bytes file;
    ErrorCode code;
    const char* message;  // behind "bad.npy: "
  } cases[] = {
      {"empty", {}, ErrorCode::format, "not a NumPy array"},
      {"text", bytes_of("1 2 3 4 5 6 7 8 9"), ErrorCode::format, "not a NumPy array"},
      {"version 4", npy(header("<f4", "(1,)"), Bytes(4), 4), ErrorCode::unsupported,
       "NumPy format 4.0 is not read, 1.0 to 3.0 are"},
      {"version 2 cut off",
       {0x93, 'N', 'U', 'M', 'P', 'Y', 2, 0, 9, 0},
       ErrorCode::format,
       "NumPy header is cut off"},
      {"header over the end",
       {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, 118, 0, '{'},
       ErrorCode::format,
       "NumPy header claims 118 bytes but only 1 follow"},
      {"header of 4 gigabytes",
       {0x93, 'N', 'U', 'M', 'P', 'Y', 2, 0, 255, 255, 255, 255, '{'},
       ErrorCode::limit,
       "NumPy header of 4294967295 bytes is over the limit of 10000"},
      {"no dictionary", npy("[1, 2]", {}), ErrorCode::format,
       "NumPy header has not '{' at its byte 0"},
      {"no end", npy("{'descr': '<f4', ", {}), ErrorCode::format,
       "NumPy header has not a quoted name at its byte 17"},
      {"open quotation", npy("{'descr", {}), ErrorCode::format,
       "NumPy header has not a closed quotation at its byte 1"},
      {"something behind it", npy(big + "x", Bytes(4)), ErrorCode::format,
       "NumPy header has not the end at its byte 57"},
      {"unknown key", npy("{'evil\n': 1}", {}), ErrorCode::format,
       "NumPy header has the key 'evil\\x0A', or has it twice"},
      {"key twice", npy("{'shape': (), 'shape': ()}", {}), ErrorCode::format,
       "NumPy header has the key 'shape', or has it twice"},
      {"key missing", npy("{'descr': '<f4', 'shape': ()}", {}), ErrorCode::format,
       "NumPy header lacks 'fortran_order'"},
      {"order as a number", npy(header("<f4", "(1,)", "0"), Bytes(4)), ErrorCode::format,
       "NumPy header has not True or False at its byte 34"},
      {"shape without its comma", npy(header("<f4", "(1)"), Bytes(4)), ErrorCode::format,
       "NumPy header has not a comma after the only size at its byte 52"},
      {"negative size", npy(header("<f4", "(-1,)"), Bytes(4)), ErrorCode::format,
       "NumPy header has not a size at its byte 51"},
      {"size that is a sum", npy(header("<f4", "(1+1,)"), Bytes(8)), ErrorCode::format,
       "NumPy header has not a comma after the only size at its byte 52"},
      {"size over 63 bits", npy(header("<f4", "(9223372036854775808,)"), {}), ErrorCode::format,
       "NumPy header has not a size at its byte 51"},
      {"sizes whose product wraps", npy(header("<f4", "(4294967296, 4294967296)"), {}),
       ErrorCode::format, "shape [4294967296, 4294967296] is too large to exist"},
      {"sizes whose product wraps before a zero",
       npy(header("<f4", "(4294967296, 4294967296, 0)"), {}), ErrorCode::format,
       "shape [4294967296, 4294967296, 0] is too large to exist"},
      {"a terabyte", npy(header("<f8", "(1000000, 131072)"), Bytes(16)), ErrorCode::format,
       "shape [1000000, 131072] of '<f8' needs 1048576000000 bytes but 16 follow"},
      {"one byte missing", npy(header("<f4", "(2, 3)"), Bytes(23)), ErrorCode::format,
       "shape [2, 3] of '<f4' needs 24 bytes but 23 follow"},
      {"one byte too many", npy(header("<f4", "(2, 3)"), Bytes(25)), ErrorCode::format,
       "shape [2, 3] of '<f4' needs 24 bytes but 25 follow"},
      {"six axes", npy(header("<f4", "(1, 1, 1, 1, 1, 1)"), Bytes(4)), ErrorCode::unsupported,
       "shape [1, 1, 1, 1, 1, 1] has 6 axes, at most 5 are read"},
      {"objects", npy(header("|O", "(1,)"), bytes_of("\x80\x04N.")), ErrorCode::unsupported,
       "an array of Python objects is not read; save it as numbers"},
      {"records",
       npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", Bytes(4)),
       ErrorCode::unsupported, "an array of records is not read; save each field as an array"},
      {"text elements", npy(header("<U3", "(1,)"), Bytes(12)), ErrorCode::unsupported,
       "elements of type '<U3' are not read (float16 to float64, int8 to int64, uint8 to uint64 "
       "and bool are)"},
      {"complex", npy(header("<c8", "(1,)"), Bytes(8)), ErrorCode::unsupported,
       "elements of type '<c8' are not read (float16 to float64, int8 to int64, uint8 to uint64 "
       "and bool are)"},
      {"floats without byte order", npy(header("|f4", "(1,)"), Bytes(4)), ErrorCode::unsupported,
       "elements of type '|f4' are not read (float16 to float64, int8 to int64, uint8 to uint64 "
       "and bool are)"},
      {"int64 over int32",
       npy(header("<i8", "(1, 2)"), {1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 128, 0, 0, 0, 0}),
       ErrorCode::format, "2147483648 at [0, 1] is beyond int32"},
      {"int64 below int32", npy(header("<i8", "()"), {255, 255, 255, 127, 255, 255, 255, 255}),
       ErrorCode::format, "-2147483649 at [] is beyond int32"},
      {"uint64 over int64", npy(header("<u8", "(1,)"), Bytes(8, 255)), ErrorCode::format,
       "18446744073709551615 at [0] is beyond int32"},
      {"uint32 over int32", npy(header(">u4", "(1,)"), {128, 0, 0, 0}), ErrorCode::format,
       "2147483648 at [0] is beyond int32"},
      {"boolean of 2", npy(header("|b1", "(2,)"), {1, 2}), ErrorCode::format,
       "2 at [1] is no boolean"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    const Thrown thrown = thrown_by([&] { decode_npy(c.file, "bad.npy"); });
    EXPECT_EQ(thrown.message, std::string("bad.npy: ") + c.message);
    EXPECT_EQ(thrown.code, c.code);
  }
}

TEST(Npy, narrowing_to_infinity_is_refused) {
  if (sizeof(real) == sizeof(double)) GTEST_SKIP() << "nothing is narrowed in this build";
  Bytes data;
  append_be(data, 0x7E37E43C8800759C, 8);  // 1e300
  EXPECT_EQ(thrown_by([&] { decode_npy(npy(header(">f8", "(1,)"), data), "x"); }).message,
            "x: 1e+300 at [0] is beyond float32");
}

TEST(Npy, values_that_are_not_finite_are_counted) {
  const real nan = std::numeric_limits<real>::quiet_NaN(),
             infinity = std::numeric_limits<real>::infinity();
  EXPECT_NO_THROW(check_finite(Tensor::of(Shape{2}, {1, 2}), "x"));
  const Thrown thrown = thrown_by([&] {
    check_finite(Tensor::of(Shape{2, 3}, {1, 2, 3, 4, nan, -infinity}), "cat.npy");
  });
  EXPECT_EQ(thrown.message, "cat.npy: 1 NaN and 1 infinite values, first at [1, 1]");
  EXPECT_EQ(thrown.kind, ErrorKind::item);
  EXPECT_EQ(thrown.code, ErrorCode::nonfinite);
}

TEST(Npy, every_truncation_is_refused) {
  const Bytes file = encode_npy(Tensor(Type{Shape{2, 3}}));
  for (size_t size = 0; size < file.size(); ++size)
    ASSERT_NE(thrown_by([&] { decode_npy(std::span(file).first(size), "x"); }).message,
              "nothing was thrown")
        << size;
}

}  // namespace
}  // namespace whence::test
