#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/ref/picture.h"
#include "tests/unit/io_cases.h"
#include "whence/picture.h"

namespace whence::test {
namespace {

Tensor tensor_of(const nlohmann::json& array) {
  std::vector<int64_t> sizes = array["shape"];
  std::vector<real> values;
  for (const auto& v : array["data"]) values.push_back(v.get<real>());
  return Tensor::of(Shape(sizes), values);
}

TEST(Heatmap, pictures_equal_the_reference) {
  const nlohmann::json vis = golden("io_interpreters.json")["vis"];
  const Image image{5, 5, vis["image"]["data"].get<Bytes>()};
  const Tensor map = tensor_of(vis["exp"]), small = tensor_of(vis["exp_small"]);
  const auto expected = [&](const char* name) { return vis[name]["data"].get<Bytes>(); };
  EXPECT_EQ(vis_grayscale(map), expected("grayscale"));
  EXPECT_EQ(vis_overlay_grayscale(image, map).rgb, expected("overlay_grayscale"));
  EXPECT_EQ(vis_heatmap(small, 5, 5).rgb, expected("heatmap"));
  EXPECT_EQ(vis_overlay_heatmap(image, small).rgb, expected("overlay_heatmap"));
  EXPECT_EQ(vis_overlay_threshold(image, expected("mask")).rgb, expected("overlay_threshold"));
}

TEST(Heatmap, all_colours) {
  for (int i = 0; i < 256; ++i) {
    const auto [r, g, b] = ref::jet_pieces(i);
    EXPECT_EQ(jet(uint8_t(i)), (std::array<uint8_t, 3>{uint8_t(r), uint8_t(g), uint8_t(b)})) << i;
  }
}

TEST(Heatmap, min_max_covers_zero_to_one) {
  bool flat = true;
  const Tensor x = min_max(Tensor::of(Shape{2, 2}, {-1, 3, 1, 0}), &flat);
  EXPECT_FALSE(flat);
  const std::vector<real> expected{0, 1, real(0.5), real(0.25)};
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), x.reals().begin()));
}

TEST(Heatmap, flat_maps_are_zeros_and_say_so) {
  bool flat = false;
  const Tensor map = Tensor::of(Shape{1, 3}, {2, 2, 2});
  const Tensor x = min_max(map, &flat);
  EXPECT_TRUE(flat);
  for (const real v : x.reals()) EXPECT_EQ(v, 0);
  EXPECT_EQ(vis_grayscale(map), Bytes(3));
  EXPECT_EQ(vis_heatmap(map, 4, 2).rgb, Bytes(24));
  const Image image{3, 1, Bytes(9, 100)};
  EXPECT_EQ(vis_overlay_heatmap(image, map).rgb, Bytes(9, 60));
}

TEST(Heatmap, extremes_do_not_overflow) {
  const real most = std::numeric_limits<real>::max();
  const Tensor map = Tensor::of(Shape{1, 3}, {-most, 0, most});
  const Tensor x = min_max(map);
  EXPECT_EQ(x.reals()[0], 0);
  EXPECT_EQ(x.reals()[1], real(0.5));
  EXPECT_EQ(x.reals()[2], 1);
  EXPECT_EQ(vis_grayscale(map).front(), 0);
  EXPECT_EQ(vis_grayscale(map).back(), 255);
}

TEST(Heatmap, maps_that_cannot_be_drawn_are_refused) {
  const real nan = std::numeric_limits<real>::quiet_NaN();
  const Image image{2, 1, Bytes(6)};
  const Preprocess::Region all{0, 0, 2, 1};
  const Thrown thrown = thrown_by([&] { overlay(image, Tensor::of(Shape{1, 2}, {1, nan}), all); });
  EXPECT_EQ(thrown.message, "a map with values that are not finite cannot be drawn");
  EXPECT_EQ(thrown.kind, ErrorKind::item);
  EXPECT_EQ(thrown_by([&] {
              overlay(image, Tensor::of(Shape{2}, {1, 2}), all);
            }).message,
            "a map of shape [2] cannot be drawn, [H, W] expected");
  EXPECT_EQ(thrown_by([&] {
              vis_overlay_grayscale(image, Tensor::of(Shape{2, 1}, {1, 2}));
            }).message,
            "a map of 1 x 2 does not fit an image of 2 x 1 pixels");
  EXPECT_EQ(thrown_by([&] { vis_overlay_threshold(image, Bytes(3)); }).message,
            "a mask of 3 values does not fit an image of 2 x 1 pixels");
  EXPECT_EQ(thrown_by([&] {
              overlay(image, Tensor::of(Shape{1, 1}, {1}), {5, 5, 2, 2});
            }).message,
            "the region 2 x 2 at 5, 5 lies outside an image of 2 x 1 pixels");
}

const OverlayStyle opaque{1, false};

