#include "tests/simt/sources.h"

#include <cctype>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <stdexcept>
#include <string_view>

namespace whence::simt_test {
namespace {

namespace fs = std::filesystem;

const fs::path kernels = WHENCE_KERNEL_SOURCES;

// Calls f(file, line number, code) for the lines of a file, without their comments.
using Reader = std::function<void(const std::string&, int, const std::string&)>;
void read(const fs::path& path, const Reader& f) {
  std::ifstream in(path);
  if (!in) throw std::runtime_error("cannot read " + path.string());
  std::string line;
  for (int i = 1; std::getline(in, line); ++i)
    f(path.filename().string(), i, line.substr(0, line.find("//")));
}

// The double-precision build has no tensor cores and calls no libraries.
bool in_this_build([[maybe_unused]] const fs::path& path) {
#ifdef WHENCE_F64
  const std::string name = path.filename().string();
  if (name.starts_with("tensor_") || name.starts_with("library_")) return false;
#endif
  return path.extension() == ".cu" || path.extension() == ".cuh";
}

void read_cuda(const Reader& f) {
  for (const auto& entry : fs::directory_iterator(kernels / "cuda"))
    if (in_this_build(entry.path())) read(entry.path(), f);
}

bool skip(std::string_view& text, std::string_view what) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front())))
    text.remove_prefix(1);
  if (!text.starts_with(what)) return false;
  text.remove_prefix(what.size());
  return true;
}

// What "__global__" is followed by: void [__launch_bounds__(...)] name(
std::string function_name(std::string_view text) {
  skip(text, "void");
  if (skip(text, "__launch_bounds__")) {
    int depth = 0;
    do {
      depth += text.front() == '(' ? 1 : text.front() == ')' ? -1 : 0;
      text.remove_prefix(1);
    } while (depth > 0 && !text.empty());
  }
  skip(text, "");
  return std::string(text.substr(0, text.find('(')));
}

}  // namespace

std::string text(const Place& at) { return at.file + ":" + std::to_string(at.line); }

std::set<std::string> declared_kernels() {
  std::set<std::string> names;
  const std::string start = "WHENCE_KERNEL(";
  for (const auto& entry : fs::directory_iterator(kernels))
    if (entry.path().extension() == ".h")
      read(entry.path(), [&](const std::string&, int, const std::string& code) {
        if (code.starts_with(start))
          names.insert(code.substr(start.size(), code.find(',') - start.size()));
      });
  return names;
}

std::set<std::string> cuda_kernels() {
  std::map<std::string, std::string> files;
  read_cuda(
      [&](const std::string& file, int, const std::string& code) { files[file] += code + "\n"; });
  std::set<std::string> names;
  const std::string mark = "__global__";
  for (const auto& [file, code] : files)
    for (size_t at = 0; (at = code.find(mark, at)) != code.npos; at += mark.size())
      names.insert(function_name(std::string_view(code).substr(at + mark.size())));
  return names;
}

std::set<Place> lines_with(std::initializer_list<const char*> calls) {
  std::set<Place> places;
  read_cuda([&](const std::string& file, int line, const std::string& code) {
    for (const char* call : calls)
      if (code.find(call) != code.npos) places.insert({file, line});
  });
  return places;
}

}  // namespace whence::simt_test
