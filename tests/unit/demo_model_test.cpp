// The bundled model names unseen scenes, and its explanations point at the thing that is explained.
// The whole table is printed by `whence-train-demo-vit --measure weights/demo-vit`.
#include <gtest/gtest.h>

#include <filesystem>

#include "demo/pointing.h"
#include "demo/train_vit.h"

namespace whence {
namespace {

const std::filesystem::path folder =
    std::filesystem::path(WHENCE_TEST_DATA) / ".." / "weights" / "demo-vit";
constexpr int64_t scenes = 30;

std::shared_ptr<const Model> demo_vit() {
  return std::make_shared<const Model>(load_model(folder));
}

TEST(DemoModel, names_unseen_scenes) {
  const demo::Accuracy accuracy = demo::measure_accuracy(*demo_vit(), scenes);
  EXPECT_GE(accuracy.single, 0.97);
  EXPECT_GE(accuracy.pairs, 0.9);
}

TEST(DemoModel, points_at_each_of_two_things_in_turn) {
  const auto model = demo_vit();
  EXPECT_GE(demo::measure_pointing(model, "generic-attention", {}, scenes).pairs, 0.9);
  EXPECT_GE(demo::measure_pointing(model, "tam", {}, scenes).pairs, 0.9);
}

TEST(DemoModel, is_small) {
  uintmax_t bytes = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) bytes += entry.file_size();
  EXPECT_LT(bytes, uintmax_t(4) << 20);
}

}  // namespace
}  // namespace whence
