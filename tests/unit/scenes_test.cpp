// Scenes of the demonstration models: same bytes everywhere, masks that are true.
#include "demo/scenes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "demo/stream.h"
#include "whence/error.h"

namespace whence::demo {
namespace {

SceneOptions showing(std::vector<int> classes, int size = 64) {
  SceneOptions options;
  options.size = size;
  options.classes = std::move(classes);
  return options;
}

// FNV-1a.
uint64_t digest(const std::vector<uint8_t>& bytes, uint64_t hash = 0xcbf29ce484222325u) {
  for (const uint8_t b : bytes) hash = (hash ^ b) * 0x100000001b3u;
  return hash;
}

int64_t area(const SceneObject& object) {
  return std::count(object.mask.begin(), object.mask.end(), uint8_t(1));
}

// The mask and every pixel that touches it.
std::vector<uint8_t> grown(const std::vector<uint8_t>& mask, int size) {
  std::vector<uint8_t> out(mask.size());
  for (int y = 0; y < size; ++y) {
    for (int x = 0; x < size; ++x) {
      for (int k = 0; k < 9; ++k) {
        const int nx = x + k % 3 - 1, ny = y + k / 3 - 1;
        if (nx < 0 || ny < 0 || nx >= size || ny >= size) continue;
        if (mask[size_t(ny * size + nx)]) out[size_t(y * size + x)] = 1;
      }
    }
  }
  return out;
}

TEST(Scenes, angle_functions_are_accurate) {
  for (int i = -500; i <= 500; ++i) {
    const double t = i * 0.00713;
    EXPECT_NEAR(sine(t), std::sin(t * 2 * M_PI), 1e-9) << t;
    EXPECT_NEAR(cosine(t), std::cos(t * 2 * M_PI), 1e-9) << t;
    const double x = std::cos(1.7 * i) * i, y = std::sin(1.1 * i) * i;
    EXPECT_NEAR(direction(x, y) * 2 * M_PI, std::atan2(y, x), 4e-6) << x << " " << y;
  }
  EXPECT_EQ(direction(0, 0), 0);
}

TEST(Scenes, are_the_same_bytes_on_every_platform) {
  uint64_t hash = digest({});
  for (uint64_t index : {0, 1, 2, 12345}) {
    SceneOptions options;
    options.size = 48;
    options.max_objects = 3;
    const Scene scene = make_scene(7, index, options);
    hash = digest(scene.image.rgb, hash);
    for (const SceneObject& o : scene.objects) hash = digest(o.mask, hash);
  }
  EXPECT_EQ(hash, 17317414370278331655u);
}

TEST(Scenes, do_not_depend_on_what_was_made_before) {
  const Scene first = make_scene(3, 41);
  make_scene(3, 42);
  const Scene again = make_scene(3, 41);
  EXPECT_EQ(first.image.rgb, again.image.rgb);
  EXPECT_NE(first.image.rgb, make_scene(3, 42).image.rgb);
  EXPECT_NE(first.image.rgb, make_scene(4, 41).image.rgb);
}

TEST(Scenes, draw_every_count_and_class_about_evenly) {
  SceneOptions options;
  options.size = 16;
  options.max_objects = 3;
  std::array<int, 3> counts{};
  std::array<int, 8> classes{};
  ASSERT_EQ(class_names().size(), classes.size());
  for (uint64_t i = 0; i < 600; ++i) {
    const Scene scene = make_scene(11, i, options);
    ASSERT_GE(scene.objects.size(), 1u);
    ASSERT_LE(scene.objects.size(), 3u);
    ++counts[scene.objects.size() - 1];
    std::set<int> labels;
    for (const SceneObject& o : scene.objects) {
      ASSERT_TRUE(labels.insert(o.label).second) << "class " << o.label << " twice in " << i;
      ++classes[size_t(o.label)];
    }
  }
  // 200 and 150 are expected; five standard deviations are below 60.
  for (const int n : counts) EXPECT_NEAR(n, 200, 60);
  for (const int n : classes) EXPECT_NEAR(n, 150, 60);
}

TEST(Scenes, masks_are_disjoint_and_of_a_sensible_size) {
  for (uint64_t i = 0; i < 60; ++i) {
    SceneOptions options;
    options.min_objects = options.max_objects = 1 + int(i % 3);
    const Scene scene = make_scene(5, i, options);
    std::vector<int> owners(64 * 64);
    for (const SceneObject& o : scene.objects) {
      ASSERT_EQ(o.mask.size(), owners.size());
      EXPECT_GT(area(o), 64 * 64 / 60) << class_names()[size_t(o.label)] << " in " << i;
      EXPECT_LT(area(o), 64 * 64 / 2) << class_names()[size_t(o.label)] << " in " << i;
      for (size_t p = 0; p < owners.size(); ++p) owners[p] += o.mask[p];
    }
    EXPECT_LE(*std::max_element(owners.begin(), owners.end()), 1) << i;
  }
}

// Two scenes that differ in the class alone share their ground: what differs is the thing, and the
// mask has to say where that is.
TEST(Scenes, mask_is_where_the_thing_was_drawn) {
  const int size = 96;
  for (int label = 0; label < 8; ++label) {
    for (uint64_t i = 0; i < 3; ++i) {
      const Scene a = make_scene(9, i, showing({label}, size));
      const Scene b = make_scene(9, i, showing({(label + 1) % 8}, size));
      const auto near_a = grown(a.objects[0].mask, size), near_b = grown(b.objects[0].mask, size);
      int64_t inside = 0, changed = 0, stray = 0;
      for (size_t p = 0; p < near_a.size(); ++p) {
        const bool same =
            std::equal(&a.image.rgb[3 * p], &a.image.rgb[3 * p] + 3, &b.image.rgb[3 * p]);
        if (!near_a[p] && !near_b[p] && !same) ++stray;
        if (a.objects[0].mask[p]) {
          ++inside;
          changed += !same;
        }
      }
      // Thin ends may cover less than half of a pixel, and then belong to no mask.
      EXPECT_LT(stray, 12) << label;
      EXPECT_GT(double(changed), 0.8 * double(inside)) << label;
    }
  }
}

TEST(Scenes, layout_is_the_same_at_every_size) {
  for (uint64_t i = 0; i < 8; ++i) {
    const int label = int(i);
    const Scene small = make_scene(2, i, showing({label, (label + 3) % 8}, 64));
    const Scene large = make_scene(2, i, showing({label, (label + 3) % 8}, 192));
    for (size_t k = 0; k < 2; ++k) {
      // The pixel in the middle of each block of nine; outlines are one pixel wide.
      int64_t differ = 0;
      for (int y = 0; y < 64; ++y) {
        for (int x = 0; x < 64; ++x) {
          const size_t fine = size_t((3 * y + 1) * 192 + 3 * x + 1);
          differ += small.objects[k].mask[size_t(y * 64 + x)] != large.objects[k].mask[fine];
        }
      }
      EXPECT_LT(differ, 80) << class_names()[size_t(small.objects[k].label)];
    }
  }
}

TEST(Scenes, refuse_options_that_make_no_sense) {
  const auto message = [](const SceneOptions& options) {
    try {
      make_scene(0, 0, options);
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::usage);
      return std::string(e.what());
    }
    return std::string("no error");
  };
  EXPECT_NE(message(showing({0}, 15)).find("15 pixels"), std::string::npos);
  EXPECT_NE(message(showing({0, 1, 2, 3})).find("not 4 to 4"), std::string::npos);
  EXPECT_NE(message(showing({2, 2})).find("; 2 is not"), std::string::npos);
  EXPECT_NE(message(showing({8})).find("; 8 is not"), std::string::npos);
  EXPECT_NE(message(showing({-1})).find("; -1 is not"), std::string::npos);
  SceneOptions none;
  none.min_objects = 0;
  EXPECT_NE(message(none).find("not 0 to 2"), std::string::npos);
}

}  // namespace
}  // namespace whence::demo
