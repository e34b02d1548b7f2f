#include "explain/draw/legend.h"

#include <fmt/core.h>

#include <algorithm>
#include <string_view>

#include "whence/picture.h"

namespace whence {
namespace {

// Five columns by seven rows a letter; a row is five bits, the left pixel highest.
struct Glyph {
  char letter;
  std::array<uint8_t, 7> rows;
};
constexpr int glyph_width = 5, glyph_height = 7, advance = glyph_width + 1;
constexpr Glyph font[] = {
    {'0', {0b01110, 0b10001, 0b10011, 0b10101, 0b11001, 0b10001, 0b01110}},
    {'1', {0b00100, 0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110}},
    {'2', {0b01110, 0b10001, 0b00001, 0b00010, 0b00100, 0b01000, 0b11111}},
    {'3', {0b11111, 0b00010, 0b00100, 0b00010, 0b00001, 0b10001, 0b01110}},
    {'4', {0b00010, 0b00110, 0b01010, 0b10010, 0b11111, 0b00010, 0b00010}},
    {'5', {0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110}},
    {'6', {0b00110, 0b01000, 0b10000, 0b11110, 0b10001, 0b10001, 0b01110}},
    {'7', {0b11111, 0b00001, 0b00010, 0b00100, 0b01000, 0b01000, 0b01000}},
    {'8', {0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110}},
    {'9', {0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00010, 0b01100}},
    {'.', {0b00000, 0b00000, 0b00000, 0b00000, 0b00000, 0b00100, 0b00100}},
    {'-', {0b00000, 0b00000, 0b00000, 0b01110, 0b00000, 0b00000, 0b00000}},
    {'+', {0b00000, 0b00100, 0b00100, 0b11111, 0b00100, 0b00100, 0b00000}},
    {'a', {0b00000, 0b00000, 0b01110, 0b00001, 0b01111, 0b10001, 0b01111}},
    {'e', {0b00000, 0b00000, 0b01110, 0b10001, 0b11111, 0b10000, 0b01110}},
    {'f', {0b00110, 0b01000, 0b11100, 0b01000, 0b01000, 0b01000, 0b01000}},
    {'g', {0b00000, 0b00000, 0b01111, 0b10001, 0b01111, 0b00001, 0b01110}},
    {'h', {0b10000, 0b10000, 0b10110, 0b11001, 0b10001, 0b10001, 0b10001}},
    {'i', {0b00100, 0b00000, 0b01100, 0b00100, 0b00100, 0b00100, 0b01110}},
    {'l', {0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110}},
    {'o', {0b00000, 0b00000, 0b01110, 0b10001, 0b10001, 0b10001, 0b01110}},
    {'t', {0b01000, 0b01000, 0b11100, 0b01000, 0b01000, 0b01001, 0b00110}},
    {'w', {0b00000, 0b00000, 0b10001, 0b10001, 0b10101, 0b10101, 0b01010}},
};
constexpr std::array<uint8_t, 3> ink{32, 32, 36}, paper{255, 255, 255}, frame{150, 150, 156};

void fill(Image& image, int left, int top, int right, int bottom,
          const std::array<uint8_t, 3>& colour) {
  for (int y = std::max(top, 0); y < std::min(bottom, image.height); ++y)
    for (int x = std::max(left, 0); x < std::min(right, image.width); ++x)
      std::copy(colour.begin(), colour.end(),
                &image.rgb[(size_t(y) * size_t(image.width) + size_t(x)) * 3]);
}

int text_width(std::string_view text, int scale) {
  return text.empty() ? 0 : (int(text.size()) * advance - 1) * scale;
}

void draw_text(Image& image, std::string_view text, int left, int top, int scale) {
  for (const char letter : text) {
    const auto* glyph = std::find_if(std::begin(font), std::end(font),
                                     [letter](const Glyph& g) { return g.letter == letter; });
    if (glyph != std::end(font))
      for (int y = 0; y < glyph_height; ++y)
        for (int x = 0; x < glyph_width; ++x)
          if (glyph->rows[size_t(y)] >> (glyph_width - 1 - x) & 1)
            fill(image, left + x * scale, top + y * scale, left + (x + 1) * scale,
                 top + (y + 1) * scale, ink);
    left += advance * scale;
  }
}

// The longest pair of labels that leaves room for the bar.
std::array<std::string, 2> labels(double low, double high, int room) {
  const std::string a = fmt::format("{:.3g}", low), b = fmt::format("{:.3g}", high);
  const std::array<std::array<std::string, 2>, 3> choices{
      {{"low " + a, b + " high"}, {a, b}, {"low", "high"}}};
  if (!(high > low)) {
    if (text_width("flat " + a, 1) <= room) return {"flat " + a, ""};
    return {};
  }
  for (const auto& pair : choices)
    if (text_width(pair[0], 1) + text_width(pair[1], 1) <= room) return pair;
  return {};
}

}  // namespace

void append_legend(Image& image, double low, double high) {
  const int width = image.width;
  const int scale = std::clamp(width / 320, 1, 8);
  const int margin = std::min(5 * scale, width / 8);
  const auto text = labels(low, high, (width * 3 / 5 - 2 * margin) / scale);
  const int bar_height = (text[0].empty() ? 4 : 9) * scale, top = image.height + margin;
  image.height += bar_height + 2 * margin;
  image.rgb.resize(size_t(width) * size_t(image.height) * 3);
  fill(image, 0, top - margin, width, image.height, paper);

  const int gap = 4 * scale, text_top = top + (bar_height - glyph_height * scale) / 2;
  int left = margin, right = width - margin;
  if (!text[0].empty()) {
    draw_text(image, text[0], left, text_top, scale);
    left += text_width(text[0], scale) + gap;
  }
  if (!text[1].empty()) {
    right -= text_width(text[1], scale);
    draw_text(image, text[1], right, text_top, scale);
    right -= gap;
  }
  fill(image, left, top, right, top + bar_height, frame);
  for (int x = left + 1; x < right - 1; ++x) {
    const int steps = std::max(1, right - left - 3);
    // A map without differences has no colours to explain.
    const auto colour = high > low ? jet(uint8_t((x - left - 1) * 255 / steps)) : paper;
    fill(image, x, top + 1, x + 1, top + bar_height - 1, colour);
  }
}

}  // namespace whence
