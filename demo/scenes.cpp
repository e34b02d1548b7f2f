#include "demo/scenes.h"

#include <algorithm>
#include <array>

#include "demo/objects.h"
#include "demo/stream.h"
#include "runtime/check.h"

namespace whence::demo {
namespace {

// Lengths and positions are in units of the picture's side until the moment of drawing.
struct Placed {
  Look look;
  double x = 0, y = 0, radius = 0, rotation = 0;
  bool mirrored = false;
};

class Canvas {
 public:
  explicit Canvas(int size) : size_(size), pixels_(size_t(size) * size_t(size)) {}
  int size() const { return size_; }
  Colour& at(int column, int row) { return pixels_[size_t(row) * size_t(size_) + size_t(column)]; }

  // Mixes `colour_at(x, y, colour)` in where it returns true, sampled four times per pixel, inside
  // the box around (cx, cy). `covered(column, row, share)` hears of every pixel that was touched.
  template <class ColourAt, class Covered>
  void draw(double cx, double cy, double reach, double opacity, ColourAt colour_at,
            Covered covered) {
    const int left = first_pixel(cx - reach), right = last_pixel(cx + reach);
    const int top = first_pixel(cy - reach), bottom = last_pixel(cy + reach);
    for (int row = top; row <= bottom; ++row) {
      for (int column = left; column <= right; ++column) {
        Colour sum, sample;
        int hits = 0;
        for (const auto& [dx, dy] : samples) {
          const double x = (column + dx) / size_, y = (row + dy) / size_;
          if (!colour_at(x, y, sample)) continue;
          sum = {sum.r + sample.r, sum.g + sample.g, sum.b + sample.b};
          ++hits;
        }
        if (hits == 0) continue;
        const double share = hits / double(samples.size());
        Colour& pixel = at(column, row);
        pixel = blend(pixel, (1.0 / hits) * sum, share * opacity);
        covered(column, row, share);
      }
    }
  }
  template <class ColourAt>
  void draw(double cx, double cy, double reach, double opacity, ColourAt colour_at) {
    draw(cx, cy, reach, opacity, colour_at, [](int, int, double) {});
  }

 private:
  // A square turned by 27 degrees: lines along either axis meet the samples one at a time.
  static constexpr std::array<std::array<double, 2>, 4> samples{
      {{0.125, 0.625}, {0.375, 0.125}, {0.625, 0.875}, {0.875, 0.375}}};
  int first_pixel(double x) const { return std::clamp(int(std::floor(x * size_)), 0, size_ - 1); }
  int last_pixel(double x) const { return first_pixel(x); }
  int size_;
  std::vector<Colour> pixels_;
};

// Smooth noise on the unit square: a lattice of `cells` x `cells` random values in [0, 1], blended
// with the smoothstep polynomial.
class Noise {
 public:
  Noise(int cells, Stream& stream) : cells_(cells) {
    for (int i = 0; i < (cells + 1) * (cells + 1); ++i) values_.push_back(stream.uniform());
  }
  double operator()(double x, double y) const {
    const int column = int(x * cells_), row = int(y * cells_);
    const double u = smooth(x * cells_ - column), v = smooth(y * cells_ - row);
    const double* top = &values_[size_t(row * (cells_ + 1) + column)];
    const double* bottom = top + cells_ + 1;
    const double above = top[0] + u * (top[1] - top[0]);
    const double below = bottom[0] + u * (bottom[1] - bottom[0]);
    return above + v * (below - above);
  }

