// Scenes: pictures of one to three different things on cluttered ground, with the exact pixels of
// each. They are made, not stored: the same seed and index give the same bytes on every platform.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "whence/image.h"

namespace whence::demo {

// Side in pixels of the scenes that the bundled models are about.
inline constexpr int usual_size = 96;

struct SceneOptions {
  int size = 64;  // side in pixels, 16 or more; the layout is the same at every size
  // The number of things is drawn evenly from this range; their classes differ.
  int min_objects = 1, max_objects = 2;
  // Given classes instead of drawn ones (then the range above is not used).
  std::vector<int> classes;
};

struct SceneObject {
  int label = 0;              // index into class_names()
  std::vector<uint8_t> mask;  // size * size, rows from the top: 1 where the thing shows
};

struct Scene {
  Image image;
  std::vector<SceneObject> objects;
};

const std::vector<std::string>& class_names();
// Throws usage for a size below 16, for object counts outside 1..3, and for repeated or unknown
// classes.
Scene make_scene(uint64_t seed, uint64_t index, const SceneOptions& options = {});

}  // namespace whence::demo
