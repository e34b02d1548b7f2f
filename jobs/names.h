// Names of outputs: found for the whole list of inputs before any work starts.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace whence::jobs {

// A file that becomes one item, or `count` of them.
struct NamedFile {
  std::filesystem::path path;
  int64_t count = 1;
  bool numbered = false;  // NAME-0000, NAME-0001, ...
};

// ids[file][item]. The stem; where files share one, all of them keep the extension; where they
// still share one, the folder comes before it. Whatever still collides is a usage error. Bytes
// that no terminal or JSON can hold become %XX.
std::vector<std::vector<std::string>> output_names(const std::vector<NamedFile>& files);

// `text` as part of a file name: separators and unprintable bytes as %XX.
std::string file_name_part(std::string_view text);

}  // namespace whence::jobs
