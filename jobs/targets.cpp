#include "jobs/targets.h"

#include <algorithm>
#include <charconv>
#include <functional>
#include <optional>

#include "runtime/check.h"
#include "runtime/text.h"

namespace whence::jobs {
namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = char(c | 0x20);
  return out;
}

bool is_digits(std::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// What a text could mean as one class.
struct Reading {
  std::vector<int64_t> classes;  // exactly one: it is this
  bool out_of_range = false;     // a number that no class has
};

template <class Fits>
std::vector<int64_t> classes_that(Fits&& fits, const std::vector<std::string>& labels) {
  std::vector<int64_t> classes;
  for (size_t i = 0; i < labels.size(); ++i)
    if (fits(labels[i])) classes.push_back(int64_t(i));
  return classes;
}

// A number is an index, and a name where a class is called so; where these are two classes it is
// neither.
Reading read_number(std::string_view text, const std::vector<std::string>& labels) {
  Reading reading{classes_that([&](const std::string& label) { return label == text; }, labels)};
  int64_t index = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), index);
  if (error != std::errc() || index >= int64_t(labels.size()))
    reading.out_of_range = reading.classes.empty();
  else if (std::ranges::find(reading.classes, index) == reading.classes.end())
    reading.classes.insert(reading.classes.begin(), index);
  return reading;
}

// Is `part` one of the names that commas separate in `label`?
bool is_a_name(std::string_view label, std::string_view part) {
  for (size_t begin = 0; begin <= label.size();) {
    const size_t end = std::min(label.find(',', begin), label.size());
    const size_t from = label.find_first_not_of(' ', begin);
    if (from < end && label.substr(from, end - from) == part) return true;
    begin = end + 1;
  }
  return false;
}

// Does `part` stand in `label` with no word cut in two at its ends?
bool has_words(std::string_view label, std::string_view part) {
  const auto in_word = [&](size_t at) {
    const auto c = static_cast<unsigned char>(label[at]);
    return c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z');
  };
  const auto cuts = [&](size_t at) {
    return at > 0 && at < label.size() && in_word(at - 1) && in_word(at);
  };
  for (size_t at = label.find(part); at != label.npos; at = label.find(part, at + 1))
    if (!cuts(at) && !cuts(at + part.size())) return true;
  return false;
}

// Whole names come before names in other letters, these before single names of several, and these
// before words.
Reading read_class(std::string_view text, const std::vector<std::string>& labels) {
  if (is_digits(text)) return read_number(text, labels);
  if (text.empty()) return {};
  const std::string part = lower(text);
  using Fits = std::function<bool(const std::string&)>;
  for (const Fits& fits :
       {Fits([&](const std::string& label) { return label == text; }),
        Fits([&](const std::string& label) { return lower(label) == part; }),
        Fits([&](const std::string& label) { return is_a_name(lower(label), part); }),
        Fits([&](const std::string& label) { return has_words(lower(label), part); })})
    if (auto classes = classes_that(fits, labels); !classes.empty()) return {std::move(classes)};
  return {};
}

std::string class_list(const std::vector<int64_t>& classes,
                       const std::vector<std::string>& labels) {
  std::vector<std::string> texts;
  for (const int64_t c : classes) texts.push_back(fmt::format("{} {}", c, labels[size_t(c)]));
  return listing(texts, 5);
}

// Every way to cut the text into two classes.
std::vector<Target> contrasts(std::string_view text, const std::vector<std::string>& labels) {
  std::vector<Target> found;
  for (size_t at = text.find('-'); at != text.npos; at = text.find('-', at + 1)) {
    const Reading of = read_class(text.substr(0, at), labels);
    const Reading against = read_class(text.substr(at + 1), labels);
    if (of.classes.size() == 1 && against.classes.size() == 1)
      found.push_back({of.classes[0], against.classes[0]});
  }
  return found;
}

[[noreturn]] void fail_unknown(const std::string& text, const Reading& reading,
                               const std::vector<std::string>& labels) {
  const int64_t last = int64_t(labels.size()) - 1;
  if (reading.out_of_range)
    fail_usage("--target {}: out of range, the model has classes 0 to {}", printable(text), last);
  if (reading.classes.size() > 1)
    fail_usage("--target {}: this could be {}", printable(text),
               class_list(reading.classes, labels));
  fail_usage(
      "--target {}: no such class; give an index from 0 to {}, a class name, A-B, or predicted; "
      "the nearest names are {}",
      printable(text), last, listing(nearest(text, labels)));
}

}  // namespace

NamedTarget read_target(const std::string& text, const std::vector<std::string>& labels) {
  constexpr size_t longest = 4096;  // every dash may be that of a contrast
  if (text.size() > longest)
    fail_usage("--target {}...: {} bytes, at most {} are expected", printable(text.substr(0, 40)),
               text.size(), longest);
  if (text == "predicted") return {Target{}, text, text};
  const Reading whole = read_class(text, labels);
  if (whole.classes.size() == 1)
    return {Target{whole.classes[0], -1}, text, std::to_string(whole.classes[0])};
  const std::vector<Target> pairs = contrasts(text, labels);
  if (pairs.size() > 1)
    fail_usage("--target {}: this could be the contrast '{}' or '{}'; use indices", printable(text),
               target_name(pairs[0].of, pairs[0].against, labels),
               target_name(pairs[1].of, pairs[1].against, labels));
  if (pairs.empty()) {
    // A number out of range inside a contrast deserves the message of a number.
    const size_t cut = text.find('-');
    if (whole.classes.empty() && cut != text.npos && cut > 0)
      for (const std::string& part : {text.substr(0, cut), text.substr(cut + 1)})
        if (is_digits(part) && read_class(part, labels).out_of_range)
          fail_unknown(text, read_class(part, labels), labels);
    fail_unknown(text, whole, labels);
  }
  if (pairs[0].of == pairs[0].against)
    fail_usage("--target {}: a contrast of class {} with itself", printable(text), pairs[0].of);
  return {pairs[0], text, fmt::format("{}-{}", pairs[0].of, pairs[0].against)};
}

std::vector<NamedTarget> read_targets(const std::vector<std::string>& texts,
                                      const std::vector<std::string>& labels) {
  std::vector<NamedTarget> targets;
  for (const std::string& text : texts) {
    NamedTarget next = read_target(text, labels);
    for (const NamedTarget& other : targets)
      if (other.key == next.key)
        fail_usage("--target {}: the same as --target {}", printable(text), printable(other.typed));
    targets.push_back(std::move(next));
  }
  if (targets.empty()) targets.push_back({Target{}, "predicted", "predicted"});
  return targets;
}

std::string target_name(int64_t of, int64_t against, const std::vector<std::string>& labels) {
  std::string name = labels[size_t(of)];
  if (against >= 0) name += " - " + labels[size_t(against)];
  return name;
}

}  // namespace whence::jobs
