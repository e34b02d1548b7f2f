#include "jobs/names.h"

#include <map>

#include "io/files.h"
#include "runtime/check.h"
#include "runtime/text.h"

namespace whence::jobs {
namespace {

namespace fs = std::filesystem;

constexpr int most_detail = 2;

std::string base_name(const fs::path& path, int detail) {
  if (detail == 0) return to_utf8(path.stem().native());
  const std::string file = to_utf8(path.filename().native());
  if (detail == 1) return file;
  // "." and ".." say nothing.
  const fs::path folder = path.lexically_normal().parent_path().filename();
  return folder.empty() || folder == ".." ? file : to_utf8(folder.native()) + "-" + file;
}

std::string item_name(const NamedFile& file, int detail, int64_t item) {
  const std::string base = base_name(file.path, detail);
  return file.numbered ? fmt::format("{}-{:04}", base, item) : base;
}

}  // namespace

std::vector<std::vector<std::string>> output_names(const std::vector<NamedFile>& files) {
  std::vector<int> detail(files.size(), 0);
  for (;;) {
    std::map<std::string, std::vector<size_t>> users;
    std::vector<std::vector<std::string>> names(files.size());
    for (size_t f = 0; f < files.size(); ++f)
      for (int64_t i = 0; i < files[f].count; ++i) {
        names[f].push_back(item_name(files[f], detail[f], i));
        users[names[f].back()].push_back(f);
      }
    bool collides = false, can_grow = false;
    std::vector<bool> grows(files.size(), false);
    for (const auto& [name, who] : users) {
      if (who.size() == 1) continue;
      collides = true;
      for (const size_t f : who)
        if (detail[f] < most_detail) grows[f] = can_grow = true;
    }
    if (!collides) return names;
    if (!can_grow) {
      for (const auto& [name, who] : users)
        if (who.size() > 1)
          fail_usage("{} and {} would both be written as {}", path_text(files[who[0]].path),
                     path_text(files[who[1]].path), printable(name));
    }
    for (size_t f = 0; f < files.size(); ++f) detail[f] += grows[f];
  }
}

std::string file_name_part(std::string_view text) {
  std::string out;
  for (const char c : to_utf8(text)) {
    if (c == '/')
      out += "%2F";
    else
      out += c;
  }
  return out;
}

}  // namespace whence::jobs
