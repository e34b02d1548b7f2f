// Runs a fuzz target on every file of the folders (or files) given, in order of their names. A
// crash, a sanitizer report or an escaping exception is the failure.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

namespace fs = std::filesystem;

std::vector<fs::path> files_of(const fs::path& place) {
  if (!fs::is_directory(place)) return {place};
  std::vector<fs::path> found;
  for (const auto& entry : fs::recursive_directory_iterator(place))
    if (entry.is_regular_file()) found.push_back(entry.path());
  std::sort(found.begin(), found.end());
  return found;
}

// A copy of exactly the file's size, so that the address sanitizer sees a read past its end.
std::vector<uint8_t> bytes_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in)
    throw fs::filesystem_error("cannot be opened", path, std::make_error_code(std::errc::io_error));
  std::vector<char> text{std::istreambuf_iterator<char>(in), {}};
  return {text.begin(), text.end()};
}

}  // namespace

int main(int count, char** arguments) {
  size_t files = 0;
  for (int i = 1; i < count; ++i) {
    std::error_code absent;
    if (!fs::exists(arguments[i], absent)) {
      std::fprintf(stderr, "%s does not exist\n", arguments[i]);
      return 2;
    }
    for (const fs::path& path : files_of(arguments[i])) {
      try {
        const std::vector<uint8_t> bytes = bytes_of(path);
        LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
      } catch (const std::exception& e) {
        std::fprintf(stderr, "%s: %s\n", path.c_str(), e.what());
        return 1;
      }
      ++files;
    }
  }
  std::printf("%zu files\n", files);
  return files > 0 ? 0 : 2;  // an empty corpus proves nothing
}
