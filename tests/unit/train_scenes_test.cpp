// What training shows to a model: pixels, and what is there and where.
#include <gtest/gtest.h>

#include <algorithm>

#include "demo/stream.h"
#include "demo/trainer.h"

namespace whence::demo {
namespace {

TEST(TrainScenes, pixels_are_centred_and_planar) {
  const Image image{2, 1, {0, 51, 255, 255, 102, 0}};
  std::vector<real> out(6);
  write_pixels(image, 0.5, out);
  const double expected[] = {-0.5, 0.5, -0.3, -0.1, 0.5, -0.5};
  for (size_t i = 0; i < 6; ++i) EXPECT_NEAR(out[i], expected[i], 1e-6) << i;
}

TEST(TrainScenes, targets_say_what_is_there_and_where) {
  SceneOptions options;
  options.size = 48;
  options.classes = {2, 6};
  const Scene scene = make_scene(1, 5, options);
  std::vector<real> target(8);
  write_target(scene, target);
  std::vector<real> patches(36 * 8);
  write_patch_targets(scene, 8, patches);
  double found[2] = {}, masked[2] = {};  // in patches
  for (size_t g = 0; g < 36; ++g) {
    double sum = 0;
    for (size_t k = 0; k < 8; ++k) sum += double(patches[g * 8 + k]);
    EXPECT_NEAR(sum, 1, 1e-6) << g;
    const double ground = double(patches[g * 8]);  // class 0 is not there
    found[0] += double(patches[g * 8 + 2]) - ground;
    found[1] += double(patches[g * 8 + 6]) - ground;
  }
  for (size_t k = 0; k < 2; ++k) {
    masked[k] = double(std::ranges::count(scene.objects[k].mask, uint8_t(1))) / 64;
    EXPECT_NEAR(found[k], masked[k], 1e-4) << k;
  }
  for (size_t k = 0; k < 8; ++k) {
    const double share = k == 2 ? masked[0] : k == 6 ? masked[1] : 0;
    EXPECT_NEAR(target[k], share / (masked[0] + masked[1]), 1e-6) << k;
  }
  // The patch under a pixel of the kite speaks for the kite.
  const auto at =
      std::ranges::find(scene.objects[0].mask, uint8_t(1)) - scene.objects[0].mask.begin();
  const size_t patch = size_t(at / 48 / 8 * 6 + at % 48 / 8);
  EXPECT_GT(patches[patch * 8 + 2], patches[patch * 8]);
}

TEST(TrainScenes, larger_models_see_them_enlarged_at_some_contrast) {
  TrainOptions options;
  options.scenes.size = 32;
  options.lowest_contrast = 0.5;
  constexpr int64_t count = 6, first = 3, side = 64, grid = 2;
  std::vector<real> images(count * 3 * side * side), targets(count * 8),
      patches(count * grid * grid * 8);
  write_scenes(options, side, grid, first, count, {images, targets, patches});
  int full = 0;
  for (size_t i = 0; i < count; ++i) {
    const Scene scene = make_scene(options.seed, first + i, options.scenes);
    std::vector<real> want(3 * side * side), target(8), patch(grid * grid * 8);
    write_pixels(resize(scene.image, side, side, Resample::bicubic), 1, want);
    write_target(scene, target);
    write_patch_targets(scene, 16, patch);
    EXPECT_TRUE(std::ranges::equal(target, std::span(targets).subspan(i * 8, 8))) << i;
    EXPECT_TRUE(std::ranges::equal(patch, std::span(patches).subspan(i * 32, 32))) << i;
    const std::span<const real> got = std::span(images).subspan(i * want.size(), want.size());
    const auto strongest =
        std::ranges::max_element(want, {}, [](real x) { return std::abs(double(x)); });
    const double contrast = double(got[size_t(strongest - want.begin())]) / double(*strongest);
    EXPECT_TRUE(contrast >= 0.5 && contrast <= 1.000001) << contrast;
    full += contrast > 0.999999;
    for (size_t p = 0; p < want.size(); ++p)
      ASSERT_NEAR(got[p], contrast * double(want[p]), 1e-6) << i << " " << p;
  }
  EXPECT_TRUE(full > 0 && full < count) << full;
}

}  // namespace
}  // namespace whence::demo
