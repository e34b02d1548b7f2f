// The parts of the program that need no process: numbers, sizes, text on terminals and pages.
#include <gtest/gtest.h>

#include "cli/options.h"
#include "cli/text.h"
#include "tests/unit/message_of.h"

namespace whence::cli {
namespace {

TEST(CliText, numbers_and_sizes) {
  EXPECT_EQ(whole_number("--n", "12", 0, 12), 12);
  for (const char* text : {"", " 1", "1 ", "+1", "1e3", "0x1", "13", "-1", "99999999999999999999"})
    EXPECT_NE(usage_message([&] { whole_number("--n", text, 0, 12); }), "accepted") << text;
  EXPECT_EQ(byte_count("--mem", "800"), 800u);
  EXPECT_EQ(byte_count("--mem", "3k"), 3072u);
  EXPECT_EQ(byte_count("--mem", "2G"), size_t(2) << 30);
  for (const char* text : {"", "G", "0", "-1K", "1.5G", "1KB", "99999999999G"})
    EXPECT_NE(usage_message([&] { byte_count("--mem", text); }), "accepted") << text;
}

TEST(CliText, columns_html_and_base64) {
  EXPECT_EQ(columns("\xC3\xA9t\xC3\xA9"), 3u);
  EXPECT_EQ(shortened("\xC3\xA9t\xC3\xA9s", 4), "\xC3\xA9t\xC3\xA9s");
  EXPECT_EQ(shortened("abcdefgh", 5), "abc..");
  EXPECT_EQ(html_escaped("<a b=\"&\">"), "&lt;a b=&quot;&amp;&quot;&gt;");
  const auto bytes = [](std::string_view s) { return std::vector<uint8_t>(s.begin(), s.end()); };
  EXPECT_EQ(base64(bytes("")), "");
  EXPECT_EQ(base64(bytes("f")), "Zg==");
  EXPECT_EQ(base64(bytes("fo")), "Zm8=");
  EXPECT_EQ(base64(bytes("foobar")), "Zm9vYmFy");
  EXPECT_EQ(base64(bytes("\xFF\xFE\xFD")), "//79");
}

TEST(CliOptions, shards_and_sizes) {
  EXPECT_EQ(read_shard("1/4").first, 0);
  EXPECT_EQ(read_shard("4/4").first, 3);
  for (const char* text : {"0/4", "5/4", "1", "1/", "/4", "1/2/3", "1/0"})
    EXPECT_NE(usage_message([&] { read_shard(text); }), "accepted") << text;
  EXPECT_EQ(read_image_size("224").width, 224);
  EXPECT_EQ(read_image_size("224x192").height, 224);
  EXPECT_EQ(read_image_size("224x192").width, 192);
}

}  // namespace
}  // namespace whence::cli
