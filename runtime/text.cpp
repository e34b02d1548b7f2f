#include "runtime/text.h"

#include <fmt/core.h>

#include <algorithm>
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

}  // namespace whence