TEST(Overlay, opaque_overlay_of_a_whole_image_is_the_heat_map) {
  const Image image = noise_image(15, 12, 4);
  const Tensor map = Tensor::of(Shape{2, 3}, {0, 1, 2, 5, 4, 3});
  const Image over = overlay(image, map, {0, 0, 15, 12}, opaque);
  const Image expected = vis_heatmap(map, 15, 12);
  ASSERT_EQ(over.rgb.size(), expected.rgb.size());
  // Two ways to the same position differ in the last bit, which may change a colour index by one.
  for (size_t i = 0; i < over.rgb.size(); ++i) ASSERT_NEAR(over.rgb[i], expected.rgb[i], 4) << i;
}

TEST(Overlay, opacity_mixes_and_rounds) {
  const Image image{2, 1, {10, 20, 30, 200, 100, 50}};
  const Tensor map = Tensor::of(Shape{1, 2}, {0, 1});
  const Image over = overlay(image, map, {0, 0, 2, 1}, {0.25, false});
  // jet(0) = (0, 0, 128), jet(255) = (128, 0, 0)
  EXPECT_EQ(over.rgb, (Bytes{8, 15, 55, 182, 75, 38}));
}

TEST(Overlay, what_the_model_did_not_see_is_dimmed) {
  const Image image{6, 4, Bytes(72, 200)};
  const Tensor map = Tensor::of(Shape{1, 2}, {0, 1});
  const Image over = overlay(image, map, {1, 0, 4, 4}, opaque);
  for (int y = 0; y < 4; ++y)
    for (int x = 0; x < 6; ++x) {
      const uint8_t* p = &over.rgb[size_t(y * 6 + x) * 3];
      if (x == 0 || x == 5) {
        EXPECT_EQ((Bytes{p[0], p[1], p[2]}), (Bytes{100, 100, 100}));
      } else if (x == 1) {
        EXPECT_EQ((Bytes{p[0], p[1], p[2]}), (Bytes{0, 0, 128}));
      } else if (x == 4) {
        EXPECT_EQ((Bytes{p[0], p[1], p[2]}), (Bytes{128, 0, 0}));
      }
    }
}

// A crop that was padded reaches beyond the image: the map is larger than what can be shown of it.
TEST(Overlay, region_beyond_the_image) {
  const Image image{2, 2, Bytes(12, 200)};
  const Tensor map = Tensor::of(Shape{1, 4}, {0, 1, 2, 3});
  const Image over = overlay(image, map, {-1, -1, 4, 4}, opaque);
  EXPECT_EQ((Bytes{over.rgb[0], over.rgb[1], over.rgb[2]}), (Bytes{0, 212, 255}));  // jet(85)
  EXPECT_EQ((Bytes{over.rgb[3], over.rgb[4], over.rgb[5]}), (Bytes{255, 212, 0}));  // jet(170)
}

TEST(Overlay, channels_are_summed_in_absolute_value) {
  const Image image = noise_image(4, 4, 5);
  const Tensor gradients = Tensor::of(Shape{3, 1, 2}, {1, -2, -1, 2, 0, -3});
  const Tensor sums = Tensor::of(Shape{1, 2}, {2, 7});
  const Preprocess::Region all{0, 0, 4, 4};
  EXPECT_EQ(overlay(image, gradients, all).rgb, overlay(image, sums, all).rgb);
}

TEST(Overlay, flat_maps_leave_the_image_as_it_is) {
  const Image image = noise_image(9, 7, 6);
  EXPECT_EQ(overlay(image, Tensor::of(Shape{1, 2}, {3, 3}), {0, 0, 9, 7}, {0.5, false}).rgb,
            image.rgb);
}

TEST(Overlay, legend_lies_below_and_runs_through_all_colours) {
  for (const int width : {1, 8, 33, 83, 84, 224, 500, 1600}) {
    SCOPED_TRACE(width);
    const Image image = noise_image(width, 20, 7);
    const Tensor map = Tensor::of(Shape{1, 2}, {real(-0.125), real(1234.5)});
    const Image bare = overlay(image, map, {0, 0, double(width), 20}, {0.5, false});
    const Image over = overlay(image, map, {0, 0, double(width), 20}, {0.5, true});
    EXPECT_EQ(over.width, width);
    EXPECT_GT(over.height, 20);
    ASSERT_EQ(over.rgb.size(), size_t(over.width) * size_t(over.height) * 3);
    EXPECT_TRUE(std::equal(bare.rgb.begin(), bare.rgb.end(), over.rgb.begin()));
    if (width < 33) continue;
    const auto holds = [&](const std::array<uint8_t, 3>& colour) {
      for (size_t i = bare.rgb.size(); i < over.rgb.size(); i += 3)
        if (std::equal(colour.begin(), colour.end(), &over.rgb[i])) return true;
      return false;
    };
    EXPECT_TRUE(holds(jet(0)));
    EXPECT_TRUE(holds(jet(255)));
    EXPECT_EQ(holds({32, 32, 36}), width >= 84);  // the ink of the labels
  }
}

}  // namespace
}  // namespace whence::test
