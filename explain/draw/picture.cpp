// Colours for maps, and maps laid over their images.
#include "explain/draw/picture.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "explain/draw/legend.h"
#include "kernels/picture.h"
#include "runtime/check.h"
#include "runtime/stream.h"
#include "whence/picture.h"

namespace whence {

void check_plane(const Shape& plane) {
  if (plane.rank() != 2 || plane.count() == 0)
    fail_shape("a map of shape {} cannot be drawn, [H, W] expected", to_string(plane));
}
void fail_not_finite() {
  fail(ErrorCode::nonfinite, "a map with values that are not finite cannot be drawn");
}

std::array<uint8_t, 3> jet(uint8_t index) { return k::jet_colour(index); }

Tensor min_max(const Tensor& map, bool* flat) {
  const auto values = map.reals();
  Tensor out(Type{map.shape()});
  if (flat) *flat = true;
  if (values.empty()) return out;
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  const k::MapScale scale(*low, *high);
  if (scale.flat) return out;
  if (flat) *flat = false;
  std::ranges::transform(values, out.reals().begin(), scale);
  return out;
}

namespace {

// What the region covers of the image, in whole pixels, and at least one of them.
void set_box(k::Picture& p, const Preprocess::Region& region, const Image& image) {
  const auto within = [](double v, int most) {
    return int64_t(std::clamp(std::round(v), 0.0, double(most)));
  };
  p.left = within(region.left, image.width);
  p.top = within(region.top, image.height);
  p.right = within(region.left + region.width, image.width);
  p.bottom = within(region.top + region.height, image.height);
  if (!(region.width > 0 && region.height > 0) || p.left >= p.right || p.top >= p.bottom)
    fail_usage("the region {} x {} at {}, {} lies outside an image of {} x {} pixels", region.width,
               region.height, region.left, region.top, image.width, image.height);
  p.map_left = region.left;
  p.map_top = region.top;
  p.x_scale = double(p.map_width) / region.width;
  p.y_scale = double(p.map_height) / region.height;
}

// Everything but the memory.
k::Picture picture_of(const Painter::Drawing& drawing, const OverlayStyle& style) {
  const Shape& shape = drawing.map->shape();
  const Image& image = *drawing.image;
  k::Picture p;
  p.absolute = shape.rank() == 3;
  p.channels = p.absolute ? shape[0] : 1;
  check_plane(p.absolute ? Shape{shape[1], shape[2]} : shape);
  p.map_height = shape[-2];
  p.map_width = shape[-1];
  if (image.width < 1 || image.height < 1 ||
      image.rgb.size() != size_t(image.width) * size_t(image.height) * 3)
    fail_usage("an image of {} x {} pixels with {} bytes cannot be drawn on", image.width,
               image.height, image.rgb.size());
  p.height = image.height;
  p.width = image.width;
  set_box(p, drawing.region, image);
  p.opacity = std::clamp(style.opacity, 0.0, 1.0);
  return p;
}

// Parts of one stretch of memory, apart enough for every type.
class Parts {
 public:
  size_t take(size_t bytes) {
    const size_t at = bytes_;
    bytes_ += (bytes + 255) / 256 * 256;
    return at;
  }
  size_t bytes() const { return bytes_; }

 private:
  size_t bytes_ = 0;
};

}  // namespace

struct Painter::Impl {
  Device device;
  int threads;
  std::optional<Stream> stream;  // of the device
  std::shared_ptr<void> memory;  // likewise
  size_t bytes = 0;