 private:
  static double smooth(double t) { return t * t * (3 - 2 * t); }
  int cells_;
  std::vector<double> values_;
};

Colour random_colour(Stream& stream) {
  const double hue = stream.uniform(), saturation = stream.uniform(0.05, 0.75);
  return from_hsv(hue, saturation, stream.uniform(0.2, 0.95));
}

// Two colours in a pattern, overlaid with cloudy noise.
void draw_ground(Canvas& canvas, Stream& stream) {
  const Colour first = random_colour(stream), other = random_colour(stream);
  const Colour second = blend(other, first, stream.uniform(0.2, 0.6));
  const int pattern = stream.below(4);
  const double angle = stream.uniform(), frequency = stream.uniform(2, 9);
  const double phase = stream.uniform(), depth = stream.uniform(0.15, 0.4);
  const double cx = cosine(angle), cy = sine(angle), bend = stream.uniform(0, 0.12);
  const Noise coarse(4, stream), fine(11, stream);
  for (int row = 0; row < canvas.size(); ++row) {
    for (int column = 0; column < canvas.size(); ++column) {
      const double x = (column + 0.5) / canvas.size(), y = (row + 0.5) / canvas.size();
      const double cloud = 0.6 * coarse(x, y) + 0.4 * fine(x, y);
      const double along = cx * (x - 0.5) + cy * (y - 0.5);
      const double across = cx * (y - 0.5) - cy * (x - 0.5) + bend * (cloud - 0.5) * 2;
      double mixture = cloud;
      if (pattern == 1) mixture = along + 0.5;
      if (pattern == 2) mixture = 0.5 + 0.5 * sine(frequency * across + phase);
      if (pattern == 3) mixture = 1.4 * std::sqrt(along * along + across * across);
      const Colour base = blend(first, second, std::clamp(mixture, 0.0, 1.0));
      canvas.at(column, row) = (1 - depth + 2 * depth * cloud) * base;
    }
  }
}

// A line or an ellipse, plain, in a random colour: clutter that belongs to no class.
void draw_distractor(Canvas& canvas, Stream& stream) {
  const Colour colour = random_colour(stream);
  const double cx = stream.uniform(), cy = stream.uniform(), angle = stream.uniform();
  const double c = cosine(angle), s = sine(angle);
  const bool line = stream.chance(0.5);
  const double length = line ? stream.uniform(0.1, 0.45) : stream.uniform(0.02, 0.09);
  const double width = line ? stream.uniform(0.006, 0.018) : stream.uniform(0.02, 0.09);
  const double opacity = stream.uniform(0.5, 1);
  canvas.draw(cx, cy, std::max(length, width), opacity, [&](double x, double y, Colour& out) {
    const double u = (c * (x - cx) + s * (y - cy)) / length;
    const double v = (c * (y - cy) - s * (x - cx)) / width;
    out = colour;
    return line ? std::fabs(u) < 1 && std::fabs(v) < 1 : u * u + v * v < 1;
  });
}

std::vector<int> choose_classes(const SceneOptions& options, Stream& stream) {
  if (!options.classes.empty()) return options.classes;
  std::array<int, kind_count> order{};
  for (int i = 0; i < kind_count; ++i) order[size_t(i)] = i;
  const int count =
      options.min_objects + stream.below(options.max_objects - options.min_objects + 1);
  for (int i = 0; i < count; ++i) {
    std::swap(order[size_t(i)], order[size_t(i + stream.below(kind_count - i))]);
  }
  return {order.begin(), order.begin() + count};
}

// Radii and centres such that nothing leaves the picture by more than a tenth of its radius and no
// two circles overlap by more than a tenth. Crowded draws are repeated with smaller things.
std::vector<Placed> arrange(const std::vector<int>& labels, Stream& stream) {
  static constexpr std::array<std::array<double, 2>, 3> radii{
      {{0.20, 0.34}, {0.17, 0.27}, {0.15, 0.20}}};
  const auto [smallest, largest] = radii[labels.size() - 1];
  std::vector<Placed> things;
  for (double shrink = 1; things.size() < labels.size(); shrink *= 0.97) {
    things.clear();
    for (const int label : labels) {
      Placed p;
      p.look.kind = Kind(label);
      p.radius = shrink * stream.uniform(smallest, largest);
      p.x = stream.uniform(0.9 * p.radius, 1 - 0.9 * p.radius);
      p.y = stream.uniform(0.9 * p.radius, 1 - 0.9 * p.radius);
      const bool apart = std::all_of(things.begin(), things.end(), [&](const Placed& other) {
        const double dx = p.x - other.x, dy = p.y - other.y,
                     reach = 0.9 * (p.radius + other.radius);
        return dx * dx + dy * dy >= reach * reach;
      });
      if (apart) things.push_back(p);
    }
  }
  for (Placed& p : things) {
    p.look = random_look(p.look.kind, stream);
    p.rotation = random_rotation(p.look.kind, stream);
    p.mirrored = stream.chance(0.5);
  }
  return things;
}

// Draws the thing and takes the pixels that it covers by half or more from those drawn before it.
void draw_object(Canvas& canvas, const Placed& p, std::vector<SceneObject>& objects) {
  const size_t count = size_t(canvas.size()) * size_t(canvas.size());
  SceneObject object{int(p.look.kind), std::vector<uint8_t>(count)};
  const double c = cosine(p.rotation) / p.radius, s = sine(p.rotation) / p.radius;
  const auto colour_at = [&](double x, double y, Colour& colour) {
    const double u = c * (x - p.x) + s * (y - p.y), v = c * (y - p.y) - s * (x - p.x);
    return u * u + v * v < 1.21 && paint(p.look, p.mirrored ? -u : u, v, colour);
  };
  canvas.draw(p.x, p.y, 1.1 * p.radius, 1, colour_at, [&](int column, int row, double share) {
    if (share < 0.5) return;
    const size_t pixel = size_t(row) * size_t(canvas.size()) + size_t(column);
    for (SceneObject& below : objects) below.mask[pixel] = 0;
    object.mask[pixel] = 1;
  });
  objects.push_back(std::move(object));
}

// The camera: a gain for the whole picture, grain for each pixel, then 8 bits.
Image develop(Canvas& canvas, Stream& stream) {
  Image image{canvas.size(), canvas.size(), {}};
  const double gain = stream.uniform(0.8, 1.1), grain = stream.uniform(0.01, 0.05);
  for (int row = 0; row < canvas.size(); ++row) {
    for (int column = 0; column < canvas.size(); ++column) {
      const Colour pixel = gain * canvas.at(column, row);
      for (const double value : {pixel.r, pixel.g, pixel.b}) {
        const double noisy = value + grain * stream.uniform(-1, 1);
        image.rgb.push_back(uint8_t(std::clamp(noisy, 0.0, 1.0) * 255 + 0.5));
      }
    }
  }
  return image;
}

void check_options(const SceneOptions& options) {
  if (options.size < 16) {
    fail(ErrorCode::usage, "a scene of {} pixels is too small: 16 or more", options.size);
  }
  const bool drawn = options.classes.empty();
  const int least = drawn ? options.min_objects : int(options.classes.size());
  const int most = drawn ? options.max_objects : least;
  if (least < 1 || most > 3 || least > most) {
    fail(ErrorCode::usage, "a scene holds 1 to 3 objects, not {} to {}", least, most);
  }
  for (const int label : options.classes) {
    if (label < 0 || label >= kind_count ||
        std::count(options.classes.begin(), options.classes.end(), label) != 1) {
      fail(ErrorCode::usage, "the classes of a scene are different numbers from 0 to {}; {} is not",
           kind_count - 1, label);
    }
  }
}

}  // namespace

const std::vector<std::string>& class_names() { return kind_names(); }

Scene make_scene(uint64_t seed, uint64_t index, const SceneOptions& options) {
  check_options(options);
  Stream stream(seed, index);
  Canvas canvas(options.size);
  const std::vector<int> labels = choose_classes(options, stream);
  const std::vector<Placed> things = arrange(labels, stream);
  draw_ground(canvas, stream);
  for (int left = 4 + stream.below(7); left > 0; --left) draw_distractor(canvas, stream);
  Scene scene;
  for (const Placed& p : things) draw_object(canvas, p, scene.objects);
  scene.image = develop(canvas, stream);
  return scene;
}

}  // namespace whence::demo
