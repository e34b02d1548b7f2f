#include "demo/objects.h"

#include <algorithm>

namespace whence::demo {
namespace {

const Colour white{0.97, 0.97, 0.94}, black{0.07, 0.06, 0.07};

double square(double x) { return x * x; }

// How far (x, y) is out of the ellipse around (cx, cy), turned by `turns`: 0 its centre, 1 its
// edge.
double ellipse(double x, double y, double cx, double cy, double rx, double ry, double turns = 0) {
  double dx = x - cx, dy = y - cy;
  if (turns != 0) {
    const double c = cosine(turns), s = sine(turns), t = c * dx + s * dy;
    dy = c * dy - s * dx;
    dx = t;
  }
  return std::sqrt(square(dx / rx) + square(dy / ry));
}

bool disc(double x, double y, double cx, double cy, double radius) {
  return square(x - cx) + square(y - cy) < square(radius);
}

// Distance to the segment from (ax, ay) to (bx, by).
double segment(double x, double y, double ax, double ay, double bx, double by) {
  const double ux = bx - ax, uy = by - ay;
  const double t =
      std::clamp(((x - ax) * ux + (y - ay) * uy) / (square(ux) + square(uy)), 0.0, 1.0);
  return std::sqrt(square(x - ax - t * ux) + square(y - ay - t * uy));
}

// Light from the upper left on something round, darker towards the edge.
Colour round_shade(const Colour& c, double x, double y, double edge) {
  const double light = 1.04 - 0.38 * square(square(edge));
  const double shine = std::max(0.0, 1 - (square(x + 0.33) + square(y + 0.38)) / 0.07);
  return blend(light * c, white, 0.55 * shine);
}

bool paint_ladybird(const Look& look, double x, double y, Colour& colour) {
  const double ax = std::fabs(x);
  const double body = ellipse(x, y, 0, 0.12, 0.77, 0.85);
  if (body < 1) {
    const bool spot = disc(ax, y, 0, -0.32, 0.17) || disc(ax, y, 0.40, -0.10, 0.15) ||
                      disc(ax, y, 0.45, 0.37, 0.15) || disc(ax, y, 0.19, 0.68, 0.13);
    const bool line = ax < 0.035 || body > 0.94;
    colour = round_shade(spot || line ? black : look.colours[0], x, y, body);
    return true;
  }
  colour = disc(ax, y, 0.20, -0.76, 0.10) ? white : black;
  if (disc(x, y, 0, -0.66, 0.34)) return true;
  const double legs =
      std::min({segment(ax, y, 0.5, -0.3, 0.93, -0.48), segment(ax, y, 0.6, 0.15, 0.99, 0.15),
                segment(ax, y, 0.5, 0.55, 0.88, 0.78)});
  return legs < 0.055;
}

bool paint_ball(const Look& look, double x, double y, Colour& colour) {
  const double edge = std::sqrt(x * x + y * y);
  if (edge >= 0.98) return false;
  // The seams meet off the centre, where a ball seen from the side shows its pole.
  const double px = x - 0.22, py = y - 0.26;
  const int part = int(std::floor((direction(px, py) + look.phase + 1) * 6)) % 6;
  colour = part % 2 ? white : look.colours[size_t(part / 2)];
  if (disc(px, py, 0, 0, 0.15)) colour = white;
  colour = round_shade(edge > 0.92 ? 0.55 * colour : colour, x, y, edge);
  return true;
}

bool paint_kite(const Look& look, double x, double y, Colour& colour) {
  const double ax = std::fabs(x);
  // Corners (0, -1), (0.72, -0.22), (0, 0.62).
  const double edge = y < -0.22 ? ax / 0.72 + (-0.22 - y) / 0.78 : ax / 0.72 + (y + 0.22) / 0.84;
  if (edge < 1) {
    const int cell = int(std::floor(x / 0.26 + 10.5)) + int(std::floor((y + 0.22) / 0.26 + 10.5));
    colour = cell % 2 ? look.colours[0] : look.colours[1];
    if (edge > 0.88) colour = 0.45 * look.colours[0];
    colour = (1.05 - 0.14 * (x > 0) - 0.1 * (y > -0.22)) * colour;
    return true;
  }
  const double sway = 0.13 * sine((y - 0.62) * 2.4);
  colour = 0.8 * look.colours[0];
  if (y > 0.55 && y < 0.99 && std::fabs(x - sway) < 0.045) return true;
  colour = look.colours[1];
  for (const double bow : {0.76, 0.95}) {
    const double bx = std::fabs(x - 0.13 * sine((bow - 0.62) * 2.4));
    if (bx < 0.19 && std::fabs(y - bow) < 0.02 + 0.45 * bx) return true;
  }
  return false;
}

bool paint_sunflower(const Look& look, double x, double y, Colour& colour) {
  const double r = std::sqrt(x * x + y * y);
  if (r >= 1) return false;
  const double angle = direction(x, y);
  if (r < 0.46) {
    // Seeds: a polar checkerboard, twisted so that its cells line up in spirals.
    const double twist = angle + 0.35 * r;
    const int cell = int(std::floor(twist * 14 + 28)) + int(std::floor(r * 9));
    colour = cell % 2 ? look.colours[1] : 0.45 * look.colours[1];
    if (r > 0.41) colour = 0.35 * look.colours[1];
    return true;
  }
  const double across = angle * look.parts + look.phase + 64;
  const double off = std::fabs(across - std::floor(across) - 0.5) * 2;  // 0 axis, 1 seam
  // Petals taper to their tips from 0.62 outwards.
  const double limit = r < 0.62 ? 1 : 1 - square((r - 0.62) / 0.38);
  if (off >= limit) return false;
  colour = blend(look.colours[0], look.colours[2], std::clamp((0.75 - r) * 2.5, 0.0, 1.0));
  if (off > 0.72 * limit || off < 0.1) colour = 0.72 * colour;
  return true;
}

bool paint_starfish(const Look& look, double x, double y, Colour& colour) {
  const double r = std::sqrt(x * x + y * y);
  if (r >= 1) return false;
  double angle = direction(x, y) * 5 + 10.25;
  angle = (angle - std::floor(angle + 0.5)) / 5;  // to the axis of the nearest arm
  const double along = r * cosine(angle), across = std::fabs(r * sine(angle));
  const double width = 0.37 - 0.27 * along;
  const double tip = std::sqrt(square(std::max(0.0, along - 0.85)) + square(across));
  const double edge = along < 0.85 ? across / width : tip / 0.14;
  if (edge >= 1) return false;
  colour = blend(look.colours[0], look.colours[1], 0.75 * (1 - edge));
  if (edge > 0.84) colour = 0.6 * look.colours[0];
  // Rows of warts on each axis, smaller towards the tip, and one in the middle.
  for (const double centre : {0.0, 0.27, 0.48, 0.66, 0.81}) {
    if (disc(along, across, centre, 0, 0.095 - 0.045 * centre)) colour = look.colours[2];
  }
  return true;
}

bool paint_butterfly(const Look& look, double x, double y, Colour& colour) {
  const double ax = std::fabs(x);
  colour = black;
  if (segment(ax, y, 0, -0.46, 0, 0.6) < 0.085) return true;
  const double upper = ellipse(ax, y, 0.50, -0.37, 0.57, 0.37, -0.12);
  const double lower = ellipse(ax, y, 0.40, 0.40, 0.47, 0.35, 0.14);
  const double edge = std::min(upper, lower);
  if (edge >= 1) return segment(ax, y, 0, -0.45, 0.2, -0.9) < 0.04;
  const bool on_upper = upper < lower;
  const Colour wing = look.colours[on_upper ? 0 : 1];
  const double ex = on_upper ? 0.56 : 0.44, ey = on_upper ? -0.42 : 0.44;
  colour = blend(wing, white, 0.35 * std::max(0.0, 1 - 2.2 * ax));
  if (edge > 0.76) {
    const double beads = (direction(ax - ex, y - ey) + 1) * 11;
    const double bead = std::fabs(beads - std::floor(beads) - 0.5);
    colour = edge > 0.82 && edge < 0.94 && bead < 0.24 ? white : 0.3 * look.colours[0];
  } else if (disc(ax, y, ex, ey, 0.10)) {
    colour = black;
  } else if (disc(ax, y, ex, ey, 0.19)) {
    colour = look.colours[2];
  }
  return true;
}

bool paint_lifebuoy(const Look& look, double x, double y, Colour& colour) {
  const double r = std::sqrt(x * x + y * y);
  const double across = std::fabs(r - 0.71) / 0.27;  // 0 ridge, 1 edge
  if (across >= 1) return false;
  const double turn = (direction(x, y) + look.phase + 1) * look.parts;
  const double share = turn - std::floor(turn);
  colour = share < 0.5 ? look.colours[0] : white;
  if (share > 0.46 && share < 0.54) colour = 0.5 * look.colours[0];
  const double light = 1.05 - 0.4 * square(square(across)) -
                       0.18 * (r > 0.71 ? across : -across) * (x + y > 0 ? 1 : -1);
  colour = light * colour;
  return true;
}

bool paint_fish(const Look& look, double x, double y, Colour& colour) {
  const double ay = std::fabs(y);
  const double body = ellipse(x, y, -0.16, 0, 0.81, 0.55);
  colour = 0.75 * look.colours[0];
  if (body >= 1) {
    const bool tail = x > 0.45 && x < 0.97 && ay < 0.10 + 0.75 * (x - 0.48) && x < 0.84 + 0.28 * ay;
    const bool back_fin = y < 0 && ellipse(x, y, 0.02, -0.42, 0.42, 0.33) < 1;
    const bool belly_fin = y > 0 && ellipse(x, y, 0.08, 0.5, 0.2, 0.26) < 1;
    if (tail && std::floor(ay * 9) == 2) colour = 0.55 * look.colours[0];
    return tail || back_fin || belly_fin;
  }
  // Bands bend with the body.
  const double along = (x + 0.16 + 0.25 * y * y) / 0.81;
  const double band = (along + 0.52) * look.parts / 1.5;
  const double share = band - std::floor(band);
  colour = look.colours[0];
  if (along > -0.55 && share < 0.42)
    colour = share < 0.08 || share > 0.34 ? black : look.colours[1];
  colour = (1.06 - 0.35 * square(square(body)) - 0.12 * (y > 0.2)) * colour;
  if (disc(x, y, -0.68, -0.12, 0.13)) colour = white;
  if (disc(x, y, -0.70, -0.12, 0.07)) colour = black;
  return true;
}

}  // namespace

Colour operator*(double k, const Colour& c) { return {k * c.r, k * c.g, k * c.b}; }

Colour blend(const Colour& a, const Colour& b, double t) {
  return {a.r + t * (b.r - a.r), a.g + t * (b.g - a.g), a.b + t * (b.b - a.b)};
}

Colour from_hsv(double hue, double saturation, double value) {
  const auto channel = [&](double shift) {
    const double h = (hue + shift - std::floor(hue + shift)) * 6;
    return value * (1 - saturation * std::clamp(std::min(h, 4 - h), 0.0, 1.0));
  };
  return {channel(5.0 / 6), channel(3.0 / 6), channel(1.0 / 6)};
}

const std::vector<std::string>& kind_names() {
  static const std::vector<std::string> names{"ladybird", "beach ball", "kite",     "sunflower",
                                              "starfish", "butterfly",  "lifebuoy", "fish"};
  return names;
}

Look random_look(Kind kind, Stream& stream) {
  Look look;
  look.kind = kind;
  look.phase = stream.uniform();
  const double hue = stream.uniform(), other = stream.uniform(), value = stream.uniform(0.82, 1.0);
  const double count = stream.uniform();  // every kind takes as many draws, used or not
  auto& [first, second, third] = look.colours;
  switch (kind) {
    case Kind::ladybird:
      first = from_hsv(0.11 * hue - 0.03, 0.92, value);
      break;
    case Kind::ball:
      first = from_hsv(hue, 0.88, value);
      second = from_hsv(hue + 0.2 + 0.2 * other, 0.85, value);
      third = from_hsv(hue + 0.55 + 0.2 * other, 0.85, value);
      break;
    case Kind::kite:
      first = from_hsv(hue, 0.9, 0.85 * value);
      second = from_hsv(hue + 0.35 + 0.3 * other, 0.45, 1.0);
      break;
    case Kind::sunflower:
      first = from_hsv(0.11 + 0.06 * hue, 0.92, value);
      second = from_hsv(0.05 + 0.05 * other, 0.75, 0.5);
      third = from_hsv(0.07 + 0.05 * hue, 0.95, value);
      look.parts = 11 + int(6 * count);
      break;
    case Kind::starfish:
      first = from_hsv(0.86 + 0.25 * hue, 0.8, 0.92 * value);
      second = from_hsv(0.88 + 0.25 * hue, 0.62, value);
      third = from_hsv(0.12, 0.2, 1.0);
      break;
    case Kind::butterfly:
      first = from_hsv(hue, 0.85, value);
      second = from_hsv(hue + 0.3 * other - 0.15, 0.7, value);
      third = from_hsv(hue + 0.4 + 0.2 * other, 0.7, 1.0);
      break;
    case Kind::lifebuoy:
      first = other < 0.6 ? from_hsv(0.06 * hue - 0.02, 0.9, value) : from_hsv(hue, 0.85, value);
      look.parts = 4;
      break;
    case Kind::fish:
      first = other < 0.5 ? from_hsv(0.03 + 0.1 * hue, 0.92, value) : from_hsv(hue, 0.8, value);
      second = blend(white, from_hsv(hue + 0.5, 0.4, 1.0), other);
      look.parts = 3 + int(2 * count);
      break;
  }
  return look;
}

double random_rotation(Kind kind, Stream& stream) {
  const double t = stream.uniform(-0.5, 0.5);
  const bool upright = kind == Kind::kite || kind == Kind::butterfly || kind == Kind::fish;
  return upright ? 0.3 * t : t;
}

bool paint(const Look& look, double x, double y, Colour& colour) {
  switch (look.kind) {
    case Kind::ladybird:
      return paint_ladybird(look, x, y, colour);
    case Kind::ball:
      return paint_ball(look, x, y, colour);
    case Kind::kite:
      return paint_kite(look, x, y, colour);
    case Kind::sunflower:
      return paint_sunflower(look, x, y, colour);
    case Kind::starfish:
      return paint_starfish(look, x, y, colour);
    case Kind::butterfly:
      return paint_butterfly(look, x, y, colour);
    case Kind::lifebuoy:
      return paint_lifebuoy(look, x, y, colour);
    case Kind::fish:
      return paint_fish(look, x, y, colour);
  }
  return false;
}

}  // namespace whence::demo
