#include <fmt/core.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "cli/demo.h"

namespace whence::cli {
namespace {

constexpr int tile = 128, gap = 8, margin = 16, scene_gap = 16, part_gap = 24;
constexpr int caption = 13;  // a line of text
constexpr int title = 2;     // enlarges the letters of a model's name
constexpr uint8_t paper = 251, ink = 40;

// Five columns by nine rows, two of them below the line; a row is five bits, the left pixel
// highest.
struct Glyph {
  char character;
  uint8_t rows[9];
};
constexpr int advance = 6;
constexpr Glyph font[] = {
    {'a', {0x00, 0x00, 0x0E, 0x01, 0x0F, 0x11, 0x0F}},
    {'b', {0x10, 0x10, 0x16, 0x19, 0x11, 0x11, 0x1E}},
    {'c', {0x00, 0x00, 0x0E, 0x10, 0x10, 0x11, 0x0E}},
    {'d', {0x01, 0x01, 0x0D, 0x13, 0x11, 0x11, 0x0F}},
    {'e', {0x00, 0x00, 0x0E, 0x11, 0x1F, 0x10, 0x0E}},
    {'f', {0x06, 0x09, 0x08, 0x1C, 0x08, 0x08, 0x08}},
    {'g', {0x00, 0x00, 0x0F, 0x11, 0x11, 0x11, 0x0F, 0x01, 0x0E}},
    {'h', {0x10, 0x10, 0x16, 0x19, 0x11, 0x11, 0x11}},
    {'i', {0x04, 0x00, 0x0C, 0x04, 0x04, 0x04, 0x0E}},
    {'j', {0x02, 0x00, 0x06, 0x02, 0x02, 0x02, 0x02, 0x12, 0x0C}},
    {'k', {0x10, 0x10, 0x12, 0x14, 0x18, 0x14, 0x12}},
    {'l', {0x0C, 0x04, 0x04, 0x04, 0x04, 0x04, 0x0E}},
    {'m', {0x00, 0x00, 0x1A, 0x15, 0x15, 0x11, 0x11}},
    {'n', {0x00, 0x00, 0x16, 0x19, 0x11, 0x11, 0x11}},
    {'o', {0x00, 0x00, 0x0E, 0x11, 0x11, 0x11, 0x0E}},
    {'p', {0x00, 0x00, 0x1E, 0x11, 0x11, 0x11, 0x1E, 0x10, 0x10}},
    {'q', {0x00, 0x00, 0x0F, 0x11, 0x11, 0x11, 0x0F, 0x01, 0x01}},
    {'r', {0x00, 0x00, 0x16, 0x19, 0x10, 0x10, 0x10}},
    {'s', {0x00, 0x00, 0x0E, 0x10, 0x0E, 0x01, 0x1E}},
    {'t', {0x08, 0x08, 0x1C, 0x08, 0x08, 0x09, 0x06}},
    {'u', {0x00, 0x00, 0x11, 0x11, 0x11, 0x13, 0x0D}},
    {'v', {0x00, 0x00, 0x11, 0x11, 0x11, 0x0A, 0x04}},
    {'w', {0x00, 0x00, 0x11, 0x11, 0x15, 0x15, 0x0A}},
    {'x', {0x00, 0x00, 0x11, 0x0A, 0x04, 0x0A, 0x11}},
    {'y', {0x00, 0x00, 0x11, 0x11, 0x11, 0x11, 0x0F, 0x01, 0x0E}},
    {'z', {0x00, 0x00, 0x1F, 0x02, 0x04, 0x08, 0x1F}},
    {'0', {0x0E, 0x11, 0x13, 0x15, 0x19, 0x11, 0x0E}},
    {'1', {0x04, 0x0C, 0x04, 0x04, 0x04, 0x04, 0x0E}},
    {'2', {0x0E, 0x11, 0x01, 0x02, 0x04, 0x08, 0x1F}},
    {'3', {0x1F, 0x02, 0x04, 0x02, 0x01, 0x11, 0x0E}},
    {'4', {0x02, 0x06, 0x0A, 0x12, 0x1F, 0x02, 0x02}},
    {'5', {0x1F, 0x10, 0x1E, 0x01, 0x01, 0x11, 0x0E}},
    {'6', {0x06, 0x08, 0x10, 0x1E, 0x11, 0x11, 0x0E}},
    {'7', {0x1F, 0x01, 0x02, 0x04, 0x08, 0x08, 0x08}},
    {'8', {0x0E, 0x11, 0x11, 0x0E, 0x11, 0x11, 0x0E}},
    {'9', {0x0E, 0x11, 0x11, 0x0F, 0x01, 0x02, 0x0C}},
    {'-', {0x00, 0x00, 0x00, 0x1F, 0x00, 0x00, 0x00}},
    {'.', {0x00, 0x00, 0x00, 0x00, 0x00, 0x0C, 0x0C}},
    {',', {0x00, 0x00, 0x00, 0x00, 0x00, 0x0C, 0x0C, 0x04, 0x08}},
    {'+', {0x00, 0x04, 0x04, 0x1F, 0x04, 0x04, 0x00}},
};

// In one line; characters without a glyph are blank.
void write(Image& sheet, std::string_view text, int left, int top, int scale = 1) {
  for (const char c : text) {
    const char lower = c >= 'A' && c <= 'Z' ? char(c | 0x20) : c;
    const auto glyph = std::find_if(std::begin(font), std::end(font),
                                    [&](const Glyph& g) { return g.character == lower; });
    if (glyph != std::end(font))
      for (int y = 0; y < 9 * scale; ++y)
        for (int x = 0; x < 5 * scale && left + x < sheet.width; ++x)
          if (glyph->rows[y / scale] >> (4 - x / scale) & 1)
            std::fill_n(&sheet.rgb[(size_t(top + y) * size_t(sheet.width) + size_t(left + x)) * 3],
                        3, ink);
    left += advance * scale;
  }
}

// Lines that fit into `width` pixels, broken after hyphens and spaces, inside a word only where it
// is longer than a line.
std::vector<std::string> lines_of(std::string_view text, int width) {
  const size_t most = size_t(std::max(1, width / advance));
  std::vector<std::string> lines;
  while (text.size() > most) {
    const size_t found = text.substr(0, most).find_last_of("- ");
    const size_t length = found == text.npos ? most : found + 1;
    lines.emplace_back(text.substr(0, length));
    text.remove_prefix(length);
  }
  lines.emplace_back(text);
  return lines;
}

void paste(Image& sheet, const Image& picture, int left, int top) {
  const Image small = resize(picture, tile, tile, Resample::lanczos);
  for (int y = 0; y < tile; ++y)
    std::copy_n(&small.rgb[size_t(y) * tile * 3], size_t(tile) * 3,
                &sheet.rgb[(size_t(top + y) * size_t(sheet.width) + size_t(left)) * 3]);
}

int left_of(size_t column) { return margin + int(column) * (tile + gap); }

// The part of one model: its name, what it is, the methods' names over their columns, the rows.
class Part {
 public:
  Part(const DemoReport& report, const DemoModel& model, int width)
      : report_(report), model_(model), about_(lines_of(model.architecture, width - 2 * margin)) {
    for (const MethodInfo& method : model.methods) {
      headings_.push_back(lines_of(method.id, tile));
      heading_lines_ = std::max(heading_lines_, headings_.back().size());
    }
  }

