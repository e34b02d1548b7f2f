// Names and numbers as text: globs, nearest matches, and what JSON can hold.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "whence/tensor.h"

namespace whence {

bool glob_match(std::string_view pattern, std::string_view text);  // '*' any run, '?' one byte
// Up to `most` candidates by edit distance, nearest first, for "did you mean".
std::vector<std::string> nearest(std::string_view name, const std::vector<std::string>& candidates,
                                 size_t most = 3);
// "'a', 'b' and 3 more": at most `most` entries, quoted, made printable.
std::string listing(const std::vector<std::string>& entries, size_t most = 10);

// What is not well-formed UTF-8, and control bytes, as %XX; the rest as it is.
std::string to_utf8(std::string_view bytes);
// The double with the shortest decimal form that reads back as `value`: 0.1f is 0.1, not
// 0.10000000149011612.
double shortest(float value);
double shortest(double value);
// "[2, 0, 5]": where an element stands, given its place in row-major order.
std::string index_text(int64_t flat, const Shape& shape);

}  // namespace whence
