#include "demo/sheet.h"

#include <algorithm>

#include "demo/scenes.h"

namespace whence::demo {
namespace {

constexpr int columns = 8, rows = 6, gap = 8;

// White where a mask ends: on its pixels that have a neighbour outside it.
void draw_outlines(Scene& scene) {
  const int size = scene.image.width;
  for (const SceneObject& object : scene.objects) {
    const auto outside = [&](int x, int y) {
      return x < 0 || y < 0 || x >= size || y >= size || !object.mask[size_t(y * size + x)];
    };
    for (int y = 0; y < size; ++y) {
      for (int x = 0; x < size; ++x) {
        const bool edge =
            outside(x - 1, y) || outside(x + 1, y) || outside(x, y - 1) || outside(x, y + 1);
        if (!outside(x, y) && edge) std::fill_n(&scene.image.rgb[size_t(y * size + x) * 3], 3, 255);
      }
    }
  }
}

Scene cell(uint64_t seed, int row, int column, int size) {
  SceneOptions options;
  options.size = size;
  const int shown = row == rows - 1 ? 2 : row;  // the last row repeats the first pairs
  if (shown < 2) {
    options.classes = {column};
  } else {
    options.min_objects = options.max_objects = shown < 4 ? 2 : 3;
  }
  Scene scene = make_scene(seed, uint64_t(shown * columns + column), options);
  if (row == rows - 1) draw_outlines(scene);
  return scene;
}

}  // namespace

Image contact_sheet(uint64_t seed, int size, int zoom) {
  const int step = size * zoom + gap;
  Image sheet{columns * step + gap, rows * step + gap, {}};
  sheet.rgb.assign(size_t(sheet.width) * size_t(sheet.height) * 3, 255);
  for (int row = 0; row < rows; ++row) {
    for (int column = 0; column < columns; ++column) {
      const Scene scene = cell(seed, row, column, size);
      for (int y = 0; y < size * zoom; ++y) {
        const int left = gap + column * step, top = gap + row * step;
        uint8_t* line = &sheet.rgb[(size_t(top + y) * size_t(sheet.width) + size_t(left)) * 3];
        for (int x = 0; x < size * zoom; ++x) {
          std::copy_n(&scene.image.rgb[size_t((y / zoom) * size + x / zoom) * 3], 3, line + 3 * x);
        }
      }
    }
  }
  return sheet;
}

}  // namespace whence::demo
