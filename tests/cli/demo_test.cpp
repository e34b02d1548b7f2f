// `whence demo`, with stand-ins for the bundled models beside a moved program.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/cli/program.h"
#include "whence/explain.h"
#include "whence/image.h"

namespace whence::cli_test {
namespace {

using nlohmann::json;

// bin/whence finds share/whence/demo-vit and share/whence/demo-resnet.
void install(const Workplace& place) {
  fs::create_directories(place / "bin");
  fs::copy_file(WHENCE_PROGRAM, place / "bin/whence");
  fs::create_directories(place / "share/whence");
  fs::copy(place / "model", place / "share/whence/demo-vit");
  const fs::path golden = fs::path(WHENCE_TEST_DATA) / "golden" / "cnn_resnet_hub";
  fs::copy(golden, place / "share/whence/demo-resnet");
  json config = json::parse(place.read("share/whence/demo-resnet/config.json"));
  config["image_size"] = 32;
  place.write("share/whence/demo-resnet/config.json", config.dump());
  place.write("share/whence/demo-vit/scenes/one.png", place.read("a.png"));
  place.write("share/whence/demo-vit/scenes/two.jpg", place.read("b.jpg"));
  place.write("share/whence/demo-vit/scenes/scenes.json",
              R"({"scenes": [{"file": "one.png", "classes": [3]},
                             {"file": "two.jpg", "classes": ["6", 0]}]})");
}

size_t occurrences(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++n;
  return n;
}

TEST(CliDemo, writes_one_page_with_everything_in_it) {
  const Workplace place;
  install(place);
  const Finished done = place.run("bin/whence demo -o out --json");
  ASSERT_EQ(done.code, 0) << done.err;
  EXPECT_EQ(done.err, "");
  const json line = json::parse(done.out);
  EXPECT_EQ(line["page"], "out/demo/index.html");
  ASSERT_EQ(line["scenes"].size(), 2u);
  for (const char* name : {"demo-vit", "demo-resnet"})
    EXPECT_EQ(line["scenes"][1]["top"][name].size(), 4u) << name;
  const std::string page = place.read("out/demo/index.html");
  // Two scenes and, for each of three classes, a picture by every method that applies to a model.
  size_t maps[2] = {};
  size_t at[2] = {};
  for (const size_t m : {0, 1}) {
    const char* name = m == 0 ? "demo-vit" : "demo-resnet";
    const Model model = load_model(place / "share/whence" / name);
    for (const MethodInfo& method : methods()) maps[m] += applies(method, model);
    EXPECT_NE(page.find(model.architecture), std::string::npos) << name;
    EXPECT_EQ(occurrences(page, std::string("<h3 class=\"model\">") + name), 2u + 3u) << name;
    at[m] = page.find(std::string("<h3 class=\"model\">") + name + " <span>");
  }
  EXPECT_LT(maps[1], methods().size()) << "there are methods of transformers";
  EXPECT_EQ(occurrences(page, "src=\"data:image/png;base64,"), 2 + 3 * (maps[0] + maps[1]));
  EXPECT_EQ(occurrences(page.substr(at[0], at[1] - at[0]), "<figure>"), maps[0]);
  EXPECT_EQ(occurrences(page, "<img"), occurrences(page, "data:image/png"));
  for (const MethodInfo& method : methods())
    EXPECT_NE(page.find(method.id), std::string::npos) << method.id;
  EXPECT_EQ(page.find("://"), std::string::npos) << "the page must not need a network";
  const Image sheet = read_image(place / "out/demo/gallery.png");
  EXPECT_GT(sheet.width, 128 * int(1 + std::max(maps[0], maps[1])));
  EXPECT_GT(sheet.height, 128 * (3 + 3));
  const Finished table = place.run("bin/whence demo -o out");
  EXPECT_EQ(table.code, 0);
  EXPECT_NE(table.out.find("look at out/demo/index.html\n"), std::string::npos);
}

TEST(CliDemo, says_what_is_missing) {
  const Workplace place;
  install(place);
  fs::remove(place / "share/whence/demo-vit/scenes/two.jpg");
  const Finished scene = place.run("bin/whence demo");
  EXPECT_EQ(scene.code, 3);
  EXPECT_TRUE(scene.err.ends_with("share/whence/demo-vit/scenes/two.jpg: no such file\n"))
      << scene.err;
  place.write("share/whence/demo-vit/scenes/scenes.json", "{\"scenes\": [{\"file\": \"../x\"}]}");
  const Finished bad = place.run("bin/whence demo");
  EXPECT_EQ(bad.code, 3);
  EXPECT_TRUE(bad.err.ends_with("scenes.json: a scene lacks its 'file' or 'classes'\n")) << bad.err;
  EXPECT_FALSE(fs::exists(place / "whence-out"));
}

}  // namespace
}  // namespace whence::cli_test
