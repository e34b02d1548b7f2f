#include "cli/batch.h"

namespace whence::cli {

std::vector<Entry> read_group(InputReader& reader, const std::vector<Item>& items,
                              const std::vector<size_t>& which, size_t& next) {
  constexpr size_t most_bytes = size_t(256) << 20;
  std::vector<Entry> group;
  size_t bytes = 0;
  while (next < which.size() && group.size() < group_size && bytes < most_bytes) {
    Entry entry;
    entry.item = which[next++];
    try {
      entry.input = reader.read(items[entry.item]);
      bytes += entry.input.picture.rgb.size();
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::memory || error.kind() == ErrorKind::internal) throw;
      entry.error = error.what();
    }
    group.push_back(std::move(entry));
  }
  return group;
}

std::string item_message(const Item& item, const Error& error) {
  std::string text = error.what();
  if (text.starts_with("item ")) {
    const size_t end = text.find_first_not_of("0123456789", 5);
    if (end != text.npos && end > 5 && text.compare(end, 2, ": ") == 0) text.erase(0, end + 2);
  }
  return printable(item.input) + ": " + text;
}

bool is_about_item(const Error& error) { return error.kind() == ErrorKind::item; }

std::vector<const Entry*> readable(const std::vector<Entry>& group) {
  std::vector<const Entry*> some;
  for (const Entry& entry : group)
    if (entry.error.empty()) some.push_back(&entry);
  return some;
}

}  // namespace whence::cli