  int height() const {
    size_t rows = 0;
    for (const DemoScene& scene : report_.scenes) rows += scene.things.size();
    return top_of_rows() + int(rows) * (caption + tile + gap) +
           int(report_.scenes.size()) * scene_gap;
  }

  void draw(Image& sheet, int top) const {
    write(sheet, model_.name, margin, top, title);
    for (size_t i = 0; i < about_.size(); ++i)
      write(sheet, about_[i], margin, top + (title + int(i)) * caption);
    const int bottom = top + top_of_rows();
    for (size_t m = 0; m < headings_.size(); ++m)
      for (size_t i = 0; i < headings_[m].size(); ++i)  // the last line next to the pictures
        write(sheet, headings_[m][i], left_of(m + 1),
              bottom - int(headings_[m].size() - i) * caption + caption);
    top = bottom;
    for (size_t s = 0; s < report_.scenes.size(); ++s) {
      for (size_t t = 0; t < report_.scenes[s].things.size(); ++t) {
        row(sheet, s, t, top);
        top += caption + tile + gap;
      }
      top += scene_gap;
    }
  }

 private:
  int top_of_rows() const { return (title + int(about_.size() + heading_lines_)) * caption; }

  void row(Image& sheet, size_t scene, size_t thing, int top) const {
    const DemoClass& one = model_.answers[scene].classes[thing];
    write(sheet, fmt::format("{} {:.2f}", report_.scenes[scene].things[thing], one.probability),
          margin, top);
    paste(sheet, report_.scenes[scene].picture, margin, top + caption);
    for (size_t m = 0; m < one.overlays.size(); ++m)
      paste(sheet, one.overlays[m], left_of(m + 1), top + caption);
  }

  const DemoReport& report_;
  const DemoModel& model_;
  std::vector<std::string> about_;
  std::vector<std::vector<std::string>> headings_;  // lines of each method's name
  size_t heading_lines_ = 0;
};

}  // namespace

Image demo_gallery(const DemoReport& report) {
  size_t columns = 1;
  for (const DemoModel& model : report.models)
    columns = std::max(columns, model.methods.size() + 1);
  Image sheet;
  sheet.width = left_of(columns) - gap + margin;
  sheet.height = 2 * margin - part_gap;
  std::vector<Part> parts;
  for (const DemoModel& model : report.models) {
    parts.emplace_back(report, model, sheet.width);
    sheet.height += parts.back().height() + part_gap;
  }
  sheet.rgb.assign(size_t(sheet.width) * size_t(sheet.height) * 3, paper);
  int top = margin;
  for (const Part& part : parts) {
    part.draw(sheet, top);
    top += part.height() + part_gap;
  }
  return sheet;
}

}  // namespace whence::cli
