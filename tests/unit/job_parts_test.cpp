// Parts of a job that touch no file: targets, names of outputs, methods, classes.
#include <gtest/gtest.h>

#include "jobs/names.h"
#include "jobs/records.h"
#include "jobs/requests.h"
#include "jobs/targets.h"
#include "runtime/text.h"
#include "tests/unit/message_of.h"

namespace whence::jobs {
namespace {

using Names = std::vector<std::string>;

TEST(JobTargets, whole_names_come_before_parts_and_contrasts) {
  const Names labels{"tench, Tinca tinca", "fish-hook", "fish", "hook", "kite-hook", "7"};
  const auto read = [&](const char* text) {
    const NamedTarget t = read_target(text, labels);
    return t.key;
  };
  EXPECT_EQ(read("predicted"), "predicted");
  EXPECT_EQ(read("3"), "3");
  EXPECT_EQ(read("tench"), "0");
  EXPECT_EQ(read("TINCA"), "0");
  EXPECT_EQ(read("tinca tinca"), "0");
  EXPECT_EQ(read("7"), "5");          // a name, and no class has that index
  EXPECT_EQ(read("fish"), "2");       // whole name, although it is a part of another
  EXPECT_EQ(read("fish-hook"), "1");  // whole name, although it reads as a contrast
  EXPECT_EQ(read("hook-fish"), "3-2");
  EXPECT_EQ(read("2-kite"), "2-4");
  EXPECT_EQ(read("fish-hook-tench"), "1-0");  // cut at the only place that gives two classes
  EXPECT_EQ(usage_message([&] { read("-hook"); }).substr(0, 34),
            "--target -hook: this could be '1 f");
  EXPECT_EQ(usage_message([&] { read("6"); }),
            "--target 6: out of range, the model has classes 0 to 5");
  EXPECT_EQ(usage_message([&] { read("99999999999999999999"); }),
            "--target 99999999999999999999: out of range, the model has classes 0 to 5");
  EXPECT_EQ(usage_message([&] { read(""); }).substr(0, 24), "--target : no such class");
}

TEST(JobTargets, words_are_never_cut) {
  const Names labels{"tabby, tabby cat", "catamaran",   "cattle",
                     "Siamese cat",      "caf\xC3\xA9", "tiger"};
  const auto key = [&](const char* text) { return read_target(text, labels).key; };
  const auto refusal = [&](const char* text) {
    return usage_message([&] { read_target(text, labels); });
  };
  EXPECT_EQ(key("tabby"), "0");
  EXPECT_EQ(key("siamese"), "3");
  EXPECT_EQ(key("tabby cat"), "0");
  EXPECT_EQ(refusal("cat"), "--target cat: this could be '0 tabby, tabby cat', '3 Siamese cat'");
  for (const char* part : {"tab", "attle", "amaran", "iames", "caf", "cat c"})
    EXPECT_EQ(refusal(part).find(std::string("--target ") + part + ": no such class"), 0u) << part;
}

TEST(JobTargets, a_name_that_is_another_class_s_index_is_refused) {
  const Names labels{"2", "1", "0", "9"};
  const auto refusal = [&](const char* text) {
    return usage_message([&] { read_target(text, labels); });
  };
  EXPECT_EQ(refusal("0"), "--target 0: this could be '0 2', '2 0'");
  EXPECT_EQ(read_target("1", labels).key, "1");
  EXPECT_EQ(read_target("3", labels).key, "3");
  EXPECT_EQ(read_target("9", labels).key, "3");
  EXPECT_EQ(refusal("1-0").find("--target 1-0: "), 0u);
}

TEST(JobTargets, are_of_bounded_length) {
  EXPECT_EQ(usage_message([] {
              read_target(std::string(100'000, '-'), {"a", "b"});
            }),
            "--target " + std::string(40, '-') + "...: 100000 bytes, at most 4096 are expected");
}

TEST(JobTargets, an_ambiguous_contrast_is_refused) {
  const Names labels{"a", "b-c", "a-b", "c"};
  EXPECT_EQ(usage_message([&] { read_target("a-b-c", labels); }),
            "--target a-b-c: this could be the contrast 'a - b-c' or 'a-b - c'; use indices");
}

TEST(JobNames, grow_only_where_they_collide) {
  const auto names = [](std::vector<NamedFile> files) {
    Names flat;
    for (const auto& of : output_names(files)) flat.insert(flat.end(), of.begin(), of.end());
    return flat;
  };
  EXPECT_EQ(names({{"d/cat.jpg"}, {"dog.png"}}), (Names{"cat", "dog"}));
  EXPECT_EQ(names({{"cat.jpg"}, {"cat.png"}, {"dog.png"}}), (Names{"cat.jpg", "cat.png", "dog"}));
  EXPECT_EQ(names({{"a/x.png"}, {"b/x.png"}, {"b/x.jpg"}}), (Names{"a-x.png", "b-x.png", "x.jpg"}));
  EXPECT_EQ(names({{"x.npy", 2, true}, {"x.png"}}), (Names{"x-0000", "x-0001", "x"}));
  EXPECT_EQ(names({{"x.npy", 2, true}, {"x-0001.png"}}),
            (Names{"x.npy-0000", "x.npy-0001", "x-0001.png"}));
  EXPECT_EQ(names({{"a\nb.png"}, {"\xFF.png"}, {"caf\xC3\xA9.png"}}),
            (Names{"a%0Ab", "%FF", "caf\xC3\xA9"}));
  // A name that grew may meet one that did not.
  EXPECT_EQ(names({{"x.jpg"}, {"x.png"}, {"d/x.jpg.png"}}), (Names{"x.jpg", "x.png", "x.jpg.png"}));
  EXPECT_EQ(usage_message([&] {
              names({{"a/x.png"}, {"b/../a/x.png"}});
            }),
            "a/x.png and b/../a/x.png would both be written as a-x.png");
}

TEST(JobRequests, an_option_reaches_every_method_that_has_it) {
  const auto chosen = choose_methods({"tam", "integrated-gradients", "rollout"},
                                     {"steps=7", "start_layer=1", "baselines=zero=x"});
  EXPECT_EQ(chosen[0].given.at("steps"), "7");
  EXPECT_EQ(chosen[1].given.at("steps"), "7");
  EXPECT_EQ(chosen[2].given, (std::map<std::string, std::string>{{"start_layer", "1"}}));
  EXPECT_EQ(chosen[1].given.at("baselines"), "zero=x");
  EXPECT_EQ(chosen[1].options()["steps"], 7);
  EXPECT_EQ(chosen[0].options()["with_integral"], true);
  EXPECT_EQ(chosen[0].options()["gradient_of"], "probability");
}

TEST(JobRequests, a_layer_is_for_methods_that_take_one) {
  const auto chosen = choose_methods({"grad-cam", "layer-activation"}, {}, "norm");
  EXPECT_EQ(chosen[1].layer, "norm");
  EXPECT_EQ(chosen[1].options()["layer"], "norm");
  EXPECT_EQ(choose_methods({"grad-cam"}, {})[0].options()["layer"], "auto");
  EXPECT_FALSE(choose_methods({"tam"}, {})[0].options().contains("layer"));
  EXPECT_NE(usage_message([&] {
              choose_methods({"grad-cam", "tam"}, {}, "norm");
            }).find("method tam takes no layer"),
            std::string::npos);
}

TEST(JobRecords, top_classes_in_order_with_ties_by_index) {
  const std::vector<real> logits{1, 3, 3, -2};
  const auto top = top_classes(logits, Outputs::single_label, 3);
  ASSERT_EQ(top.size(), 3u);
  EXPECT_EQ(top[0].index, 1);
  EXPECT_EQ(top[1].index, 2);
  EXPECT_EQ(top[2].index, 0);
  // exp(3) / (exp(1) + 2 exp(3) + exp(-2))
  EXPECT_NEAR(*top[0].probability, 20.085536923 / (2.718281828 + 2 * 20.085536923 + 0.135335283),
              1e-9);
  EXPECT_EQ(top_classes(logits, Outputs::single_label, 100).size(), 4u);
  const auto own = top_classes(logits, Outputs::multi_label, 3);
  EXPECT_EQ(own[2].index, 0);
  EXPECT_NEAR(*own[2].probability, 1 / (1 + 0.36787944117), 1e-9);
  const auto values = top_classes(logits, Outputs::values, 2);
  EXPECT_EQ(values[1].index, 2);
  EXPECT_EQ(values[1].logit, 3);
  EXPECT_FALSE(values[1].probability);
}

TEST(Text, shortest_reads_back) {
  EXPECT_EQ(shortest(real(0.1f)) == 0.1 || sizeof(real) == 8, true);
  for (const real x : {real(0.41845423), real(1) / 3, real(1e-20), real(-7)})
    EXPECT_EQ(real(shortest(x)), x);
}

TEST(Text, bytes_become_utf8) {
  EXPECT_EQ(to_utf8("\xC3\xA9\xC3(\x7F\xED\xA0\x80"), "\xC3\xA9%C3(%7F%ED%A0%80");
}

}  // namespace
}  // namespace whence::jobs
