#include "cli/models.h"

#include <algorithm>
#include <system_error>
#include <vector>

#include "cli/failure.h"
#include "io/files.h"
#include "runtime/check.h"

namespace whence::cli {
namespace {

namespace fs = std::filesystem;

constexpr const char* bundled[] = {"demo-vit", "demo-resnet"};
// Of the whole tool, and not in this version of it.
constexpr const char* absent[] = {"demo-bert", "demo-clip"};

// Where bundled models may be: beside an installed or moved program, where they were installed, in
// the source tree.
std::vector<fs::path> data_folders() {
  std::vector<fs::path> folders;
  std::error_code error;
  if (const fs::path program = fs::read_symlink("/proc/self/exe", error); !error)
    folders.push_back(program.parent_path().parent_path() / "share" / "whence");
#ifdef WHENCE_SOURCE_DATA
  folders.emplace_back(WHENCE_SOURCE_DATA);
#endif
#ifdef WHENCE_INSTALLED_DATA
  folders.emplace_back(WHENCE_INSTALLED_DATA);
#endif
  return folders;
}

}  // namespace

fs::path find_model(const std::string& name) {
  std::error_code ignored;
  for (const char* known : bundled) {
    if (name != known) continue;
    std::string searched;
    for (const fs::path& folder : data_folders()) {
      if (fs::is_directory(folder / name, ignored)) return folder / name;
      searched += (searched.empty() ? "" : ", ") + path_text(folder);
    }
    fail(ErrorCode::not_found, "{}: the bundled model is not installed; looked in {}", name,
         searched);
  }
  if (fs::exists(name, ignored)) return name;
  for (const char* other : absent)
    if (name == other)
      fail(ErrorCode::not_found,
           "{}: this version does not bundle it; bundled: demo-vit, demo-resnet", name);
  fail(ErrorCode::not_found,
       "{}: no such file or folder, nor a bundled model (bundled: demo-vit, "
       "demo-resnet)",
       path_text(name));
}

std::shared_ptr<const Model> open_model(const Options& options) {
  return during(Phase::model, [&] {
    const fs::path path = find_model(options.model);
    try {
      return std::make_shared<const Model>(load_model(path, options.load));
    } catch (const Error& error) {
      // Advice to add an option is about the model, unless that option was given.
      if (error.kind() != ErrorKind::usage || options.load.arch.empty()) throw;
      throw Failure(error, Phase::other);
    }
  });
}

std::vector<std::shared_ptr<const Model>> open_models(const std::string& list,
                                                      const Options& options) {
  std::vector<std::shared_ptr<const Model>> models;
  Options one = options;
  one.load.arch.clear();
  for (size_t at = 0; at < list.size();) {
    const size_t end = std::min(list.find(',', at), list.size());
    one.model = list.substr(at, end - at);
    models.push_back(open_model(one));
    at = end + 1;
  }
  return models;
}

}  // namespace whence::cli
