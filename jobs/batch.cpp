#include "jobs/batch.h"

#include <algorithm>

namespace whence::jobs {
namespace {

Shape batch_shape(size_t count, const Shape& one) {
  std::vector<int64_t> sizes{int64_t(count)};
  sizes.insert(sizes.end(), one.begin(), one.end());
  return Shape(sizes);
}

}  // namespace

Group read_group(InputReader& reader, const std::vector<Item>& items,
                 const std::vector<size_t>& which, size_t& next) {
  constexpr size_t most_bytes = size_t(256) << 20;
  const size_t most = std::min(group_size, which.size() - next);
  const size_t count = size_t(reader.shape().count());
  Tensor rows(Type{batch_shape(most, reader.shape())});
  int64_t read = 0;
  Group group;
  size_t bytes = 0;
  while (group.entries.size() < most && bytes < most_bytes) {
    Entry entry;
    entry.item = which[next++];
    try {
      entry.picture =
          reader.read(items[entry.item], rows.reals().subspan(size_t(read) * count, count));
      entry.row = read++;
      bytes += entry.picture.image.rgb.size();
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::memory || error.kind() == ErrorKind::internal) throw;
      entry.error = error.what();
    }
    group.entries.push_back(std::move(entry));
  }
  group.batch = rows.slice(0, read);
  return group;
}

std::vector<size_t> readable(const Group& group) {
  std::vector<size_t> places;
  for (size_t i = 0; i < group.entries.size(); ++i)
    if (group.entries[i].row >= 0) places.push_back(i);
  return places;
}

std::string item_message(const Item& item, const Error& error) {
  std::string text = error.what();
  const std::string number = "item " + error.fields().item + ": ";
  if (!error.fields().item.empty() && text.starts_with(number)) text.erase(0, number.size());
  return printable(item.input) + ": " + text;
}

bool is_about_item(const Error& error) { return error.kind() == ErrorKind::item; }

std::vector<Tensor> rows_of(const Tensor& logits) {
  std::vector<Tensor> rows;
  for (int64_t r = 0; r < logits.shape()[0]; ++r)
    rows.push_back(logits.slice(r, r + 1).reshaped({logits.shape()[1]}));
  return rows;
}

}  // namespace whence::jobs
