// Names: globs and nearest matches.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace whence {

bool glob_match(std::string_view pattern, std::string_view text);  // '*' any run, '?' one byte
// Up to `most` candidates by edit distance, nearest first, for "did you mean".
std::vector<std::string> nearest(std::string_view name, const std::vector<std::string>& candidates,
                                 size_t most = 3);
// "'a', 'b' and 3 more": at most `most` entries, quoted, made printable.
std::string listing(const std::vector<std::string>& entries, size_t most = 10);

}  // namespace whence
