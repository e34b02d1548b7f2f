// Pictures of attributions: colours for maps, and maps laid over their images.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "whence/device.h"
#include "whence/image.h"

namespace whence {

// JET colours of an index 0..255 (the classical table).
std::array<uint8_t, 3> jet(uint8_t index);
// Min-max to [0, 1]; a flat map becomes zeros and sets *flat when given.
Tensor min_max(const Tensor& map, bool* flat = nullptr);

struct OverlayStyle {
  double opacity = 0.5;
  bool legend = true;  // a colour bar below
};
// [H, W] map drawn over the part of `image` that it explains. `map` of rank 3 is summed over its
// first axis in absolute value (input gradients). What the map does not explain is dimmed.
Image overlay(const Image& image, const Tensor& map, const Preprocess::Region& region,
              const OverlayStyle& style = {});

// The same for many maps at a time, in two launches. The bytes do not depend on the device, nor on
// what else is drawn; where the device has no memory left, the CPU draws. Keeps memory between
// calls, which are one at a time.
class Painter {
 public:
  explicit Painter(Device device = {}, int threads = 0);  // of the CPU; 0 as Explainer::Settings
  Painter(Painter&&) noexcept;
  Painter& operator=(Painter&&) noexcept;
  ~Painter();
  struct Drawing {
    const Image* image;  // maps may share one
    const Tensor* map;
    Preprocess::Region region;
  };
  std::vector<Image> overlay(std::span<const Drawing> drawings, const OverlayStyle& style = {});

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The pictures of InterpretDL's explanation_to_vis for a [H, W] map at the image's size (heatmap:
// any size). A flat map gives an all-zero layer.
std::vector<uint8_t> vis_grayscale(const Tensor& map);
Image vis_overlay_grayscale(const Image& image, const Tensor& map);
Image vis_heatmap(const Tensor& map, int width, int height);
Image vis_overlay_heatmap(const Image& image, const Tensor& map);
Image vis_overlay_threshold(const Image& image, const std::vector<uint8_t>& mask);

}  // namespace whence
