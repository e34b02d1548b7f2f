#include <algorithm>

#include "cli/demo.h"

namespace whence::cli {
namespace {

constexpr int tile = 128, gap = 8, margin = 16, scene_gap = 20;
constexpr uint8_t paper = 251;

void paste(Image& sheet, const Image& picture, int left, int top) {
  const Image small = picture.width == tile && picture.height == tile
                          ? picture
                          : resize(picture, tile, tile, Resample::lanczos);
  for (int y = 0; y < tile; ++y)
    std::copy_n(&small.rgb[size_t(y) * tile * 3], size_t(tile) * 3,
                &sheet.rgb[(size_t(top + y) * size_t(sheet.width) + size_t(left)) * 3]);
}

}  // namespace

Image demo_gallery(const DemoReport& report) {
  int rows = 0;
  for (const DemoScene& scene : report.scenes) rows += int(scene.classes.size());
  const int columns = int(report.methods.size()) + 1;
  Image sheet;
  sheet.width = 2 * margin + columns * tile + (columns - 1) * gap;
  sheet.height = 2 * margin + rows * (tile + gap) + int(report.scenes.size()) * (scene_gap - gap);
  sheet.rgb.assign(size_t(sheet.width) * size_t(sheet.height) * 3, paper);
  int top = margin;
  for (const DemoScene& scene : report.scenes) {
    for (const DemoClass& one : scene.classes) {
      paste(sheet, scene.picture, margin, top);
      for (size_t m = 0; m < one.overlays.size(); ++m)
        paste(sheet, one.overlays[m], margin + int(m + 1) * (tile + gap), top);
      top += tile + gap;
    }
    top += scene_gap - gap;
  }
  return sheet;
}

}  // namespace whence::cli
