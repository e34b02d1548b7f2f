// The eight things that scenes are made of: shapes with a texture, drawn point by point.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "demo/stream.h"

namespace whence::demo {

struct Colour {
  double r = 0, g = 0, b = 0;  // 0..1
};
Colour operator*(double k, const Colour& c);
Colour blend(const Colour& a, const Colour& b, double share_of_b);
// Hue in turns (0 red, 1/3 green, 2/3 blue), saturation and value 0..1.
Colour from_hsv(double hue, double saturation, double value);

enum class Kind : int { ladybird, ball, kite, sunflower, starfish, butterfly, lifebuoy, fish };
inline constexpr int kind_count = 8;
const std::vector<std::string>& kind_names();

// What differs between two things of one kind.
struct Look {
  Kind kind = Kind::ladybird;
  std::array<Colour, 3> colours;
  double phase = 0;  // of the texture, 0..1
  int parts = 0;     // petals, segments, bands
};
Look random_look(Kind kind, Stream& stream);
// A rotation in turns that suits the kind: all the way round, or near upright.
double random_rotation(Kind kind, Stream& stream);

// Is the point inside the thing, and in what colour? The thing fills the unit disc, y points down.
bool paint(const Look& look, double x, double y, Colour& colour);

}  // namespace whence::demo
