// The bundled models name unseen scenes, and explanations point at the thing that is explained.
// The whole table is printed by `whence-train-demo --measure weights/demo-vit` (or demo-resnet).
#include <gtest/gtest.h>

#include <filesystem>

#include "demo/accuracy.h"
#include "demo/pointing.h"
#include "demo/train_resnet.h"
#include "demo/train_vit.h"
#include "whence/explain.h"

namespace whence {
namespace {

const std::filesystem::path weights = std::filesystem::path(WHENCE_TEST_DATA) / ".." / "weights";
constexpr int64_t scenes = 30;

std::shared_ptr<const Model> bundled(const char* name) {
  return std::make_shared<const Model>(load_model(weights / name));
}

class DemoModel : public testing::TestWithParam<const char*> {};

TEST_P(DemoModel, names_unseen_scenes) {
  const demo::Accuracy accuracy = demo::measure_accuracy(*bundled(GetParam()), scenes);
  EXPECT_GE(accuracy.single, 0.96);
  EXPECT_GE(accuracy.pairs, 0.9);
}

TEST_P(DemoModel, is_small) {
  uintmax_t bytes = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(weights / GetParam()))
    if (entry.is_regular_file()) bytes += entry.file_size();
  EXPECT_LT(bytes, uintmax_t(4) << 20);
}

TEST_P(DemoModel, knows_the_classes_of_scenes) {
  EXPECT_EQ(bundled(GetParam())->labels, demo::class_names());
}

INSTANTIATE_TEST_SUITE_P(Bundled, DemoModel, testing::Values("demo-vit", "demo-resnet"),
                         [](const auto& c) { return std::string(c.param).substr(5); });

TEST(DemoViT, points_at_each_of_two_things_in_turn) {
  const auto model = bundled("demo-vit");
  EXPECT_GE(demo::measure_pointing(model, "generic-attention", {}, scenes).pairs, 0.9);
  EXPECT_GE(demo::measure_pointing(model, "tam", {}, scenes).pairs, 0.9);
}

TEST(DemoResNet, points_at_each_of_two_things_in_turn) {
  const auto model = bundled("demo-resnet");
  EXPECT_GE(demo::measure_pointing(model, "input-x-gradient", {}, scenes).pairs, 0.75);
}

}  // namespace
}  // namespace whence
