#include <cmath>

#include "models/companions.h"
#include "runtime/check.h"

namespace whence {
namespace {

constexpr int64_t max_side = 16384;

template <class... A>
[[noreturn]] void unsupported(fmt::format_string<A...> text, A&&... a) {
  fail(ErrorCode::unsupported, text, std::forward<A>(a)...);
}

Triple triple(const JsonObject& config, const char* key, Triple otherwise, double low) {
  const Json* v = config.find(key);
  if (!v) return otherwise;
  if (v->is_number()) {
    const double x = *config.number(key, low, 1e6);
    return {x, x, x};
  }
  if (!v->is_array() || v->size() != 3)
    fail(ErrorCode::format, "{}: '{}' must be a list of 3 numbers", config.file(),
         config.name(key));
  Triple t;
  for (size_t i = 0; i < 3; ++i)
    t[i] = json_number((*v)[i], config.file(), config.name(key), low, 1e6);
  return t;
}

Triple mean_of(const JsonObject& c, const char* key, Triple otherwise) {
  return triple(c, key, otherwise, -1e6);
}
Triple std_of(const JsonObject& c, const char* key, Triple otherwise) {
  return triple(c, key, otherwise, 1e-6);
}

// Pillow's numbers for its filters.
Resample filter_of(const JsonObject& config, int64_t otherwise) {
  constexpr Resample by_number[] = {Resample::nearest, Resample::lanczos, Resample::bilinear,
                                    Resample::bicubic, Resample::box,     Resample::hamming};
  return by_number[config.integer("resample", 0, 5).value_or(otherwise)];
}

// The conventions that differ between the processors.
struct Convention {
  std::string_view name;
  int64_t filter;
  int64_t size;     // default of a missing size
  bool short_side;  // what a bare number means
  bool crops;       // whether it can crop, and does by default
  Triple mean, std;
};
constexpr Convention conventions[] = {
    {"ViT", 2, 224, false, false, half, half},
    {"DeiT", 3, 256, false, true, imagenet_mean, imagenet_std},
    {"CLIP", 3, 224, true, true, clip_mean, clip_std},
    {"Bit", 3, 224, true, true, clip_mean, clip_std},
    {"ConvNext", 3, 384, true, false, imagenet_mean, imagenet_std},
};

const Convention& convention_of(const JsonObject& config) {
  auto type = config.text("image_processor_type");
  if (!type) type = config.text("feature_extractor_type");
  if (!type) return conventions[0];
  std::string_view base = *type;
  if (base.ends_with("Fast")) base.remove_suffix(4);
  for (std::string_view suffix : {"ImageProcessor", "FeatureExtractor"})
    if (base.ends_with(suffix)) base.remove_suffix(suffix.size());
  for (const Convention& c : conventions)
    if (c.name == base) return c;
  unsupported("{}: image processor '{}' is not supported (ViT, DeiT, CLIP, Bit, ConvNext)",
              config.file(), printable(*type));
}

// A size is a number, {"height", "width"} or {"shortest_edge"}.
struct StatedSize {
  ImageSize size;
  bool short_side;
};
StatedSize stated_size(const JsonObject& config, const char* key, int64_t otherwise,
                       bool number_is_short_side) {
  const Json* v = config.find(key);
  if (!v) return {{otherwise, otherwise}, number_is_short_side};
  if (!v->is_object()) {
    const int64_t n = *config.integer(key, 1, max_side);
    return {{n, n}, number_is_short_side};
  }
  const JsonObject size = *config.object(key);
  if (const auto edge = size.integer("shortest_edge", 1, max_side)) {
    if (size.has("longest_edge"))
      unsupported("{}: '{}' is not supported together with shortest_edge", config.file(),
                  size.name("longest_edge"));
    return {{*edge, *edge}, true};
  }
  const auto height = size.integer("height", 1, max_side),
             width = size.integer("width", 1, max_side);
  if (!height || !width)
    unsupported("{}: '{}' must be a number, or have height and width, or shortest_edge",
                config.file(), config.name(key));
  return {{*height, *width}, false};
}

// Below 384 pixels the ConvNeXt processor resizes to more than it keeps; from 384 on it does not
// crop.
void convnext_sizes(const JsonObject& config, ImageSize size, Preprocess& p) {
  p.crop = false;
  if (size.height >= 384) return set_resize(p, Preprocess::Fit::exact, size);
  const double kept = config.number("crop_pct", 0.01, 1).value_or(224.0 / 256.0);
  const int64_t side = enlarged(size.height, kept);
  set_resize(p, Preprocess::Fit::short_side, {side, side});
  set_crop(p, size);
}

}  // namespace

void set_resize(Preprocess& p, Preprocess::Fit fit, ImageSize size) {
  p.fit = fit;
  p.resize_height = int(size.height);
  p.resize_width = int(size.width);
}
void set_crop(Preprocess& p, ImageSize size) {
  p.crop = true;
  p.crop_height = int(size.height);
  p.crop_width = int(size.width);
}

int64_t enlarged(int64_t side, double kept) { return int64_t(std::floor(double(side) / kept)); }

Preprocess preprocess_from_hugging_face(const JsonObject& config) {
  const Convention& c = convention_of(config);
  Preprocess p;
  p.crop_rounding = Preprocess::CropRounding::floor;
  p.filter = filter_of(config, c.filter);
  const StatedSize size = stated_size(config, "size", c.size, c.short_side);
  p.crop = false;
  if (!config.flag("do_resize").value_or(true)) {
    p.fit = Preprocess::Fit::none;
  } else if (c.name == "ConvNext") {
    convnext_sizes(config, size.size, p);
  } else {
    set_resize(p, size.short_side ? Preprocess::Fit::short_side : Preprocess::Fit::exact,
               size.size);
  }
  if (config.flag("do_center_crop").value_or(c.crops))
    set_crop(p, stated_size(config, "crop_size", 224, false).size);
  if (!config.flag("do_rescale").value_or(true))
    unsupported("{}: 'do_rescale' false is not supported", config.file());
  if (const auto factor = config.number("rescale_factor", 0, 1);
      factor && std::abs(*factor * 255 - 1) > 1e-6)
    unsupported("{}: 'rescale_factor' {} is not supported (1/255)", config.file(), *factor);
  p.mean = {0, 0, 0}, p.std = {1, 1, 1};
  if (config.flag("do_normalize").value_or(true)) {
    p.mean = mean_of(config, "image_mean", c.mean);
    p.std = std_of(config, "image_std", c.std);
  }
  return p;
}

Preprocess preprocess_from_timm(const JsonObject& config, ImageSize size) {
  Preprocess p;
  p.crop_rounding = Preprocess::CropRounding::half_even;
  const std::string filter = config.text("interpolation").value_or("bicubic");
  constexpr std::pair<std::string_view, Resample> filters[] = {
      {"nearest", Resample::nearest}, {"bilinear", Resample::bilinear},
      {"bicubic", Resample::bicubic}, {"lanczos", Resample::lanczos},
      {"box", Resample::box},         {"hamming", Resample::hamming}};
  const auto* found = std::find_if(std::begin(filters), std::end(filters),
                                   [&](const auto& f) { return f.first == filter; });
  if (found == std::end(filters))
    unsupported("{}: '{}' '{}' is not supported", config.file(), config.name("interpolation"),
                printable(filter));
  p.filter = found->second;
  const double kept = config.number("crop_pct", 0.01, 1).value_or(0.875);
  const std::string mode = config.text("crop_mode").value_or("center");
  const ImageSize larger{enlarged(size.height, kept), enlarged(size.width, kept)};
  if (mode == "squash") {
    set_resize(p, Preprocess::Fit::exact, larger);
  } else if (mode == "center") {
    if (size.height != size.width)
      unsupported("{}: '{}' center is not supported for an input of {} x {}", config.file(),
                  config.name("crop_mode"), size.height, size.width);
    set_resize(p, Preprocess::Fit::short_side, larger);
  } else {
    unsupported("{}: '{}' '{}' is not supported (center, squash)", config.file(),
                config.name("crop_mode"), printable(mode));
  }
  set_crop(p, size);
  p.mean = mean_of(config, "mean", imagenet_mean);
  p.std = std_of(config, "std", imagenet_std);
  return p;
}

std::optional<ImageSize> output_size(const Preprocess& p) {
  if (p.crop) return ImageSize{p.crop_height, p.crop_width};
  if (p.fit == Preprocess::Fit::exact) return ImageSize{p.resize_height, p.resize_width};
  return {};
}

Preprocess scaled(Preprocess p, ImageSize size) {
  const auto now = output_size(p);
  if (!now) return p;
  p.resize_height = int(p.resize_height * size.height / now->height);
  p.resize_width = int(p.resize_width * size.width / now->width);
  if (p.crop) set_crop(p, size);
  return p;
}

}  // namespace whence
