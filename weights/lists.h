// Lists of names in messages.
#pragma once

#include <fmt/format.h>

#include <span>
#include <string>
#include <string_view>

namespace whence {

// "'a', 'b', 'c' and 14 more": at most ten entries. The names are already printable.
inline std::string listed(std::span<const std::string> names) {
  std::string text;
  for (size_t i = 0; i < names.size() && i < 10; ++i)
    text += fmt::format("{}'{}'", i ? ", " : "", names[i]);
  if (names.size() > 10) text += fmt::format(" and {} more", names.size() - 10);
  return text;
}

// "1 tensor is", "3 tensors are"
inline std::string counted(size_t n, std::string_view one, std::string_view more) {
  return fmt::format("{} {}", n, n == 1 ? one : more);
}

}  // namespace whence
