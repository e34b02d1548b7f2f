#include "runtime/text.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <numeric>

#include "whence/error.h"

namespace whence {

bool glob_match(std::string_view pattern, std::string_view text) {
  size_t p = 0, t = 0, star = std::string_view::npos, mark = 0;
  while (t < text.size()) {
    if (p < pattern.size() && (pattern[p] == '?' || (pattern[p] != '*' && pattern[p] == text[t]))) {
      ++p, ++t;
    } else if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      mark = t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++mark;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

namespace {

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t(0));
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = above;
    }
  }
  return row.back();
}

}  // namespace

std::vector<std::string> nearest(std::string_view name, const std::vector<std::string>& candidates,
                                 size_t most) {
  name = name.substr(0, 200);  // the work is quadratic in the length
  std::vector<std::pair<size_t, std::string>> ranked;
  for (const std::string& c : candidates)
    ranked.emplace_back(edit_distance(name, std::string_view(c).substr(0, 200)), c);
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const auto& x, const auto& y) { return x.first < y.first; });
  std::vector<std::string> out;
  for (size_t i = 0; i < std::min(most, ranked.size()); ++i) out.push_back(ranked[i].second);
  return out;
}

std::string listing(const std::vector<std::string>& entries, size_t most) {
  std::string text;
  for (size_t i = 0; i < std::min(most, entries.size()); ++i)
    text += fmt::format("{}'{}'", i ? ", " : "", printable(entries[i]));
  if (entries.size() > most) text += fmt::format(" and {} more", entries.size() - most);
  return text;
}

namespace {

// Length of the well-formed UTF-8 sequence at the front of `t`, or 0.
size_t sequence_length(std::string_view t) {
  const auto byte = [&](size_t k) { return static_cast<unsigned char>(t[k]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t n = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || n > t.size()) return 0;
  for (size_t k = 1; k < n; ++k)
    if ((byte(k) & 0xC0) != 0x80) return 0;
  // Overlong forms, surrogates, and what lies beyond the last code point.
  const unsigned char second = byte(1);
  if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) ||
      (lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F))
    return 0;
  return n;
}

template <class T>
double shortest_of(T value) {
  const std::string text = fmt::format("{}", value);
  double out = 0;
  std::from_chars(text.data(), text.data() + text.size(), out);
  return out;
}

}  // namespace

std::string to_utf8(std::string_view bytes) {
  std::string out;
  while (!bytes.empty()) {
    const size_t n = sequence_length(bytes);
    const auto c = static_cast<unsigned char>(bytes[0]);
    if (n == 0 || c < 0x20 || c == 0x7F) {
      out += fmt::format("%{:02X}", c);
      bytes.remove_prefix(1);
    } else {
      out += bytes.substr(0, n);
      bytes.remove_prefix(n);
    }
  }
  return out;
}

double shortest(float value) { return shortest_of(value); }
double shortest(double value) { return shortest_of(value); }

std::string index_text(int64_t flat, const Shape& shape) {
  std::vector<int64_t> index(size_t(shape.rank()));
  for (int axis = shape.rank(); axis-- > 0; flat /= shape[axis])
    index[size_t(axis)] = flat % shape[axis];
  return to_string(Shape(index));
}

}  // namespace whence
