#include "io/json.h"

#include <gtest/gtest.h>

#include "whence/error.h"

namespace whence {
namespace {

std::string message(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::file);
    return e.what();
  }
  return "accepted";
}

TEST(Json, accepts_every_kind_of_value) {
  const Json j = parse_json(R"( {"a":[1,-2,2.5e-3,true,null,"\u00e9\n"],"b":{"a":{}}} )", "f");
  EXPECT_EQ(j["a"][0], 1);
  EXPECT_EQ(j["a"][1], -2);
  EXPECT_EQ(j["a"][2], 2.5e-3);
  EXPECT_EQ(j["a"][3], true);
  EXPECT_TRUE(j["a"][4].is_null());
  EXPECT_EQ(j["a"][5], "\xC3\xA9\n");
  EXPECT_TRUE(j["b"]["a"].is_object());
  EXPECT_EQ(parse_json("[[],[[]],{}]", "f").dump(), "[[],[[]],{}]");
  EXPECT_EQ(parse_json("7", "f"), 7);
}

struct Refused {
  std::string text, expected;
};

TEST(Json, says_what_is_wrong_and_where) {
  const std::string string_with_bad_byte = std::string("[\"a\xFF\"]");
  const Refused cases[] = {
      {"", "f: not valid JSON at byte 0: expected '[', '{', or a literal"},
      {"{", "f: not valid JSON at byte 1: expected string literal"},
      {"{\"a\":1", "f: not valid JSON at byte 6: expected '}'"},
      {"{\"a\":1 \"b\":2}", "f: not valid JSON at byte 9: expected '}'"},
      {"[1,2", "f: not valid JSON at byte 4: expected ']'"},
      {"[1,]", "f: not valid JSON at byte 3: expected '[', '{', or a literal"},
      {"{\"a\" 1}", "f: not valid JSON at byte 5: expected ':'"},
      {"[1] 2", "f: not valid JSON at byte 4: expected end of input"},
      {"[01]", "f: not valid JSON at byte 2: expected ']'"},
      {"[1e999]", "f: not valid JSON at byte 5: number is too large"},
      {"[+1]", "f: not valid JSON at byte 1: invalid literal"},
      {"[NaN]", "f: not valid JSON at byte 1: invalid literal"},
      {"['a']", "f: not valid JSON at byte 1: invalid literal"},
      {"[\"a\n\"]",
       "f: not valid JSON at byte 3: invalid string: control character U+000A (LF) "
       "must be escaped to \\u000A or \\n"},
      {"[\"abc", "f: not valid JSON at byte 5: invalid string: missing closing quote"},
      {string_with_bad_byte, "f: not valid JSON at byte 3: invalid string: ill-formed UTF-8 byte"},
      {"\xEF\xBB\xBF[]", "f: not valid JSON at byte 0: it begins with a byte order mark"},
      {std::string("[]\0[]", 5), "f: not valid JSON at byte 2: zero byte"},
      {R"({"a":1,"a":1})", "f: key 'a' occurs twice in one object"},
      {R"({"x":{"a\n":1,"a\n":2}})", "f: key 'a\\x0A' occurs twice in one object"},
  };
  for (const Refused& c : cases) {
    EXPECT_EQ(message([&] { parse_json(c.text, "f"); }), c.expected) << c.text;
  }
}

TEST(Json, the_same_key_in_different_objects_is_fine) {
  EXPECT_NO_THROW(parse_json(R"({"a":{"a":[{"a":1},{"a":2}]},"b":{"a":1}})", "f"));
}

TEST(Json, depth_and_size_are_bounded) {
  const auto nested = [](size_t n) { return std::string(n, '[') + std::string(n, ']'); };
  EXPECT_NO_THROW(parse_json(nested(64), "f"));
  EXPECT_EQ(message([&] { parse_json(nested(65), "f"); }),
            "f: JSON is nested deeper than 64 levels");
  EXPECT_EQ(message([&] { parse_json(std::string(1'000'000, '['), "f"); }),
            "f: JSON is nested deeper than 64 levels");
  EXPECT_EQ(message([&] { parse_json("[1,2,3]", "f", {.bytes = 6}); }),
            "f: 7 bytes, the limit is 6");
}

TEST(Json, typed_access_names_key_and_range) {
  const Json j = parse_json(
      R"({"n":12,"big":18446744073709551615,"half":0.5,"s":"x","t":true,"none":null,
          "o":{"n":-3},"l":[1]})",
      "c.json");
  const JsonObject o(j, "c.json");
  EXPECT_EQ(o.integer("n", 1, 12), 12);
  EXPECT_EQ(o.integer("absent", 1, 2), std::nullopt);
  EXPECT_EQ(o.integer("none", 1, 2), std::nullopt);
  EXPECT_EQ(o.number("n", 0, 100), 12.0);
  EXPECT_EQ(o.number("half", 0, 1), 0.5);
  EXPECT_EQ(o.flag("t"), true);
  EXPECT_EQ(o.text("s"), "x");
  EXPECT_EQ(o.object("o")->integer("n", -3, 0), -3);
  EXPECT_FALSE(o.object("absent"));
  EXPECT_EQ(message([&] { o.integer("n", 1, 11); }),
            "c.json: 'n' is 12, it must lie between 1 and 11");
  EXPECT_EQ(message([&] { o.integer("big", 0, std::numeric_limits<int64_t>::max()); }),
            "c.json: 'big' is 18446744073709551615, it must lie between 0 and 9223372036854775807");
  EXPECT_EQ(message([&] { o.integer("half", 0, 1); }),
            "c.json: 'half' is a fraction, a whole number is expected");
  EXPECT_EQ(message([&] { o.integer("s", 0, 1); }),
            "c.json: 's' is a string, a whole number is expected");
  EXPECT_EQ(message([&] { o.number("t", 0, 1); }),
            "c.json: 't' is true or false, a number is expected");
  EXPECT_EQ(message([&] { o.flag("n"); }),
            "c.json: 'n' is a whole number, true or false is expected");
  EXPECT_EQ(message([&] { o.text("l"); }), "c.json: 'l' is a list, a string is expected");
  EXPECT_EQ(message([&] { o.object("l"); }), "c.json: 'l' is a list, an object is expected");
  EXPECT_EQ(message([&] { o.object("o")->integer("n", 0, 5); }),
            "c.json: 'o.n' is -3, it must lie between 0 and 5");
  EXPECT_EQ(message([&] { JsonObject(j["l"], "c.json"); }),
            "c.json: an object is expected, found a list");
}

}  // namespace
}  // namespace whence