  // What is drawn: the table with the host's memory for images and results, and the ranges.
  struct Job {
    std::span<const Drawing> drawings;
    std::vector<k::Picture> table;
    std::vector<Image> drawn;
    std::vector<real> ranges;
    int64_t most_pixels = 0;
    std::vector<k::Picture> on_device = {};  // the table with the device's memory
  };
  Job job_of(std::span<const Drawing> drawings, const OverlayStyle& style) const;
  void draw_on_host(Job& job) const;
  void draw_on_device(Job& job);
  void run_on_device(Job& job);
};

Painter::Impl::Job Painter::Impl::job_of(std::span<const Drawing> drawings,
                                         const OverlayStyle& style) const {
  Job job{drawings, {}, {}, std::vector<real>(2 * drawings.size()), 0};
  for (const Drawing& drawing : drawings) {
    job.table.push_back(picture_of(drawing, style));
    k::Picture& p = job.table.back();
    const Image& image = *drawing.image;
    job.drawn.push_back({image.width, image.height, std::vector<uint8_t>(image.rgb.size())});
    p.map = drawing.map->reals().data();
    p.image = image.rgb.data();
    p.drawn = job.drawn.back().rgb.data();
    p.range = &job.ranges[2 * (job.table.size() - 1)];
    job.most_pixels = std::max(job.most_pixels, p.height * p.width);
  }
  return job;
}

void Painter::Impl::draw_on_host(Job& job) const {
  std::vector<Tensor> planes;
  for (k::Picture& p : job.table) {
    planes.emplace_back(Type{{p.map_height, p.map_width}});
    p.plane = planes.back().reals().data();
  }
  cpu::Stream s{threads};
  k::scale_maps(s, job.table.data(), int64_t(job.table.size()));
  k::draw_maps(s, job.table.data(), int64_t(job.table.size()), job.most_pixels);
}

void Painter::Impl::draw_on_device(Job& job) {
  try {
    if (!stream) stream.emplace(make_stream(device, threads));
    return run_on_device(job);
  } catch (...) {
    // What is still queued names the job's memory.
    try {
      if (stream) wait(*stream);
    } catch (const Error&) {  // the one that is on its way tells more
    }
    stream.reset();
    memory.reset();
    bytes = 0;
    try {
      throw;
    } catch (const Error& error) {
      if (error.code() != ErrorCode::device_memory) throw;
    }
  }
  draw_on_host(job);
}

void Painter::Impl::run_on_device(Job& job) {
  const auto count = int64_t(job.table.size());
  Parts parts;
  const size_t table_at = parts.take(job.table.size() * sizeof(k::Picture));
  const size_t ranges_at = parts.take(job.ranges.size() * sizeof(real));
  struct Places {
    size_t plane, map, image, drawn;
  };
  std::vector<Places> places;
  std::map<const Image*, size_t> images;
  for (size_t i = 0; i < job.table.size(); ++i) {
    const k::Picture& p = job.table[i];
    const size_t cells = size_t(p.map_height * p.map_width), pixels = size_t(p.height * p.width);
    const auto [image, fresh] = images.try_emplace(job.drawings[i].image, 0);
    if (fresh) image->second = parts.take(3 * pixels);
    places.push_back({parts.take(cells * sizeof(real)),
                      parts.take(size_t(p.channels) * cells * sizeof(real)), image->second,
                      parts.take(3 * pixels)});
  }
  if (parts.bytes() > bytes) {
    memory.reset();
    bytes = 0;
    memory = allocate(*stream, parts.bytes());
    bytes = parts.bytes();
  }
  const auto at = [&](size_t offset) { return static_cast<char*>(memory.get()) + offset; };
  std::vector<k::Picture>& table = job.on_device;
  table = job.table;
  for (size_t i = 0; i < table.size(); ++i) {
    k::Picture& p = table[i];
    const size_t elements = size_t(p.channels * p.map_height * p.map_width);
    copy_in(*stream, at(places[i].map), p.map, elements * sizeof(real));
    p.map = reinterpret_cast<real*>(at(places[i].map));
    p.plane = reinterpret_cast<real*>(at(places[i].plane));
    p.range = reinterpret_cast<real*>(at(ranges_at)) + 2 * i;
    p.image = reinterpret_cast<uint8_t*>(at(places[i].image));
    p.drawn = reinterpret_cast<uint8_t*>(at(places[i].drawn));
  }
  for (const auto& [image, offset] : images)
    copy_in(*stream, at(offset), image->rgb.data(), image->rgb.size());
  copy_in(*stream, at(table_at), table.data(), table.size() * sizeof(k::Picture));
  const auto* pictures = reinterpret_cast<const k::Picture*>(at(table_at));
  on(*stream, [&](auto& q) {
    k::scale_maps(q, pictures, count);
    k::draw_maps(q, pictures, count, job.most_pixels);
  });
  for (size_t i = 0; i < table.size(); ++i)
    copy_out(*stream, job.drawn[i].rgb.data(), table[i].drawn, job.drawn[i].rgb.size());
  copy_out(*stream, job.ranges.data(), at(ranges_at), job.ranges.size() * sizeof(real));
  wait(*stream);
}

Painter::Painter(Device device, int threads)
    : impl_(std::make_unique<Impl>(
          Impl{device, threads > 0 ? threads : default_threads(), {}, {}, 0})) {}
Painter::Painter(Painter&&) noexcept = default;
Painter& Painter::operator=(Painter&&) noexcept = default;
Painter::~Painter() = default;

std::vector<Image> Painter::overlay(std::span<const Drawing> drawings, const OverlayStyle& style) {
  if (drawings.empty()) return {};
  Impl::Job job = impl_->job_of(drawings, style);
  if (impl_->device.kind == Device::cpu)
    impl_->draw_on_host(job);
  else
    impl_->draw_on_device(job);
  for (const real end : job.ranges)
    if (std::isnan(end)) fail_not_finite();
  for (size_t i = 0; style.legend && i < job.drawn.size(); ++i)
    append_legend(job.drawn[i], double(job.ranges[2 * i]), double(job.ranges[2 * i + 1]));
  return std::move(job.drawn);
}

Image overlay(const Image& image, const Tensor& map, const Preprocess::Region& region,
              const OverlayStyle& style) {
  const Painter::Drawing drawing{&image, &map, region};
  return std::move(Painter().overlay({&drawing, 1}, style)[0]);
}

}  // namespace whence
